"""From nouns to a file, on a zoo of bodies that tell colours apart."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from mvp_edge.config import Budget, PruneConfig
from mvp_edge.core.errors import BudgetError, ConfigError, TaskError
from mvp_edge.export.named_head import HEAD
from mvp_edge.names.known import class_cosines, known_score
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.prune import named
from mvp_edge.prune.body_size import by_names, choose, head_costs
from mvp_edge.prune.expected import Expected, read_request
from mvp_edge.prune.job import compress, compress_family
from mvp_edge.report import Report
from mvp_edge.zoo.bodies import BodyZoo, open_bodies
from tests.bodies import COLOURS, pictures

NOUNS = ("espresso", "bicycle", "dog")
SHOWN = {"espresso": ["espresso"], "bicycle": ["mountain bike", "bicycle-built-for-two"], "dog": ["beagle", "collie"]}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvp_edge.prune.named.PATIENCE_S", 0.05)


@pytest.fixture
def zoo(body_zoo: Path) -> BodyZoo:
    found = open_bodies(str(body_zoo))
    assert found is not None
    return found


@pytest.fixture
def config(body_zoo: Path, tmp_path: Path) -> PruneConfig:
    return PruneConfig(task(*NOUNS), None, tmp_path / "out", zoo=str(body_zoo))


def task(*names: str) -> Task:
    return Task(tuple(map(TaskClass, names)))


def outputs(config: PruneConfig, names: list[str], pixels: int, file: str = "model.onnx") -> dict[str, np.ndarray]:
    """Return what a delivered file says of a picture of each name, its values whole bytes."""
    session = ort.InferenceSession(config.out / file)
    (image,) = session.get_inputs()
    shown = np.rint(255 * pictures(names, pixels, seed=7))
    of_bytes = image.type == "tensor(uint8)"
    shown = shown.astype(np.uint8).transpose(0, 2, 3, 1) if of_bytes else shown.astype(np.float32) / np.float32(255)
    told = [o.name for o in session.get_outputs()]
    return {name: np.asarray(v) for name, v in zip(told, session.run(told, {image.name: shown}), strict=True)}


def body_of(report: Report) -> str:
    assert report.body is not None
    return report.body.id


def test_names_that_the_base_confuses_are_told(config: PruneConfig, zoo: BodyZoo) -> None:
    request = read_request(config, zoo)
    espresso, bicycle, dog = request.resolution.groups
    near = ((bicycle[0], espresso[0]), (espresso[0], bicycle[0]), (dog[0], dog[1]))
    made = compress(replace(config, precision="fp32"))
    assert not any("hardly tells apart" in w for w in made.warnings)
    assert named.alike(replace(request, zoo=replace(zoo, near=near))) == ["'espresso' and 'bicycle'"]
    assert named.alike(replace(request, zoo=replace(zoo, near=near[2:]))) == []


def test_nouns_become_a_file_that_knows_them(config: PruneConfig, zoo: BodyZoo) -> None:
    report = compress(config)
    assert sorted(f.name for f in config.out.iterdir()) == sorted(report.files)
    assert Report.from_json(json.loads((config.out / "report.json").read_text())) == report
    assert (config.out / "labels.txt").read_text().split() == list(NOUNS)
    assert {n.name: list(n.classes) for n in report.names} == SHOWN
    for label, name in enumerate(NOUNS):
        assert (outputs(config, SHOWN[name] * 5, 16)["logits"].argmax(1) == label).all()
    assert report.accuracy.top1 is None and report.base_accuracy is None
    assert report.estimate is not None and report.estimate.n == 100 and "pictures of colours" in report.estimate.source
    assert body_of(report) == "tiny-16" and report.body is not None and report.body.pictures == 120
    assert report.macs < report.base_macs and report.parity_max_abs_diff < 1e-4
    metadata = {p.key: p.value for p in onnx.load(config.out / "model.onnx").metadata_props}
    assert json.loads(metadata["labels"]) == list(NOUNS) and json.loads(metadata["input_size"]) == [16, 16]


def test_the_file_scores_whether_anything_listed_is_shown(config: PruneConfig, zoo: BodyZoo) -> None:
    known = compress(config).known
    assert known is not None and (known.listed, known.neutral, known.unlisted) == (5, 1, 4)
    body, names = zoo.bodies[1], list(COLOURS)
    weights, few = zoo.weights(body), zoo.features(body).few
    assert few is not None
    graph = zoo.graph(body, weights)
    last = graph.graph.node[-1].input
    graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(last[0]))
    session = ort.InferenceSession(graph.SerializeToString())
    shown = np.rint(255 * pictures(names, 16, seed=7)).astype(np.float32) / np.float32(255)
    features = np.asarray(session.run([last[0]], {"image": shown})[0])
    listed, near = [0, 3, 4, 5, 6], [1]  # the teapot is near the espresso
    cosines = few.cosines(features)
    cosines[:, listed] = class_cosines(features, weights[last[1]], few.mean)[:, listed]
    scores = outputs(config, names, 16)["known"]
    assert scores == pytest.approx(known_score(cosines, listed, near), abs=1e-3)
    unlisted = [i for i in range(len(names)) if i not in {*listed, *near}]
    assert scores[listed].min() >= known.threshold > scores[unlisted].max()


def test_without_unknown_there_is_one_output(config: PruneConfig, zoo: BodyZoo) -> None:
    report = compress(replace(config, unknown=False))
    assert report.known is None and list(outputs(config, ["beagle"], 16)) == ["logits"]
    with_known = compress(replace(config, out=config.out.with_name("known")))
    assert report.macs < with_known.macs and report.params < with_known.params


def test_a_file_for_bytes_computes_the_same(config: PruneConfig, zoo: BodyZoo) -> None:
    compress(config)
    names = list(COLOURS)
    floats = outputs(config, names, 16)
    compress(replace(config, input="uint8-nhwc", force=True))
    found = outputs(config, names, 16)
    for name, value in floats.items():
        assert found[name] == pytest.approx(value, abs=1e-3)
    assert (found["logits"].argmax(1) == floats["logits"].argmax(1)).all()


@pytest.mark.parametrize(("drop", "body"), [(0, "tiny-32"), (1, "tiny-16"), (100, "tiny-8")])
def test_the_smallest_within_the_drop_is_taken(config: PruneConfig, zoo: BodyZoo, drop: float, body: str) -> None:
    report = compress(replace(config, max_drop=drop))
    assert report.estimate is not None and report.estimate.top1 >= report.estimate.base_top1 - drop
    expected = {s.member: s.top1 for s in report.sizes}
    tops = {b.id: e.top1 or 0.0 for b, e in read_request(config, zoo).expected}
    if body == "tiny-32" and tops["tiny-16"] == tops["tiny-32"]:
        body = "tiny-16"  # nothing is lost by it, and no limit on multiply-adds delivers the other
    largest = body == "tiny-32" or tops["tiny-32"] > tops["tiny-16"]
    assert body_of(report) == body
    assert list(expected) == ["tiny-8", "tiny-16", *(["tiny-32"] if largest else [])]
    assert report.sizes[0].flag.endswith("k")


@pytest.mark.parametrize(
    ("budget", "bodies"),
    [
        (Budget(macs=2e6), {"tiny-32", "tiny-16"}),
        (Budget(macs=3e5), {"tiny-16"}),
        (Budget(macs=1e5), {"tiny-8"}),
        (Budget(latency_ms=1000), {"tiny-32", "tiny-16"}),
        (Budget(size_kib=1000, params=1e6, macs=1e5), {"tiny-8"}),
    ],
)
def test_under_a_budget_the_best_is_taken(config: PruneConfig, zoo: BodyZoo, budget: Budget, bodies: set[str]) -> None:
    report = compress(replace(config, budget=budget))
    assert body_of(report) in bodies and report.budget is not None
    assert all(limit.achieved <= limit.limit for limit in report.budget.values())


def test_a_budget_out_of_reach(config: PruneConfig, zoo: BodyZoo) -> None:
    with pytest.raises(BudgetError, match=r"tiny-8.*MACs where 100 MACs.*write M behind the number") as error:
        compress(replace(config, budget=Budget(macs=100)))
    assert not config.out.exists()
    typed = str(error.value).rpartition("Type --max-macs ")[2]
    assert body_of(compress(replace(config, budget=Budget(macs=1e3 * int(typed.removesuffix("k")))))) == "tiny-8"


def test_a_family_has_a_model_for_each_budget(config: PruneConfig, zoo: BodyZoo) -> None:
    index = compress_family(config, [Budget(macs=1e5), Budget(macs=3e5)])
    assert [m.directory for m in index.models] == ["0.1MMACs", "0.3MMACs"]
    reports = [json.loads((config.out / m.directory / "report.json").read_text()) for m in index.models]
    assert [r["body"]["id"] for r in reports] == ["tiny-8", "tiny-16"]
    assert (config.out / "index.html").is_file()


def test_few_pictures_give_an_estimate_over_all_lists(config: PruneConfig, zoo: BodyZoo) -> None:
    report = compress(replace(config, task=task("jay", "banana")))
    assert report.estimate is not None and report.estimate.n == 0
    assert report.estimate.base_top1 == round(zoo.bodies[0].expected_top1(2) or 0, 1)


def test_a_list_of_all_classes_has_nothing_to_tell_them_from(config: PruneConfig, zoo: BodyZoo) -> None:
    report = compress(replace(config, task=task(*COLOURS)))
    assert report.known is None and list(outputs(config, ["beagle"], 16)) == ["logits"]
    assert [w for w in report.warnings if "no others are left to compare with" in w]


def test_what_is_refused_leaves_nothing(config: PruneConfig, zoo: BodyZoo) -> None:
    with pytest.raises(TaskError, match=r"'zebra' is unknown to tiny"):
        compress(replace(config, task=task("dog", "zebra")))
    with pytest.raises(ConfigError, match="tiny-8 of .* has no INT8 form"):
        compress(replace(config, precision="int8", budget=Budget(macs=1e5)))
    assert not config.out.exists()


@pytest.mark.parametrize("kind", ["float32-nchw", "uint8-nhwc"])
def test_int8_comes_with_its_own_estimate(config: PruneConfig, zoo: BodyZoo, kind: Any) -> None:
    report = compress(replace(config, precision="int8", input=kind))
    full, small = report.precisions.files
    assert (full.precision, small.precision, small.file) == ("fp32", "int8", "model-int8.onnx")
    assert small.file in report.files and small.kept and small.time_ratio and small.bytes
    assert "on 100 images held out of training" in small.reasons[0]
    assert any("was requested" in w for w in report.warnings) != small.passed
    names = [n for shown in SHOWN.values() for n in shown] * 4
    exact, found = outputs(config, names, 16), outputs(config, names, 16, small.file)
    assert exact.keys() == found.keys() == {"logits", "known"}
    assert 0 < np.abs(found["logits"] - exact["logits"]).max() < 1
    kinds = {n.op_type for n in onnx.load(config.out / small.file).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds


def test_an_int8_file_that_does_not_pass_is_not_delivered(
    config: PruneConfig, zoo: BodyZoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mvp_edge.prune.gate.FASTER", 0.0)
    report = compress(config)
    small = report.precisions.files[1]
    assert not small.kept and not (config.out / small.file).exists() and small.file not in report.files
    monkeypatch.setattr("mvp_edge.prune.gate.FASTER", 1e9)
    monkeypatch.setattr("mvp_edge.prune.gate.SMALLER", 1e9)
    monkeypatch.setattr("mvp_edge.prune.gate.SAVED_BYTES", -1e9)
    monkeypatch.setattr("mvp_edge.prune.gate.NOT_SLOWER", 1e9)
    report = compress(replace(config, force=True))
    assert report.precisions.files[1].kept and (config.out / "model-int8.onnx").exists()


def test_half_precision_halves_the_weights(config: PruneConfig, zoo: BodyZoo) -> None:
    report = compress(replace(config, precision="fp16"))
    assert report.precisions.files[1].file == "model-fp16.onnx" and report.precisions.files[1].kept
    for name, value in outputs(config, list(COLOURS), 16).items():
        assert outputs(config, list(COLOURS), 16, "model-fp16.onnx")[name] == pytest.approx(value, abs=0.1)
    halves = [t for t in onnx.load(config.out / "model-fp16.onnx").graph.initializer if t.data_type == 10]
    assert halves
    assert (
        "the accuracy was not compared; on random pictures its logits differ by"
        in report.precisions.files[1].reasons[0]
    )


def test_under_a_budget_of_bytes_a_small_form_is_taken(config: PruneConfig, zoo: BodyZoo) -> None:
    whole = compress(config)
    less = Budget(size_kib=0.97 * whole.bytes.onnx / 1024, macs=3e5)
    report = compress(replace(config, force=True, budget=less))
    assert body_of(report) == "tiny-16-small" and report.bytes.onnx < whole.bytes.onnx
    assert report.estimate is not None and whole.estimate is not None
    assert report.estimate.top1 < whole.estimate.top1  # of the first class it says otherwise
    exact = np.asarray(outputs(replace(config), ["beagle"] * 3, 16)["logits"])
    assert (exact.argmax(1) == NOUNS.index("dog")).all()
    operators = {n.op_type for n in onnx.load(config.out / "model.onnx").graph.node}
    assert "Gather" in operators
    with pytest.raises(ConfigError, match="no INT8 form"):
        compress(replace(config, force=True, budget=less, precision="int8"))


@pytest.mark.parametrize("more", [[], ["--budgets", "0.1MMACs,0.3MMACs"]])
def test_neither_torch_nor_timm_is_imported(body_zoo: Path, tmp_path: Path, more: list[str]) -> None:
    (tmp_path / "classes.txt").write_text("\n".join(NOUNS))
    words = ["mvp-edge", "prune", "--task", "classes.txt", "--zoo", str(body_zoo), "--quiet", *more]
    code = (
        f"import sys\nsys.argv = {words!r}\nfrom mvp_edge_cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as e:\n    assert not e.code, e.code\n"
        "print({'torch', 'timm', 'torchvision'} & {name.split('.')[0] for name in sys.modules})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "set()"
    assert (tmp_path / "out").is_dir()


def test_without_few_dimensions_the_file_takes_every_picture_and_says_so(
    config: PruneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = BodyZoo.features
    monkeypatch.setattr(BodyZoo, "features", lambda self, body: replace(plain(self, body), few=None, stored={}))
    report = compress(config)
    assert report.known is None and list(outputs(config, ["beagle"], 16)) == ["logits"]
    assert [w for w in report.warnings if "no output `known`" in w]
    assert not [w for w in compress(replace(config, unknown=False, force=True)).warnings if "`known`" in w]


def test_parameters_are_those_in_the_file(config: PruneConfig, zoo: BodyZoo) -> None:
    report = compress(config)
    graph = onnx.load(config.out / "model.onnx").graph
    sizes = {t.name: int(np.prod(t.dims)) for t in graph.initializer if t.name.startswith(HEAD)}
    head = sum(n for name, n in sizes.items() if n > 1 and not name.startswith(f"{HEAD}names"))
    assert report.params == zoo.bodies[1].params + head


def test_the_flags_of_other_sizes_are_enough(tmp_path: Path) -> None:
    zoo = open_bodies(None)
    assert zoo is not None
    seen = sorted(set(zoo.features(zoo.bodies[0]).labels.tolist()))
    lists = [range(100, 100 + count) for count in (20, 50, 90)] + [seen[i::21] for i in range(8)]
    for positions in lists:
        config = PruneConfig(task(*(zoo.classes.names[i] for i in positions)), None, tmp_path, zoo="imagenet-lite0")
        request = read_request(config, zoo)
        body, expected = request.expected[1]
        made = cast(Any, SimpleNamespace(threshold=1.0, expected=expected, body=None))
        for size in named.sizes(request, made):
            budget = Budget(macs=1e6 * int(size.flag.removeprefix("--max-macs ").removesuffix("M")))
            own = replace(config, budget=budget)
            assert choose(request, own, by_names(request, own))[0].id == size.member
        for body in zoo.bodies:
            flag = named._flag(request, body, made)
            macs = body.macs + head_costs(request, zoo.features(body), known=True)[0]
            assert macs <= 1e6 * int(flag.removeprefix("--max-macs ").removesuffix("M")) < macs + 1e6


def test_a_budget_of_bytes_goes_by_the_file(config: PruneConfig) -> None:
    made = compress(config).bytes.onnx
    assert compress(replace(config, force=True, budget=Budget(size_kib=made / 1024))).bytes.onnx == made
    with pytest.raises(BudgetError, match=r"Type --max-size-kib \d+") as error:
        compress(replace(config, force=True, budget=Budget(size_kib=1)))
    compress(replace(config, force=True, budget=Budget(size_kib=int(str(error.value).rpartition(" ")[2]))))


def test_more_names_and_classes_than_were_tried(
    config: PruneConfig, zoo: BodyZoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = tuple(replace(b, curve=((2, 90.0),), thresholds=((1, 0.5), (2, 0.6))) for b in zoo.bodies)
    monkeypatch.setattr("mvp_edge.prune.job.open_bodies", lambda _: replace(zoo, bodies=bodies))
    report = compress(replace(config, task=task("jay", "banana", "beagle")))
    assert report.estimate is not None and report.estimate.top1 == 90.0
    assert report.estimate.source.startswith("upper bound: mean over random lists of 2 names, the longest")
    assert report.known is None
    assert any("its threshold is known for at most 2 classes" in w for w in report.warnings)


def test_a_drop_in_tenths_is_compared_exactly() -> None:
    for base, top1, drop in ((93.0, 92.3, 0.7), (98.2, 98.0, 0.2), (91.1, 90.1, 1.0)):
        assert Expected(top1, base, "", 0).drop == drop
