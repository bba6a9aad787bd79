"""What `known` needs of a zoo: thresholds, and few dimensions in which unlisted classes are as near as exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import lite0
from benchmarks.measurements import bodies, forms, known
from mvp_edge.names.known import FewRows, class_cosines, known_score
from mvp_edge.zoo.bodies import Body
from tests.bodies import COLOURS, make_body_zoo

BODY = Body("b", 8, "base", 1, 1)


def scored(cosines: list[float]) -> known.Shown:
    """Pictures of class 0, and how near they are to it; all others are at -0.5."""
    exact = np.full((len(cosines), 400), -1.0)
    exact[:, 0] = cosines
    return exact, np.full_like(exact, -0.5), np.eye(400)[[0] * len(cosines)]


def test_each_set_of_pictures_counts_alike_in_a_threshold() -> None:
    few, many = scored([v / 100 for v in range(10)]), scored([0.1 + v / 100 for v in range(90)])
    (alone,), (both,) = ([t for n, t in known.thresholds(sets, []) if n == 1] for sets in ([few], [few, many]))

    def score(cosine: float) -> float:
        return 40 * cosine - (np.log(399) - 20) / 2

    assert alone == pytest.approx(score(0), abs=0.01)
    assert both == pytest.approx(score(0.01), abs=0.01)  # a twentieth of all is a tenth of the first set


def test_pictures_of_each_directory_apart() -> None:
    files = [Path("a/n1/x.png"), Path("b/n1/x.png"), Path("a/n2/x.png")]
    first, second = known.parts((np.arange(3), np.arange(3), np.arange(3)), files, [Path("a"), Path("b")])
    assert first[0].tolist() == [0, 2] and second[2].tolist() == [1]


def test_few_dimensions_learn_the_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    mixed = draw.normal(0, 1, (12, 30))  # more directions than there are dimensions
    features, rows = draw.normal(0, 1, (2000, 12)) @ mixed + 3, draw.normal(0, 1, (60, 30))
    monkeypatch.setattr(known, "STEPS", 300)
    monkeypatch.setattr(known, "RATE", 5e-3)

    def error(few: FewRows) -> float:
        """Mean difference of the score of two listed classes; a third is their partner."""
        exact, shown = class_cosines(features, rows, few.mean), few.cosines(features)
        shown[:, :2] = exact[:, :2]
        return float(np.abs(known_score(shown, [0, 1], [2]) - known_score(exact, [0, 1], [2])).mean())

    found = known.learned(features, rows, [(1, 2)], 4)
    assert found.mean == pytest.approx(features.mean(0), abs=1e-4)
    monkeypatch.setattr(known, "RATE", 0.0)
    assert error(found) < 0.6 * error(known.learned(features, rows, [(1, 2)], 4))


def test_unlisted_classes_cost_a_twentieth_of_a_file_at_most() -> None:
    for size in (1_300_000, 2_350_000, 3_640_000):
        count = known.dimensions(size, 1000, 1280)
        bytes_at = [k * (1280 + 1000) + 4 * (k + 2 * 1000 + 2 * 1280) for k in (count, count + 1)]
        assert bytes_at[0] / (size + bytes_at[0]) <= 0.05 < bytes_at[1] / (size + bytes_at[1])
    assert known.dimensions(20_000, 10, 96) == 1


def test_pictures_that_thresholds_come_from_teach_nothing(tmp_path: Path) -> None:
    for i in range(45):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{i:02}.png")
    assert len(known.unlabelled([str(tmp_path)])) == 42
    chosen = [p.name for p in known.unlabelled([f"{tmp_path}@2"])]
    assert len(chosen) == 21 and not {"00.png", "20.png", "40.png"} & set(chosen)


def test_all_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite0, "WNIDS", tuple(COLOURS))
    monkeypatch.setattr(known, "LISTED", (1, 2))
    monkeypatch.setattr(known, "HEAD", "fc.weight")
    monkeypatch.setattr(known, "STEPS", 20)
    zoo = make_body_zoo(tmp_path / "zoo")
    for name, colour in COLOURS.items():
        sharp = [tmp_path / "sharp" / f"{name} {i}.png" for i in range(5)]
        for file in (tmp_path / "large" / name / "0.png", tmp_path / "small" / name / "0.png", *sharp):
            file.parent.mkdir(parents=True, exist_ok=True)
            side = 20 if "small" in file.parts else 40
            Image.new("RGB", (2 * side, side), tuple(round(255 * v) for v in colour)).save(file)
    opened = forms.opened(zoo)
    before = {b.id: b for b in bodies.every_body(zoo)}
    given = (("--pictures", "large"), ("--pictures", "small"), ("--sharp", "sharp"), ("--unlabelled", "sharp"))
    words = [str(zoo), *(f"{option}={tmp_path / name}" for option, name in given), "--small=8"]
    make, sets = known.thresholds, list[int]()
    monkeypatch.setattr(known, "thresholds", lambda given, near: sets.append(len(given)) or make(given, near))
    monkeypatch.setattr(known, "unlabelled", lambda texts, plain=known.unlabelled: plain(texts) * 2)
    seen = {b.id: opened.features(b) for b in [*opened.bodies, *opened.forms]}
    monkeypatch.setattr(known, "LEFT_OUT", 4)
    known.main(["--allow-dirty", *words])
    after = {b.id: b for b in bodies.every_body(zoo)}
    assert list(after) == list(before)
    assert not [name for name in after if after[name].thresholds == before[name].thresholds]
    # One set, labelled, up to its pixels; beyond, the sharp ones and each directory; for the base those as large as it.
    expected = {"tiny-32": 2, "tiny-16": 3, "tiny-8": 1, "tiny-16-small": 3}
    assert dict(zip([n for n in after if n != "tiny-16-int8"], sets, strict=True)) == expected
    assert after["tiny-16-int8"].thresholds == after["tiny-16"].thresholds
    again = forms.opened(zoo)
    assert again.verify() == []
    for body in [*again.bodies, *again.forms]:
        now, then = again.features(body), seen[body.id]
        assert now.few is not None and then.few is not None and now.few.mean.shape == then.few.mean.shape
        assert np.abs(now.few.mean - then.few.mean).max() > 0
        every = np.arange(len(now.labels))
        # Logits reach 40; now they are packed to eight bits.
        np.testing.assert_allclose(now.logits(every), then.logits(every), atol=1.0)
        np.testing.assert_array_equal(now.labels, then.labels)


def test_a_form_has_few_dimensions_of_its_own_or_those_of_its_body(tmp_path: Path) -> None:
    path = make_body_zoo(tmp_path / "zoo")
    zoo = forms.opened(path)
    body, (int8, small) = zoo.bodies[1], zoo.forms
    few = zoo.features(body).few
    assert few is not None
    known.keep(zoo, small, replace(few, bias=few.bias + 1))
    again = forms.opened(path)
    found = {b.id: f for b in [*again.bodies, *again.forms] if (f := again.features(b).few) is not None}
    np.testing.assert_array_equal(found[int8.id].bias, found[body.id].bias)
    np.testing.assert_allclose(found[small.id].bias, few.bias + 1, atol=1e-6)
    assert again.verify() == []
