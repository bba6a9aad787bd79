from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mvp_edge.config import Budget, FitConfig, Method, PruneConfig, VoteConfig, Voters
from mvp_edge.core.errors import BudgetError, ConfigError, ZooError
from mvp_edge.core.progress import SilentProgress, Stage
from mvp_edge.core.streams import rng
from mvp_edge.data import ImageSet, open_source
from mvp_edge.export import OnnxClassifier
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.names import wordnet
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.prune.job import compress, compress_family
from mvp_edge.prune.pictures import Pictures
from mvp_edge.prune.size import Sizing, Votes
from mvp_edge.prune.voted import Inputs, Prepared, far_warning, size
from mvp_edge.report import Report
from mvp_edge.report.record import BaseAccuracyRecord, PicturesRecord
from mvp_edge.training.loop import accuracy, predict
from mvp_edge.voting.neighbours import Neighbour
from mvp_edge.zoo.store import Zoo, open_zoo


class Told(SilentProgress):
    """Remembers the stages and how many steps each has."""

    def __init__(self) -> None:
        self.steps: dict[str, int | None] = {}

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Stage]:
        self.steps[name] = total
        yield self


def test_keeping_everything_is_told(images: Path, tiny_zoo: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("tiger\napple\n")
    config = PruneConfig(tmp_path / "classes.txt", str(images), tmp_path / "out", zoo=str(tiny_zoo), device="cpu")
    found = compress(replace(config, vote=VoteConfig(keep=1), fit=FitConfig(iterations=0)))
    assert found.keep.achieved == 1
    assert "every unit is kept: this is the base model itself, unchanged by the vote" in found.warnings


def test_images_left_out_decide_where_images_are_few(images: Path, generalist_zoo: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("tiger\napple\nrose\n")
    config = PruneConfig(tmp_path / "classes.txt", str(images), tmp_path / "out", zoo=str(generalist_zoo), device="cpu")
    config = replace(
        config, vote=VoteConfig(keep=0.5, channel_multiple=4), fit=FitConfig(iterations=4, batch_size=4, lr=0.01)
    )
    told = Told()
    report = compress(config, told)
    assert told.steps["Fine-tuning"] == 6  # half as many, on each of three folds
    chosen = report.interpolation
    assert chosen is not None and (chosen.images, chosen.folds) == (24, 3)
    assert [row.weight for row in chosen.held_out] == [0, 0.25, 0.5, 0.75, 1]
    assert any("--schedule fixed" in w for w in report.warnings) == (chosen.weight == 0)
    assert "delivered ONNX file" in report.accuracy.source
    report = compress(replace(config, schedule="fixed", force=True))
    assert report.settings.fit.iterations == 4
    assert report.interpolation is None


@pytest.mark.parametrize(("lr", "harm"), [(0.5, True), (1e-9, False)])
def test_what_fine_tuning_did_is_told_by_the_test_images(
    images: Path, generalist_zoo: Path, tmp_path: Path, lr: float, harm: bool
) -> None:
    (tmp_path / "classes.txt").write_text("tiger\napple\nrose\nchair\n")
    config = PruneConfig(tmp_path / "classes.txt", str(images), tmp_path / "out", zoo=str(generalist_zoo), device="cpu")
    config = replace(
        config, vote=VoteConfig(keep=0.5, channel_multiple=4), schedule="fixed", precision="fp32", force=True
    )
    plain = compress(replace(config, fit=FitConfig(iterations=0)))
    assert plain.accuracy.top1_before is None  # nothing was trained
    tuned = compress(replace(config, fit=FitConfig(iterations=3, batch_size=4, lr=lr)))
    assert tuned.accuracy.top1_before == plain.accuracy.top1
    assert any("fine-tuning made the model worse" in w for w in tuned.warnings) == harm
    assert tuned.accuracy.top1 is not None and plain.accuracy.top1 is not None
    assert (tuned.accuracy.top1 < plain.accuracy.top1) == harm
    assert compress(replace(config, data=None)).accuracy.top1_before is None


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_fine_tuning_that_harms_is_left_out_however_many_images_there_are(
    images: Path, generalist_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Any
) -> None:
    monkeypatch.setattr("mvp_edge.prune.fit.MANY_IMAGES", 1)
    monkeypatch.setattr("mvp_edge.prune.fit.JUDGED_IMAGES", 5)
    monkeypatch.setattr("mvp_edge.prune.fit.HELD_OUT", 4)
    (tmp_path / "classes.txt").write_text("tiger\napple\nrose\nchair\n")
    config = PruneConfig(tmp_path / "classes.txt", str(images), tmp_path / "out", zoo=str(generalist_zoo), device="cpu")
    config = replace(config, vote=VoteConfig(keep=0.5, channel_multiple=4), precision=precision, force=True)
    plain = compress(replace(config, fit=FitConfig(iterations=0)))
    harmed = compress(replace(config, fit=FitConfig(iterations=3, batch_size=4, lr=0.5)))
    assert harmed.data_held_out == 8 and harmed.settings.fit.iterations == 0
    assert any("--schedule fixed" in w for w in harmed.warnings)
    assert (harmed.origin, harmed.accuracy) == (plain.origin, plain.accuracy)


@pytest.mark.parametrize(("schedule", "judged"), [("fixed", 6), ("auto", 8)])
def test_test_images_do_not_decide_whether_a_second_precision_is_kept(
    images: Path, generalist_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: Any, judged: int
) -> None:
    """A part of the training images is held out, or the first of the parts that cross-validation leaves out."""
    monkeypatch.setattr("mvp_edge.prune.fit.HELD_OUT", 4)
    monkeypatch.setattr("mvp_edge.prune.fit.JUDGED_IMAGES", 5)
    for module in ("gate", "precision"):
        monkeypatch.setattr(f"mvp_edge.prune.{module}.JUDGED_IMAGES", 5)
    shutil.copytree(images, other := tmp_path / "colours")
    shutil.rmtree(other / "test" / "tiger")
    shutil.copytree(images / "test" / "apple", other / "test" / "tiger")
    (tmp_path / "classes.txt").write_text("tiger\napple\nrose\n")
    reports, weights = [], []
    for data in (images, other):
        out = tmp_path / f"out-{len(reports)}"
        config = PruneConfig(tmp_path / "classes.txt", str(data), out, zoo=str(generalist_zoo), device="cpu")
        fit = FitConfig(iterations=4, batch_size=4)
        vote = VoteConfig(keep=0.5, channel_multiple=4)
        reports.append(compress(replace(config, vote=vote, fit=fit, schedule=schedule, precision="int8")))
        weights.append((out / "weights.safetensors").read_bytes())
    one, two = (report.precisions.files[1] for report in reports)
    assert f"on {judged} images held out of training" in one.reasons[0]
    assert one.reasons[0] == two.reasons[0] and weights[0] == weights[1]
    assert one.top1 != two.top1  # the report is about the test images


def test_a_size_between_members_begins_as_the_member_inside_it(
    images: Path, generalist_zoo: Path, tmp_path: Path
) -> None:
    (tmp_path / "classes.txt").write_text("tiger\napple\nrose\n")
    config = PruneConfig(tmp_path / "classes.txt", None, tmp_path / "out", zoo=str(generalist_zoo), device="cpu")
    config = replace(config, precision="fp32", fit=FitConfig(iterations=0), force=True)
    member = compress(replace(config, vote=VoteConfig(keep=0.5)))
    grown = compress(replace(config, vote=VoteConfig(keep=0.6, channel_multiple=4), data=str(images)))
    assert grown.voters[0].id == member.voters[0].id and len(grown.voters) == 1
    assert member.keep.achieved < grown.keep.achieved
    assert (grown.origin, grown.accuracy.confusion) == ("ready-made", member.accuracy.confusion)


def test_the_base_is_scored_beside_the_model(
    images: Path, generalist_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "classes.txt").write_text("tiger\napple\nrose\n")
    config = PruneConfig(tmp_path / "classes.txt", str(images), tmp_path / "out", zoo=str(generalist_zoo), device="cpu")
    config = replace(config, precision="fp32", fit=FitConfig(iterations=0), force=True, input="uint8-nhwc")
    zoo = open_zoo(str(generalist_zoo))
    test = open_source(str(images)).load(("tiger", "apple", "rose"), "test", zoo.base.input_size)
    columns = [zoo.base.classes.index(n) for n in test.classes]
    logits = predict(zoo.load_base(), test.images, zoo.base, torch.device("cpu"))[:, columns]
    half = replace(config, vote=VoteConfig(keep=0.5, channel_multiple=4))
    found = compress(half)
    top1 = round(accuracy(logits, test).top1, 2)
    assert found.base_accuracy == BaseAccuracyRecord(top1=top1, n=12, model_top1=found.accuracy.top1 or 0)
    monkeypatch.setattr("mvp_edge.prune.accuracy.BASE_IMAGES", 5)
    found = compress(half)
    few = test.subset(rng(half.seed, "base").permutation(12)[:5])
    said = OnnxClassifier(half.out / "model.onnx").predict(few.images.numpy())
    assert found.base_accuracy is not None and found.base_accuracy.n == 5
    assert found.base_accuracy.model_top1 == round(accuracy(torch.as_tensor(said), few).top1, 2)
    assert compress(replace(half, data=None)).base_accuracy is None


def test_a_base_that_does_not_know_a_class_has_no_score(images: Path, generalist_zoo: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    for split in ("train", "test"):
        for name, source in (("tiger", "tiger"), ("spaceship", "plain")):
            shutil.copytree(images / split / source, own / split / name)
    (tmp_path / "classes.txt").write_text("tiger\nspaceship\n")
    config = PruneConfig(tmp_path / "classes.txt", str(own), tmp_path / "out", zoo=str(generalist_zoo), device="cpu")
    fast = replace(config, precision="fp32", vote=VoteConfig(keep=0.5, channel_multiple=4), fit=FitConfig(iterations=0))
    assert compress(fast).base_accuracy is None


def test_a_base_that_knows_a_class_in_another_sense_has_no_score(
    images: Path, generalist_zoo: Path, tmp_path: Path
) -> None:
    (tmp_path / "classes.txt").write_text("tiger = tiger.n.01\nrose\n")  # a fierce person, not the cat
    config = PruneConfig(tmp_path / "classes.txt", str(images), tmp_path / "out", zoo=str(generalist_zoo), device="cpu")
    fast = replace(config, precision="fp32", vote=VoteConfig(keep=0.5, channel_multiple=4), fit=FitConfig(iterations=0))
    assert compress(fast).base_accuracy is None


def test_only_a_member_that_does_not_know_the_list_can_be_far(zoo: Zoo) -> None:
    known, unknown = (wordnet.resolve(Task((TaskClass("tiger"), TaskClass(n)))) for n in ("rose", "spaceship"))
    generalist = next(i for i in zoo.infos() if i.kind == "generalist")
    for similarity, value in (("wordnet", 0.1), ("leep", -9.0)):
        assert far_warning([Neighbour(generalist, value)], known, similarity) is None
        assert "is far from this one" in (far_warning([Neighbour(generalist, value)], unknown, similarity) or "")


@pytest.mark.parametrize(
    ("voters", "method", "initial"),
    [("auto", "mvp", 2), ("generalist", "mvp", 2), ("any", "mvp", 0), ("generalist", "smsp", 0)],
)
def test_a_budget_is_searched_from_the_generalist_members_that_may_vote_alone(
    zoo: Zoo, prunable: PrunableModel, voters: Voters, method: Method, initial: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def choose(prunable: PrunableModel, config: PruneConfig, votes: Votes, *_: object) -> Sizing:
        asked.append(len(votes.initial))
        return Sizing({}, {})

    monkeypatch.setattr("mvp_edge.prune.size.choose_counts", choose)
    task = wordnet.resolve(Task((TaskClass("tiger"), TaskClass("rose"))))
    train = ImageSet(torch.zeros(1, 3, 1, 1, dtype=torch.uint8), torch.zeros(1, dtype=torch.long), task.names)
    record = PicturesRecord(given=1, used={"train": 1}, aside={}, copies=0, copied=(), two_classes=(), summary="")
    pictures = Pictures(train, None, None, (), record, ())
    inputs = Inputs(task, zoo, torch.device("cpu"), [], pictures)
    config = PruneConfig(Path("classes.txt"), "x", vote=VoteConfig(method, voters=voters), budget=Budget(params=1e5))
    size(Prepared(inputs, prunable, [Neighbour(i, 0.0) for i in zoo.infos()]), config, SilentProgress())
    assert asked == [initial]


def test_members_whose_nearness_cannot_matter_are_not_ranked(
    images: Path, generalist_zoo: Path, probe_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MVP_EDGE_CACHE", str(probe_cache))
    (tmp_path / "classes.txt").write_text("tiger\napple\nrose\n")
    config = PruneConfig(tmp_path / "classes.txt", str(images), tmp_path / "out", zoo=str(generalist_zoo), device="cpu")
    config = replace(config, vote=VoteConfig(keep=0.5, channel_multiple=4), fit=FitConfig(iterations=2, batch_size=4))
    asked: set[str] = set()
    load = Zoo.load
    monkeypatch.setattr(Zoo, "load", lambda zoo, info: asked.add(info.id) or load(zoo, info))

    def run(config: PruneConfig) -> Report:
        asked.clear()
        return compress(replace(config, force=True))

    alone = run(config)
    assert asked == {alone.voters[0].id}
    budget = run(replace(config, budget=Budget(params=60_000)))
    assert len(asked) == len(open_zoo(str(generalist_zoo)).ids()) and budget.params <= 60_000
    assert len(run(replace(config, vote=replace(config.vote, voters="specialist"))).voters) == len(asked) == 2
    monkeypatch.setattr("mvp_edge.prune.voted.ratio_decides", lambda _: False)
    everyone = run(config)
    assert len(asked) == 4
    assert all(
        getattr(alone, key) == getattr(everyone, key)
        for key in ("voters", "accuracy", "macs", "interpolation", "warnings")
    )


@pytest.mark.parametrize("with_images", [False, True])
def test_a_member_is_read_once_for_the_catalogue_and_once_if_it_matters(
    images: Path, generalist_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_images: bool
) -> None:
    (tmp_path / "classes.txt").write_text("tiger\napple\nrose\n")
    data = str(images) if with_images else None
    config = PruneConfig(tmp_path / "classes.txt", data, tmp_path / "out", zoo=str(generalist_zoo), device="cpu")
    reads: Counter[str] = Counter()
    read = Path.open

    def count(path: Path, *args: Any, **names: Any) -> Any:
        reads[path.parent.name] += path.name == "member.json"
        return read(path, *args, **names)

    monkeypatch.setattr(Path, "open", count)
    vote = VoteConfig(keep=0.5, channel_multiple=4)
    compress(replace(config, vote=vote, fit=FitConfig(iterations=0), precision="fp32"))
    assert {reads[member] for member in open_zoo(str(generalist_zoo)).ids()} <= {1, 2}


def test_a_model_of_other_images_is_another_member(images: Path, tiny_zoo: Path, tmp_path: Path) -> None:
    """Though all settings and the folder's name are the same."""
    zoo, photos = Path(shutil.copytree(tiny_zoo, tmp_path / "own")), Path(shutil.copytree(images, tmp_path / "photos"))
    (tmp_path / "classes.txt").write_text("tiger\napple\n")
    config = PruneConfig(tmp_path / "classes.txt", str(photos), tmp_path / "out", zoo=str(zoo), device="cpu")
    config = replace(config, vote=VoteConfig(keep=0.5, channel_multiple=4), fit=FitConfig(iterations=1, batch_size=4))
    config = replace(config, add_to_zoo=True, force=True)
    first, again = compress(config), compress(config)
    assert again.added_member is None
    assert any(f"member {first.added_member}, made of the same images" in w for w in again.warnings)
    shutil.copytree(photos / "train" / "rose", photos / "train" / "tiger", dirs_exist_ok=True)
    assert compress(config).added_member != first.added_member
    assert len(open_zoo(str(zoo)).ids()) == len(open_zoo(str(tiny_zoo)).ids()) + 2


@pytest.mark.parametrize("when", ["require_writable", "add"])
def test_a_report_tells_of_no_member_that_could_not_be_added(
    images: Path, tiny_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    def fail(*_: object) -> None:
        raise ZooError("no room")

    monkeypatch.setattr(Zoo, when, fail)
    (tmp_path / "classes.txt").write_text("tiger\napple\n")
    config = PruneConfig(tmp_path / "classes.txt", str(images), tmp_path / "out", zoo=str(tiny_zoo), device="cpu")
    config = replace(
        config, vote=VoteConfig(keep=0.5, channel_multiple=4), fit=FitConfig(iterations=0), add_to_zoo=True
    )
    told = Told()
    with pytest.raises(ZooError, match="no room"):
        compress(config, told)
    assert not config.out.exists()
    assert ("Slicing" in told.steps) == (when == "add")


def test_a_family_is_not_added_to_a_zoo(tmp_path: Path, generalist_zoo: Path) -> None:
    (tmp_path / "classes.txt").write_text("tiger\napple\n")
    config = PruneConfig(tmp_path / "classes.txt", "images", tmp_path / "out", zoo=str(generalist_zoo), add_to_zoo=True)
    with pytest.raises(ConfigError, match=r"not added to a zoo; add one .*: mvp-edge zoo add .*out/60kparams"):
        compress_family(config, [Budget(params=60_000)])


def test_a_family_is_prepared_for_its_budgets(
    tmp_path: Path, generalist_zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a budget, everybody's nearness matters."""
    asked: list[Budget | None] = []

    def prepare(config: PruneConfig, *_: object) -> None:
        asked.append(config.budget)
        raise BudgetError("enough")

    monkeypatch.setattr("mvp_edge.prune.voted.prepare", prepare)
    budgets = [Budget(params=60_000), Budget(params=90_000)]
    (tmp_path / "classes.txt").write_text("tiger\napple\n")
    config = PruneConfig(tmp_path / "classes.txt", "images", tmp_path / "out", zoo=str(generalist_zoo))
    with pytest.raises(BudgetError, match="enough"):
        compress_family(config, budgets)
    assert asked == budgets[:1]
