"""`mvp-edge zoo` and `neighbours` on a zoo of ready-made bodies."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mvp_edge.zoo.bodies import open_bodies
from tests.bodies import COLOURS

from .conftest import Run

BODIES = ["tiny-32", "tiny-16", "tiny-8"]
FORMS = ["tiny-16-int8", "tiny-16-small"]


@pytest.fixture
def nouns(tmp_path: Path) -> Path:
    path = tmp_path / "classes.txt"
    path.write_text("espresso\nbicycle\ndog\n")
    return path


def test_list_counts_bodies(run: Run, body_zoo: Path, tiny_zoo: Path) -> None:
    zoos = run("zoo", "list", "--zoo", tiny_zoo, "--zoo", body_zoo, "--json").json["zoos"]
    assert [(z["members"], z["bodies"]) for z in zoos[-2:]] == [(3, 0), (0, 3)]


def test_show_has_a_line_for_each_body(run: Run, body_zoo: Path) -> None:
    zoo = open_bodies(str(body_zoo))
    assert zoo is not None
    shown = run("zoo", "show", body_zoo, "--json").json
    assert shown["members"] == [] and [b["id"] for b in shown["bodies"]] == [*BODIES, *FORMS]
    assert shown["bodies"][1] == {
        "id": "tiny-16", "pixels": 16, "macs": 256000, "params": 1016,
        "expected_top1": zoo.bodies[1].expected_top1(5),
    }  # fmt: skip
    text = run("zoo", "show", body_zoo).out
    assert all(name in text for name in (*BODIES, *FORMS)) and "256 k" in text
    one = run("zoo", "show", body_zoo, "tiny-16", "--json").json
    assert one["weights"] == "tiny-16" and len(one["sha256"]) == 3
    assert "features/tiny-16.safetensors.gz" in "".join(run("zoo", "show", body_zoo, "tiny-16").out.split())
    assert "no member 'tiny-64'" in run("zoo", "show", body_zoo, "tiny-64").error()


def test_classes_are_what_the_base_knows(run: Run, body_zoo: Path) -> None:
    assert run("zoo", "classes", body_zoo).out.splitlines() == list(COLOURS)


def test_numbers_of_imagenet_s_classes_are_listed_as_words(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from mvp_edge.names import wordnet

    known = ("base", tuple(wordnet._imagenet_wnids()))
    monkeypatch.setattr("mvp_edge.zoo.catalogue.read_known_classes", lambda _: known)
    names = run("zoo", "classes").out.splitlines()
    assert len(names) == 1000 and names[:2] == ["tench", "goldfish"] and "crane.n.05" in names


def test_verify_checks_every_file_of_a_body(run: Run, body_zoo: Path, tmp_path: Path) -> None:
    assert "3 bodies" in run("zoo", "verify", body_zoo).out
    copy = Path(shutil.copytree(body_zoo, tmp_path / "copy"))
    for file in ("features/tiny-8.safetensors.gz", "bodies/tiny-16.onnx.gz"):
        (copy / file).write_bytes(b"")
    done = run("zoo", "verify", copy, "--json")
    assert done.code == 1 and done.json["bodies"] == 3
    assert ["tiny-16" in done.json["problems"][0], "tiny-8" in done.json["problems"][1]] == [True, True]


def test_neighbours_shows_which_body_is_delivered(run: Run, body_zoo: Path, nouns: Path, images: Path) -> None:
    words = ["--task", nouns, "--zoo", body_zoo]
    found = run("neighbours", *words, "--json").json
    assert not any("no effect" in w for w in found["warnings"])
    idle = run("neighbours", *words, "--similarity", "wordnet", "--top", 2, "--json").json["warnings"]
    assert (
        "the networks of this zoo are ready-made and none vote, so --similarity, --top have no effect; leave them out"
        in idle[-1]
    )
    report = run("prune", *words, "--json").json
    assert found["delivered"] == report["body"]["id"]
    expected = {b["id"]: b["expected_top1"] for b in found["bodies"]}
    assert list(expected) == BODIES and expected[found["delivered"]] == report["estimate"]["top1"]
    assert found["estimate"] == {"source": report["estimate"]["source"], "n": report["estimate"]["n"]}
    shown = run("neighbours", *words)
    assert "delivered" in shown.out and "pictures of colours" in shown.out
    assert "leave --data out" in run("neighbours", *words, "--data", images).error()
    nouns.write_text("dog\nzebra\n")
    assert "'zebra' is unknown" in run("neighbours", *words).error()


def test_build_does_not_add_to_bodies_but_takes_their_base(run: Run, body_zoo: Path, images: Path) -> None:
    before = sorted(body_zoo.rglob("*"))
    assert f"--base {body_zoo}" in run("zoo", "build", body_zoo, "--data", images).error()
    assert sorted(body_zoo.rglob("*")) == before
    assert "--base" in run("zoo", "build", "new", "--data", images).error()
    assert not Path("new").exists()


def test_a_model_from_names_is_not_added(run: Run, body_zoo: Path, nouns: Path) -> None:
    assert run("prune", "--task", nouns, "--zoo", body_zoo, "--quiet").code == 0
    assert "without images" in run("zoo", "add", "out", "--zoo", body_zoo).error()
