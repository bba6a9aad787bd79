"""Ready-made bodies cut to a budget on photographs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mvp_edge.config import Budget, FitOverrides, PruneConfig
from mvp_edge.core.errors import BudgetError
from mvp_edge.core.progress import SilentProgress
from mvp_edge.data import normalise, open_source
from mvp_edge.data.images import resize
from mvp_edge.deploy.result import read_result
from mvp_edge.export.classifier import OnnxClassifier
from mvp_edge.models.bases import Base
from mvp_edge.models.slicing import load_sliced
from mvp_edge.names.base_classes import resolve_to_base
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.prune import cut as cut_module
from mvp_edge.prune import learn, network_size
from mvp_edge.prune.cut import cut
from mvp_edge.prune.heads import Network, graph_of, parts_of
from mvp_edge.prune.job import compress
from mvp_edge.timing.session import session_in_memory
from mvp_edge.training.interpolation import rest_of
from mvp_edge.zoo.bodies import BodyZoo, open_bodies


@pytest.fixture(scope="module")
def photographs(images: Path) -> torch.Tensor:
    return open_source(str(images)).load(["apple", "tiger"], "train", (48, 48)).images


@pytest.fixture(autouse=True)
def few_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are eight images of a class."""
    monkeypatch.setattr(network_size, "JUDGING", 4)


def settings(tmp_path: Path, bodies: BodyZoo, images: Path, limit: Budget, **more: Any) -> PruneConfig:
    task = tmp_path / "classes.txt"
    task.write_text("tiger\napple\n")
    config = PruneConfig(task, str(images), out=tmp_path / "out", zoo=str(bodies.path), budget=limit)
    usual: dict[str, Any] = {"precision": "fp32", "fit": FitOverrides(iterations=2, batch_size=4), "device": "cpu"}
    return replace(config, **(usual | more))


@pytest.mark.parametrize("share", [0.75, 0.85, 0.95])
def test_the_largest_part_that_meets_the_budget(bodies: BodyZoo, photographs: torch.Tensor, share: float) -> None:
    body = bodies.bodies[0]
    limit, tried = share * body.macs, list[Network]()

    def meets(network: Network) -> bool:
        tried.append(network)
        return network.body.macs <= limit

    part = cut(bodies, body, photographs, meets)
    assert part is not None and part.cut_on is not None and part.kept is not None
    assert part.body.macs == max(n.body.macs for n in tried if n.body.macs <= limit)
    assert part.body.macs > 0.95 * limit and part.body.params < body.params
    assert part.body.keep == part.kept.achieved < 1
    assert sum(v.size for v in part.weights.values()) < sum(v.size for v in bodies.weights(body).values())


@pytest.mark.parametrize("bundled", [False, True])
def test_the_graph_of_a_part_computes_what_the_part_does(
    bodies: BodyZoo, photographs: torch.Tensor, bundled: bool
) -> None:
    zoo = open_bodies(None) if bundled else bodies  # the bundled one has depthwise convolutions among its hidden units
    assert zoo is not None
    body = zoo.bodies[-1] if bundled else zoo.bodies[0]
    images = resize(photographs[:5], (body.pixels, body.pixels))
    part = cut(zoo, body, images, lambda network: network.body.macs <= 0.7 * body.macs)
    assert part is not None and part.kept is not None
    outer = zoo.kept(body)
    assert outer is None or part.kept.widths == outer.widths
    state = {k: torch.from_numpy(np.array(v)) for k, v in part.weights.items()}
    network = load_sliced(zoo.arch, state, len(zoo.classes.classes)).eval()
    session = session_in_memory(graph_of(zoo, part.body, state).SerializeToString())
    (found,) = session.run(None, {session.get_inputs()[0].name: images.float().numpy() / np.float32(255)})
    base = base_of(zoo)
    with torch.no_grad():
        wanted = network(normalise(images, base.mean, base.std))
    torch.testing.assert_close(torch.from_numpy(found), wanted, rtol=1e-3, atol=1e-3)


def test_as_much_is_cut_on_other_pictures(bodies: BodyZoo, photographs: torch.Tensor) -> None:
    body = bodies.bodies[0]
    part = cut(bodies, body, photographs, lambda network: network.body.macs <= 0.7 * body.macs)
    assert part is not None and part.cut_on is not None
    again, other = part.cut_on(photographs), part.cut_on(photographs[::3])
    assert all(np.array_equal(v, again.weights[k]) for k, v in part.weights.items()) and again.kept == part.kept
    assert replace(other.body, keep=0) == replace(part.body, keep=0)
    assert {k: v.shape for k, v in part.weights.items()} == {k: v.shape for k, v in other.weights.items()}
    assert any(not np.array_equal(v, other.weights[k]) for k, v in part.weights.items())


class Seen:
    """Keeps the pictures on which networks are cut."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.last = torch.zeros(0)
        self.pictures: list[tuple[torch.Tensor, torch.Tensor]] = []
        importance, reconstructed = cut_module.importance, cut_module.reconstructed

        def matters(prunable: Any, x: torch.Tensor) -> Any:
            self.last = x
            return importance(prunable, x)

        def solved(prunable: Any, plan: Any, x: torch.Tensor) -> Any:
            self.pictures.append((self.last, x))
            return reconstructed(prunable, plan, x)

        monkeypatch.setattr(cut_module, "importance", matters)
        monkeypatch.setattr(cut_module, "reconstructed", solved)

    def were(self, wanted: Sequence[torch.Tensor], base: Base) -> bool:
        """Return whether the last networks were cut on these uint8 images, one after the other."""
        images = [normalise(w, base.mean, base.std) for w in wanted]
        return all(
            torch.equal(of_units, w) and torch.equal(of_projections, w)
            for (of_units, of_projections), w in zip(self.pictures[-len(images) :], images, strict=True)
        )


def test_what_judges_was_not_cut_on(
    tmp_path: Path, bodies: BodyZoo, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_size, "CUTTING", 10)
    monkeypatch.setattr(network_size, "scored", lambda _, network, *__: float(network.cut_on is not None))
    seen, (large, small) = Seen(monkeypatch), bodies.bodies
    report = compress(settings(tmp_path, bodies, images, Budget(macs=(large.macs + small.macs) / 2)))
    assert report.keep.achieved < 1 and report.photographs is not None
    train = open_source(str(images)).load(("tiger", "apple"), "train", (large.pixels, large.pixels))
    judges = torch.cat(learn.enough(parts_of(train, 0)))
    assert report.photographs.held_out == len(judges) < len(train)
    assert seen.were([train.images[rest_of(judges, len(train))]], base_of(bodies))


def test_networks_are_compared_on_photographs_that_neither_was_cut_on(
    bodies: BodyZoo, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = bodies.bodies[0]
    some = open_source(str(images)).load(("tiger", "apple"), "train", (body.pixels, body.pixels))
    part = cut(bodies, body, some.images, lambda network: network.body.macs <= 0.7 * body.macs)
    assert part is not None
    task = Task((TaskClass("tiger"), TaskClass("apple")))
    resolution, parts = resolve_to_base(task, bodies.classes, pictured=True), parts_of(some, 0)
    seen = Seen(monkeypatch)
    stage = SilentProgress().stage("", 1)
    with stage as told:
        found = [
            network_size.scored(bodies, n, resolution, some, parts, told) for n in (part, Network.of(bodies, body))
        ]
    assert seen.were([some.images[rest_of(p, len(some))] for p in parts], base_of(bodies))
    assert all(50 <= score <= 100 for score in found)


def test_a_network_that_was_cut_in_vain_is_told(
    tmp_path: Path, bodies: BodyZoo, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_size, "CUTTING", 10)
    monkeypatch.setattr(network_size, "scored", lambda _, network, *__: 60.0 if network.cut_on else 70.0)
    large, small = bodies.bodies
    report = compress(settings(tmp_path, bodies, images, Budget(macs=(large.macs + small.macs) / 2)))
    told = f"{large.id}, cut to it, names 60.0 % of the images left out correctly, and {small.id} 70.0 %"
    assert any(told in w for w in report.warnings)


def test_a_larger_body_that_meets_the_budget_is_not_cut(
    tmp_path: Path, bodies: BodyZoo, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_size, "CUTTING", 10)
    monkeypatch.setattr(network_size, "choose", lambda *_: (bodies.bodies[1], None))
    report = compress(settings(tmp_path, bodies, images, Budget(macs=1e9)))
    assert report.body is not None and report.body.id == bodies.bodies[1].id and report.keep.achieved == 1


def base_of(bodies: BodyZoo) -> Base:
    return Base.from_json(dict(bodies.about))


def test_no_part_is_small_enough(bodies: BodyZoo, photographs: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cut(bodies, bodies.bodies[0], photographs, lambda network: False) is None
    monkeypatch.setattr("mvp_edge.prune.cut.hidden_groups", lambda table: ())
    assert cut(bodies, bodies.bodies[0], photographs, lambda network: True) is None


@pytest.mark.parametrize("name", ["macs", "params", "size_kib"])
def test_a_budget_is_filled(
    tmp_path: Path, bodies: BodyZoo, images: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(network_size, "CUTTING", 10)
    whole = compress(settings(tmp_path, bodies, images, Budget(macs=1e9)))
    assert whole.keep.achieved == 1 and "cut" not in whole.method
    cost = {"macs": whole.macs, "params": whole.params, "size_kib": whole.bytes.onnx / 1024}[name]
    least = {"macs": min(b.macs for b in bodies.bodies), "params": 0, "size_kib": 0}[name]
    limit = Budget(**{name: (cost + least) / 2 if least else 0.9 * cost})
    monkeypatch.setattr(network_size, "scored", lambda _, network, *__: float(network.cut_on is not None))
    report = compress(settings(tmp_path, bodies, images, limit, force=True))
    assert report.budget is not None and report.body is not None
    assert 0.9 * report.budget[name].limit < report.budget[name].achieved <= report.budget[name].limit
    assert report.keep.achieved < 1 and "cut to the budget" in report.method
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert plan["achieved_keep"] == pytest.approx(report.keep.achieved) and plan["groups"]
    weights = load_file(tmp_path / "out" / "weights.safetensors")
    for group in plan["groups"]:
        assert len(weights[f"{group['name']}.weight"]) == len(group["kept"])
    assert read_result(tmp_path / "out").labels == ("tiger", "apple")
    test = open_source(str(images)).load(("tiger", "apple"), "test", (report.body.pixels, report.body.pixels))
    logits = OnnxClassifier(tmp_path / "out" / "model.onnx").predict(test.images.numpy())
    right = 100 * float((logits.argmax(1) == test.labels.numpy()).mean())
    assert report.accuracy.top1 == pytest.approx(right, abs=0.01)
    assert "of its units" in (tmp_path / "out" / "report.html").read_text()


def test_the_better_of_two_networks_is_taken(
    tmp_path: Path, bodies: BodyZoo, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_size, "CUTTING", 10)
    large, small = bodies.bodies
    limit = Budget(macs=(large.macs + small.macs) / 2)
    for better, keep in ((0.0, 1.0), (1.0, None)):
        monkeypatch.setattr(network_size, "scored", lambda _, network, *__, own=better: own if network.cut_on else 0.5)
        report = compress(settings(tmp_path, bodies, images, limit, force=True))
        assert report.body is not None
        assert (report.body.id, report.keep.achieved == 1) == ((small.id, True) if keep else (large.id, False))


def test_a_body_that_fills_the_budget_is_not_compared(
    tmp_path: Path, bodies: BodyZoo, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_size, "CUTTING", 10)
    monkeypatch.setattr(network_size, "scored", lambda _, network, *__: float(network.cut_on is not None))
    enough = compress(settings(tmp_path, bodies, images, Budget(macs=1.05 * bodies.bodies[1].macs)))
    assert enough.body is not None and enough.body.id == bodies.bodies[1].id and enough.keep.achieved == 1
    for share, keeps_all in ((0.95, True), (0.6, False)):
        report = compress(settings(tmp_path, bodies, images, Budget(macs=enough.macs / share), force=True))
        assert (report.keep.achieved == 1) == keeps_all


def test_a_budget_below_all_bodies(
    tmp_path: Path, bodies: BodyZoo, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = Budget(macs=0.8 * bodies.bodies[-1].macs)
    with pytest.raises(BudgetError, match="or give 100 photographs, spread over the classes"):
        compress(settings(tmp_path, bodies, images, limit))
    monkeypatch.setattr(network_size, "CUTTING", 10)
    report = compress(settings(tmp_path, bodies, images, limit))
    assert report.body is not None and report.body.id == bodies.bodies[-1].id
    assert report.keep.achieved < 1 and report.macs <= 0.8 * bodies.bodies[-1].macs
    with pytest.raises(BudgetError, match="the nearest"):
        compress(settings(tmp_path, bodies, images, Budget(macs=10), force=True))


def test_all_photographs_count_however_many_choose(
    tmp_path: Path, bodies: BodyZoo, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_size, "TRIED", 4)
    monkeypatch.setattr(network_size, "TRIED_EACH", 2)
    count = open_source(str(images)).count(("tiger", "apple"), "train")
    large, small = bodies.bodies
    budget = Budget(macs=(large.macs + small.macs) / 2)
    for needed in (count, count + 1):
        monkeypatch.setattr(network_size, "CUTTING", needed)
        report = compress(settings(tmp_path, bodies, images, budget, force=True))
        assert any("photographs or more" in w for w in report.warnings) is (needed > count)


def test_a_budget_that_too_few_photographs_leave_unfilled_is_a_warning(
    tmp_path: Path, bodies: BodyZoo, images: Path
) -> None:
    large, small = bodies.bodies
    report = compress(settings(tmp_path, bodies, images, Budget(macs=(large.macs + small.macs) / 2)))
    assert report.body is not None and report.body.id == small.id
    assert any("100 photographs or more" in w for w in report.warnings)
    filled = compress(settings(tmp_path, bodies, images, Budget(macs=1.05 * report.macs), force=True))
    whole = compress(settings(tmp_path, bodies, images, Budget(macs=10 * large.macs), force=True))
    assert not any("photographs or more" in w for r in (filled, whole) for w in r.warnings)
