"""Images on a zoo of ready-made bodies: the head, the steps, and what is delivered and reported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from typer.testing import CliRunner

from cli.app import app
from mvp_edge.build.adding import add_result
from mvp_edge.config import Budget, FitOverrides, PruneConfig
from mvp_edge.core.errors import BudgetError, ConfigError, DataError, ZooError
from mvp_edge.data import DataSource, open_source
from mvp_edge.export import OnnxClassifier
from mvp_edge.export.named_head import HEAD
from mvp_edge.models.architectures import head_of, new_model
from mvp_edge.names.base_classes import NamedClasses, Resolution
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.prune import network_size
from mvp_edge.prune.fit import Unseen
from mvp_edge.prune.heads import Heads, prior_of
from mvp_edge.prune.job import compress, compress_family
from mvp_edge.prune.learn import enough, harmful, mistaken
from mvp_edge.prune.nearness import nearness_of
from mvp_edge.prune.photographs import advice
from mvp_edge.prune.precision import compare
from mvp_edge.report import Report
from mvp_edge.training.early_layers import passed
from mvp_edge.training.frozen_head import NAMES_ALONE, Choice, Kind, Linear, Point, fit_head, named_logits
from mvp_edge.training.loop import Batches
from mvp_edge.zoo.bodies import BodyZoo, open_bodies
from mvp_edge.zoo.store import open_zoo
from tests.prune.body_zoo import make_body_zoo


def settings(tmp_path: Path, bodies: BodyZoo, images: Path, names: str, **more: Any) -> PruneConfig:
    task = tmp_path / "classes.txt"
    task.write_text(names)
    usual: dict[str, Any] = {"precision": "fp32", "fit": FitOverrides(iterations=0), "device": "cpu"}
    config = PruneConfig(task, str(images), out=tmp_path / "out", zoo=str(bodies.path))
    return replace(config, **(usual | more))


def delivered_top1(report: Report, images: Path) -> float:
    out = Path(report.out)
    file = OnnxClassifier(out / "model.onnx")
    test = open_source(str(images)).load(report.task.classes, "test", file.input_size)
    return 100 * float((file.predict(test.images.numpy()).argmax(1) == test.labels.numpy()).mean())


def test_unknown_names_get_a_head_from_the_images_alone(tmp_path: Path, bodies: BodyZoo, images: Path) -> None:
    config = settings(tmp_path, bodies, images, "tiger\napple\nplain\n")
    report = compress(config)
    assert report.origin == "photographs"
    assert [bool(n.classes) for n in report.names] == [False, True, False]
    shown = report.photographs
    assert shown is not None and shown.names_top1 is None and not shown.trained
    assert shown.held_out == shown.train == 24
    images_of_points = [p.images for p in shown.curve]
    assert images_of_points == sorted(set(images_of_points)) and images_of_points[-1] == 19
    assert report.base_accuracy is None and any("does not know 'tiger', 'plain'" in w for w in report.warnings)
    assert report.accuracy.top1 is not None and report.accuracy.top1 > 60
    assert report.accuracy.top1 == pytest.approx(delivered_top1(report, images), abs=0.01)
    assert report.accuracy.top1_before is None
    assert report.settings.fit.iterations == 0
    assert json.loads((config.out / "report.json").read_text())["photographs"]["advice"] == shown.advice
    assert sorted(p.name for p in config.out.iterdir()) == sorted(report.files)
    page = (config.out / "report.html").read_text()
    assert "more photographs" in page and "24 training images" in page and "learned from the images" in page
    assert "<code>None</code>" not in page


def test_the_weights_load_into_the_architecture(tmp_path: Path, bodies: BodyZoo, images: Path) -> None:
    report = compress(settings(tmp_path, bodies, images, "apple\nrose\n"))
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert report.body is not None and (plan["body"], plan["rows"]) == (report.body.id, [1, 1])
    network = new_model(plan["base"]["arch"], 2)
    network.load_state_dict(load_file(tmp_path / "out" / "weights.safetensors"))
    of_class = head_of(network).in_features + 1  # the base has three rows; two names have a row and a mean each
    assert report.params - report.base_params == (2 * 2 - 3) * of_class
    assert report.base_accuracy is not None and report.base_accuracy.n == 8
    assert report.photographs is not None and report.photographs.names_top1 is not None


def test_a_noun_above_several_classes(tmp_path: Path, images: Path) -> None:
    own = tmp_path / "animals"
    for split in ("train", "test"):
        shutil.copytree(images / split / "rose", own / split / "rose")
        for name in ("crab", "tiger"):
            for file in (images / split / name).iterdir():
                (own / split / "animal").mkdir(exist_ok=True)
                shutil.copy(file, own / split / "animal" / f"{name}{file.name}")
    zoo = open_bodies(str(make_body_zoo(tmp_path / "zoo", images, ("crab", "rose", "tiger"), (32,))))
    assert zoo is not None
    report = compress(settings(tmp_path, zoo, own, "animal\nrose\n"))
    assert report.names[0].classes == ("crab", "tiger")
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert report.photographs is not None
    assert plan["rows"] == ([1, 1] if report.photographs.head == "photographs" else [2, 1])
    assert report.accuracy.top1 == pytest.approx(delivered_top1(report, own), abs=0.01)


def test_what_is_fitted_for_a_name_is_added_to_each_of_its_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    own = Linear(torch.randn(4, 6, generator=generator), torch.randn(4, generator=generator))
    labels = torch.arange(3).repeat(8)
    features = torch.randn(24, 6, generator=generator)
    classes = [NamedClasses("a", None, "", (0, 2)), NamedClasses("b", None, "", (3,)), NamedClasses("c", None, "", ())]
    resolution = Resolution(Task(tuple(map(TaskClass, "pqrs"))), tuple(classes))
    prior = prior_of(own(features), resolution)
    assert not prior[:, 2].any()
    for kind in (NAMES_ALONE, Kind(True, 1e-2), Kind(False, 1e-2)):
        heads = Heads(own, resolution, features, prior, labels, kind)
        assert heads.rows == ((2, 1, 1) if kind.prior else (1, 1, 1))
        found = named_logits(heads.fitted(torch.arange(24))(features), heads.rows)
        expected = fit_head(features, labels, prior, kind)(features) + (prior if kind.prior else 0)
        assert torch.allclose(found, expected, atol=1e-4)


@pytest.fixture
def errs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coloured squares are so easy that a head would not be trained further."""
    monkeypatch.setattr("mvp_edge.prune.learn.mistaken", lambda *_: True)


@pytest.mark.usefixtures("errs")
def test_steps_are_kept_only_as_far_as_images_left_out_gain(tmp_path: Path, bodies: BodyZoo, images: Path) -> None:
    fit = FitOverrides(iterations=2, batch_size=4)
    report = compress(settings(tmp_path, bodies, images, "tiger\napple\nplain\n", fit=fit, precision="auto"))
    chosen = report.interpolation
    assert chosen is not None and chosen.folds == 3  # fewer than `JUDGES` images in a part
    assert report.photographs is not None
    assert report.photographs.trained == (chosen.weight > 0) == (report.accuracy.top1_before is not None)
    assert "images were held out of training at a time" in report.precisions.files[1].reasons[0]
    assert (report.settings.fit.optimizer, report.settings.fit.lr, report.settings.fit.norms) == (
        "adamw",
        3e-4,
        "fixed",
    )
    assert (report.settings.fit.iterations, report.settings.fit.batch_size) == (2, 4)


@pytest.mark.usefixtures("errs")
def test_training_that_ruins_is_not_kept(
    tmp_path: Path, bodies: BodyZoo, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ruin(model: nn.Module, *_: object, **__: object) -> None:
        for p in model.parameters():
            p.data.normal_(generator=torch.Generator().manual_seed(0))

    names, fit = "apple\ncrab\nrose\n", FitOverrides(iterations=1, lr=0.5)
    alone = compress(settings(tmp_path, bodies, images, names))
    monkeypatch.setattr("mvp_edge.prune.learn.fit", ruin)
    report = compress(settings(tmp_path, bodies, images, names, fit=fit, force=True))
    assert report.interpolation is not None and report.interpolation.weight == 0
    assert report.accuracy == alone.accuracy
    assert report.settings.fit.lr == 0.5


@pytest.mark.usefixtures("errs")
@pytest.mark.parametrize("kept", [False, True])
def test_no_training_starts_from_what_another_has_learned(
    tmp_path: Path, bodies: BodyZoo, images: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    started, judged = list[list[torch.Tensor]](), list[Unseen | None]()

    def learn_much(model: nn.Module, *_: object, **__: object) -> None:
        head = {id(p) for p in head_of(model).parameters()}
        started.append([p.detach().clone() for p in model.parameters() if id(p) not in head])
        for p in model.parameters():
            p.data += 0.01 * p.requires_grad

    def compare_none(*given: Any) -> Any:
        judged.append(given[4])
        return compare(*given)

    monkeypatch.setattr("mvp_edge.prune.learn.fit", learn_much)
    monkeypatch.setattr("mvp_edge.prune.learn.harmful", lambda *_: not kept)
    monkeypatch.setattr("mvp_edge.prune.photographs.compare", compare_none)
    report = compress(settings(tmp_path, bodies, images, "apple\ntiger\n", fit=FitOverrides(iterations=1)))
    assert report.interpolation is not None and len(started) >= report.interpolation.folds > 1
    assert all(torch.equal(a, b) for later in started[1:] for a, b in zip(started[0], later, strict=True))
    if not report.interpolation.weight:
        (unseen,) = judged
        assert unseen is not None and unseen.state is not None
        whole = load_file(tmp_path / "out" / "weights.safetensors")
        for name, value in unseen.state.items():
            assert "classifier" in name or torch.allclose(value, whole[name], atol=1e-2)


@pytest.mark.parametrize(("few", "share"), [(8, 0.5), (9, 0.25)])  # of eight images a class
@pytest.mark.usefixtures("errs")
def test_half_of_the_change_on_all_images_is_kept_or_a_quarter_of_that_on_few(
    tmp_path: Path, bodies: BodyZoo, images: Path, monkeypatch: pytest.MonkeyPatch, few: int, share: float
) -> None:
    changes = iter((1.0, 2.0, 6.0, 3.0))  # for three parts that are left out, and for all images

    def shift(model: nn.Module, *_: object, **__: object) -> None:
        head_of(model).bias.data += next(changes)

    names = "apple\ntiger\n"
    compress(settings(tmp_path, bodies, images, names))
    before = load_file(tmp_path / "out" / "weights.safetensors")
    monkeypatch.setattr("mvp_edge.prune.learn.fit", shift)
    monkeypatch.setattr("mvp_edge.prune.learn.harmful", lambda *_: False)
    monkeypatch.setattr("mvp_edge.prune.learn.FEW", few)
    compress(settings(tmp_path, bodies, images, names, fit=FitOverrides(iterations=1), force=True))
    after = load_file(tmp_path / "out" / "weights.safetensors")
    for name, value in after.items():
        assert torch.allclose(value, before[name] + (3 * share if name == "classifier.bias" else 0), atol=1e-5)


@pytest.mark.usefixtures("errs")
def test_frozen_layers_see_the_images_once_for_all_trainings(
    tmp_path: Path, bodies: BodyZoo, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, shapes = list[int](), set[torch.Size]()

    def seen(layers: Sequence[nn.Module], values: torch.Tensor) -> torch.Tensor:
        given.append(len(values))
        return passed(layers, values)

    def one_batch(model: nn.Module, source: Batches, *_: object, **__: object) -> None:
        batch = source.next()
        shapes.add(batch.images.shape[1:])
        assert model(batch.images).shape == (len(batch.images), 2)

    monkeypatch.setattr("mvp_edge.training.early_layers.passed", seen)
    monkeypatch.setattr("mvp_edge.prune.learn.fit", one_batch)
    fit = FitOverrides(iterations=8, batch_size=8)
    report = compress(settings(tmp_path, bodies, images, "apple\ntiger\n", fit=fit))
    assert report.interpolation is not None and report.interpolation.folds > 1
    assert sum(given) == 2 + 4 * 16  # to see that they can be parted; then each of 16 images in 8 * 8 / 16 views
    assert all(shape[0] > 3 for shape in shapes)


@pytest.mark.usefixtures("errs")
def test_training_that_costs_accuracy_on_images_left_out_is_not_kept(
    tmp_path: Path, bodies: BodyZoo, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prefer(model: nn.Module, *_: object, **__: object) -> None:
        head_of(model).bias.data[0] += 1e4

    monkeypatch.setattr("mvp_edge.prune.learn.fit", prefer)
    monkeypatch.setattr("mvp_edge.prune.learn.harmful", lambda *_: False)
    report = compress(settings(tmp_path, bodies, images, "apple\ntiger\n", fit=FitOverrides(iterations=1)))
    assert report.interpolation is not None and report.interpolation.weight == 0
    top1 = [row.top1 for row in report.interpolation.held_out]
    assert top1[1] < top1[0]


def test_training_is_kept_unless_it_does_harm() -> None:
    noise = torch.randn(40, generator=torch.Generator().manual_seed(0))
    loss = 1 + 0.1 * noise
    assert not harmful(loss, loss) and not harmful(loss, loss - 0.5)
    assert not harmful(loss, 1.01 + noise.flip(0))  # no more than chance
    assert harmful(loss, loss + 0.5)


def test_a_fixed_schedule_keeps_all_of_the_training(tmp_path: Path, bodies: BodyZoo, images: Path) -> None:
    fit = FitOverrides(iterations=2, batch_size=4, optimizer="sgd")
    report = compress(settings(tmp_path, bodies, images, "apple\ntiger\n", fit=fit, schedule="fixed"))
    assert report.interpolation is None and report.accuracy.top1_before is not None
    assert report.settings.fit.optimizer == "sgd"
    assert "then its later half trained" in report.method


def test_a_class_with_one_photograph_cannot_be_judged(tmp_path: Path, bodies: BodyZoo, images: Path) -> None:
    own = Path(shutil.copytree(images, tmp_path / "few"))
    for file in sorted((own / "train" / "tiger").iterdir())[1:]:
        file.unlink()
    report = compress(settings(tmp_path, bodies, own, "tiger\napple\n", fit=FitOverrides(iterations=2, batch_size=4)))
    assert report.photographs is not None
    assert (report.photographs.held_out, report.photographs.head_top1, report.photographs.trained) == (0, None, False)
    assert any("fewer than two classes have two photographs" in w for w in report.warnings)
    assert "unknown: too few classes have two" in report.photographs.advice
    assert report.settings.fit.iterations == 0


def test_one_photograph_of_a_class_leaves_the_others_to_judge(tmp_path: Path, bodies: BodyZoo, images: Path) -> None:
    own = Path(shutil.copytree(images, tmp_path / "few"))
    for file in sorted((own / "train" / "tiger").iterdir())[1:]:
        file.unlink()
    fit = FitOverrides(iterations=2, batch_size=4)
    report = compress(settings(tmp_path, bodies, own, "tiger\napple\nplain\n", fit=fit))
    shown = report.photographs
    assert shown is not None and (shown.train, shown.held_out) == (17, 16)
    assert report.known is not None and report.known.photographs >= 10
    assert not any("fewer than two classes" in w for w in report.warnings)


def test_half_of_too_few_photographs_tells_nothing(images: Path) -> None:
    points = (Point(3, 50.0), Point(3, 50.0))
    choice = Choice(NAMES_ALONE, torch.zeros(0, 2), None, 50.0, points, (0.0, 0.0))
    assert advice(choice) == (
        "whether more photographs would help is unknown: there are too few to learn from half of them"
    )
    assert "would probably not help" in advice(replace(choice, curve=(Point(3, 50.0), Point(6, 50.0))))


@pytest.mark.parametrize("schedule", ["auto", "fixed"])
def test_pictures_of_none_of_the_classes_that_set_nothing(
    tmp_path: Path, bodies: BodyZoo, images: Path, schedule: Any
) -> None:
    own = Path(shutil.copytree(images, tmp_path / "few"))
    for name in ("tiger", "apple"):
        for file in sorted((own / "train" / name).iterdir())[2:]:
            file.unlink()
    (own / "none").mkdir()
    shutil.copy(next((images / "train" / "rose").iterdir()), own / "none")
    (own / "none" / "broken.png").write_bytes(b"x")
    fit = FitOverrides(iterations=2, batch_size=4)
    given = settings(tmp_path, bodies, own, "tiger\napple\n", fit=fit, schedule=schedule, none=str(own / "none"))
    report = compress(given)
    assert report.known is None
    (warning,) = (w for w in report.warnings if "--none has no effect" in w)
    assert warning.endswith("leave that out" if schedule == "fixed" else "add photographs")
    assert any("unreadable" in w and "broken.png" in w for w in report.warnings)


def test_names_that_the_base_does_not_tell_apart(tmp_path: Path, bodies: BodyZoo, images: Path) -> None:
    own = Path(shutil.copytree(images, tmp_path / "alike"))
    for split in ("train", "test"):
        (own / split / "plain").rename(own / split / "edible fruit")
    report = compress(settings(tmp_path, bodies, own, "apple\nedible fruit\nrose\n"))
    assert not any("of its kinds in WordNet" in w for w in report.warnings)  # the photographs show the kinds
    assert [list(n.classes) for n in report.names] == [[], [], ["rose"]]
    assert [n.note.partition(";")[0] for n in report.names[:2]] == [
        "the base does not tell 'apple' from 'edible fruit'", "the base does not tell 'edible fruit' from 'apple'"
    ]  # fmt: skip
    assert report.accuracy.top1 is not None and report.accuracy.top1 > 60


def test_bad_input_leaves_nothing_behind(tmp_path: Path, bodies: BodyZoo, images: Path) -> None:
    config = settings(tmp_path, bodies, images, "apple\nunicorn\n")
    with pytest.raises(DataError, match="unicorn"):
        compress(config)
    with pytest.raises(ConfigError, match="add-to-zoo"):
        compress(replace(config, add_to_zoo=True))
    with pytest.raises(BudgetError, match="allowed"):
        compress(settings(tmp_path, bodies, images, "apple\ntiger\n", budget=Budget(macs=10)))
    assert not config.out.exists()


def test_a_family_has_a_body_for_each_budget(tmp_path: Path, bodies: BodyZoo, images: Path) -> None:
    macs = sorted(b.macs for b in bodies.bodies)
    budgets = [Budget(macs=1.1 * m) for m in macs]
    made = compress_family(settings(tmp_path, bodies, images, "apple\ntiger\n"), budgets)
    assert [m.macs >= least for m, least in zip(made.models, macs, strict=True)] == [True, True]
    assert made.models[0].macs < made.models[1].macs


def test_photographs_are_divided_before_they_choose(
    tmp_path: Path, bodies: BodyZoo, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(_: object, __: object, ___: object, source: DataSource, ____: object) -> None:
        assert source.listing.carved == "by copies"
        raise BudgetError("enough")

    monkeypatch.setattr("mvp_edge.prune.photographs.choose_network", choose)
    with pytest.raises(BudgetError, match="enough"):
        compress(settings(tmp_path, bodies, images / "train", "apple\ntiger\n"))


def test_a_family_with_a_budget_out_of_reach_trains_nothing(
    tmp_path: Path, bodies: BodyZoo, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mvp_edge.prune.photographs.learn", lambda *_: pytest.fail("it was trained"))
    with pytest.raises(BudgetError, match="allowed"):
        compress_family(settings(tmp_path, bodies, images, "apple\ntiger\n"), [Budget(macs=1e9), Budget(macs=10)])
    assert not (tmp_path / "out").exists()


def test_a_budget_of_bytes_or_of_multiply_adds_counts_the_head(tmp_path: Path, bodies: BodyZoo, images: Path) -> None:
    for names in ("tiger\napple\nplain\n", "apple\nrose\n"):
        config = settings(tmp_path, bodies, images, names, force=True)
        small = compress(replace(config, budget=Budget(macs=1e9)))
        graph = onnx.load(config.out / "model.onnx").graph
        sizes = {t.name: int(np.prod(t.dims)) for t in graph.initializer if t.name.startswith(HEAD)}
        head = sum(n for name, n in sizes.items() if name.endswith((".weight", ".bias")))
        body = bodies.body(small.body.id) if small.body else None
        assert body is not None and small.params == body.params + head
        for limit in (Budget(size_kib=small.bytes.onnx / 1024 + 0.1), Budget(macs=small.macs)):
            again = compress(replace(config, budget=limit))
            assert again.body == small.body and again.macs <= small.macs and again.bytes.onnx == small.bytes.onnx


def test_all_classes_of_the_base_and_another(tmp_path: Path, bodies: BodyZoo, images: Path) -> None:
    report = compress(settings(tmp_path, bodies, images, "apple\ncrab\nrose\ntiger\n", budget=Budget(macs=1e9)))
    assert [bool(n.classes) for n in report.names] == [True, True, True, False]


def test_as_many_parts_are_trained_for_as_judge_soundly() -> None:
    def parts(size: int) -> list[torch.Tensor]:
        return list(torch.arange(5 * size).split(size))

    assert [len(enough(parts(size))) for size in (1, 5, 10, 19, 20, 200)] == [3, 3, 2, 2, 1, 1]
    assert enough([]) == []


def test_the_same_seed_gives_the_same_file(tmp_path: Path, bodies: BodyZoo, images: Path) -> None:
    fit = FitOverrides(iterations=1, batch_size=4)
    config = settings(tmp_path, bodies, images, "apple\ntiger\n", fit=fit, schedule="fixed")
    files = []
    for _ in range(2):
        compress(replace(config, force=True))
        files.append((config.out / "model.onnx").read_bytes())
    assert files[0] == files[1]


def test_the_command(tmp_path: Path, bodies: BodyZoo, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "classes.txt").write_text("apple\ntiger\n")
    words = ["prune", "--task", "classes.txt", "--data", str(images), "--zoo", str(bodies.path), "--precision", "fp32"]
    done = CliRunner().invoke(app, [*words, "--iterations", "0", "--neighbours", "3"])
    assert done.exit_code == 0, done.output
    assert "held-out images" in done.stdout and "more photographs" in " ".join(done.stdout.split())
    assert "--neighbours has no effect" in " ".join(done.stderr.split())
    assert CliRunner().invoke(app, [*words, "--keep", "0.5", "--force"]).exit_code == 2
    with pytest.raises(ZooError, match="ready-made"):
        add_result(open_zoo(str(bodies.path)), tmp_path / "out")


def test_pictures_of_no_class_are_told_by_their_nearness(tmp_path: Path, bodies: BodyZoo, images: Path) -> None:
    report = compress(settings(tmp_path, bodies, images, "tiger\napple\nplain\n"))
    known = report.known
    assert known is not None and known.photographs == 24 and known.listed == 0
    file = OnnxClassifier(tmp_path / "out" / "model.onnx")
    assert file.known_threshold == pytest.approx(known.threshold, abs=1e-4)
    train = open_source(str(images)).load(report.task.classes, "train", file.input_size)
    other = open_source(str(images)).load(("rose",), "test", file.input_size)
    (_, shown), (_, foreign) = (file.outputs(s.images.numpy()) for s in (train, other))
    assert shown is not None and foreign is not None
    assert (shown >= known.threshold).mean() >= 0.9 > (foreign >= known.threshold).mean()
    assert -1 <= min(shown.min(), foreign.min()) <= max(shown.max(), foreign.max()) <= 1.00001
    without = compress(settings(tmp_path, bodies, images, "tiger\napple\nplain\n", unknown=False, force=True))
    assert without.known is None and OnnxClassifier(tmp_path / "out" / "model.onnx").known_threshold is None


def test_a_head_that_errs_nowhere_is_not_trained_further() -> None:
    labels, judges = torch.tensor([0, 1, 0, 1]), [torch.tensor([0, 1])]
    right = torch.tensor([[1.0, 0], [0, 1], [0, 1], [0, 1]])  # the third is wrong, and does not judge
    choice = Choice(NAMES_ALONE, right, None, 75.0, (), (0.0, 0.0))
    assert not mistaken(choice, labels, judges)
    assert mistaken(choice, labels, [torch.tensor([2, 3])])


def test_copies_are_shown_where_no_test_images_remain(tmp_path: Path, bodies: BodyZoo, images: Path) -> None:
    data = tmp_path / "photos"
    shutil.copytree(images / "train", data / "train")
    shutil.copytree(data / "train", data / "test")
    report = compress(settings(tmp_path, bodies, data, "apple\nrose\n"))
    assert report.accuracy.top1 is None and report.pictures is not None and report.pictures.copies
    page = (Path(report.out) / "report.html").read_text()
    assert page.count("data:image/") == 2 * len(report.pictures.copied)


def test_images_choose_the_smallest_body_that_is_nearly_as_good(
    tmp_path: Path, bodies: BodyZoo, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_size, "JUDGING", 10)
    found = {body.id: 90.0 + i for i, body in enumerate(reversed(bodies.bodies))}
    monkeypatch.setattr(network_size, "scored", lambda _, network, *__: found[network.body.id])
    small, large = bodies.bodies[-1].id, bodies.bodies[0].id
    for drop, expected in ((1.0, small), (0.5, large)):
        config = settings(tmp_path, bodies, images, "apple\ntiger\n", max_drop=drop, force=True)
        report = compress(config)
        assert report.body is not None and report.body.id == expected


def test_pictures_of_none_of_the_classes_set_the_threshold(tmp_path: Path, bodies: BodyZoo, images: Path) -> None:
    names, fit = "tiger\napple\nplain\n", FitOverrides(iterations=0)
    own = compress(settings(tmp_path, bodies, images, names, fit=fit)).known
    none = images / "train" / "rose"
    report = compress(settings(tmp_path, bodies, images, names, fit=fit, none=str(none), force=True))
    known = report.known
    assert own is not None and own.none == 0 and known is not None
    assert known.none == len(list(none.iterdir())) and known.refused > 0.5 and known.kept > 0.5
    assert "none of the classes" in (tmp_path / "out" / "report.html").read_text()
    assert f"--none {none}" in (tmp_path / "out" / "report.html").read_text()
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"x")
    for place, reason in (("empty", "holds no pictures"), ("bad", "can be read"), ("absent", "not a directory")):
        with pytest.raises(DataError, match=reason):
            compress(settings(tmp_path, bodies, images, names, none=str(tmp_path / place), force=True))
    with pytest.raises(ConfigError, match="no-unknown"):
        settings(tmp_path, bodies, images, names, none=str(none), unknown=False)
    with pytest.raises(ConfigError, match="--data"):
        compress(replace(settings(tmp_path, bodies, images, "apple\n", none=str(none), force=True), data=None))


def test_the_threshold_is_where_most_are_told_rightly() -> None:
    left_out, means = np.linspace(0.5, 0.95, 10), torch.eye(2)
    alone = nearness_of(means, left_out, None)
    assert (
        alone is not None and alone.threshold == pytest.approx(0.5) and alone.kept == 1
    )  # as the least of ten sets it
    many = nearness_of(means, np.linspace(0.5, 0.95, 40), None)
    assert many is not None and many.kept == 0.95
    told = nearness_of(means, left_out, np.array([0.1, 0.52, 0.58]))
    assert told is not None and told.threshold == pytest.approx(0.6)
    assert (told.kept, told.refused, told.none) == (pytest.approx(0.8), 1.0, 3)
    assert nearness_of(means, left_out[:9], None) is None
    assert nearness_of(means, None, None) is None
