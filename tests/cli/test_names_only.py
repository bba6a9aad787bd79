"""`prune` without images: a member that knows all classes is cut to them, and its accuracy is known beforehand."""

from __future__ import annotations

import json
import shutil
from inspect import signature
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from cli.prune import IDLE, prune
from mvp_edge.data import open_source
from mvp_edge.zoo.store import open_zoo

from .conftest import Run


def words(task: Path, zoo: Path, *more: object) -> list[object]:
    return ["prune", "--task", task, "--zoo", zoo, *more]


def test_the_accuracy_told_is_that_of_the_delivered_file(
    run: Run, task: Path, generalist_zoo: Path, images: Path
) -> None:
    done = run(*words(task, generalist_zoo, "--keep", 0.5, "--json"))
    assert done.code == 0, done.err
    report = done.json
    assert report == json.loads(Path("out/report.json").read_text())
    assert sorted(p.name for p in Path("out").iterdir()) == sorted(report["files"])
    assert report["settings"]["vote"]["similarity"] == "wordnet"
    assert report["settings"]["fit"]["iterations"] == 0
    assert report["nominal_training_tflops"] == 0
    assert "stored outputs" in report["accuracy"]["source"]
    assert report["data"] is None
    assert (report["origin"], report["method"]) == ("ready-made", "a ready-made generalist, as it is")
    test = open_source(str(images)).load(("tiger", "apple", "rose"), "test", (32, 32))
    session = onnxruntime.InferenceSession("out/model.onnx")
    (logits,) = session.run(None, {session.get_inputs()[0].name: test.images.numpy().astype(np.float32) / 255})
    right = np.asarray(logits).argmax(1) == test.labels.numpy()
    assert report["accuracy"]["n"] == len(right)
    assert report["accuracy"]["top1"] == pytest.approx(100 * right.mean(), abs=0.01)
    assert "tiger" in Path("out/report.html").read_text()


def test_the_largest_member_within_the_size_asked_for(run: Run, task: Path, generalist_zoo: Path) -> None:
    zoo = open_zoo(str(generalist_zoo))
    small, large = sorted((i for i in zoo.infos() if i.kind == "generalist"), key=lambda i: i.plan.achieved)
    for keep, expected in ((0.6, small), (0.8, large), (1.0, large)):
        report = run(*words(task, generalist_zoo, "--keep", keep, "--json", "--force")).json
        assert [n["id"] for n in report["voters"]] == [expected.id]
        assert report["keep"] == {"requested": keep, "achieved": round(expected.plan.achieved, 4)}
        far = expected.plan.achieved < 0.8 * keep
        assert any("was requested, and the largest member" in w for w in report["warnings"]) is far
    assert "keep more" in run(*words(task, generalist_zoo, "--keep", 0.1, "--out", "none")).error()
    assert not Path("none").exists()


def test_pictures_of_nothing_without_the_output_that_they_set(run: Run, task: Path, generalist_zoo: Path) -> None:
    done = run(*words(task, generalist_zoo, "--data", "photos", "--none", "walls", "--no-unknown"))
    assert done.code == 2 and "--none" in " ".join(done.err.split())


@pytest.mark.parametrize("channel_multiple", ["auto", 1, 3, 16])
def test_lanes_do_not_decide_which_member_it_is(
    run: Run, task: Path, generalist_zoo: Path, channel_multiple: object
) -> None:
    small = min(
        (i for i in open_zoo(str(generalist_zoo)).infos() if i.kind == "generalist"), key=lambda i: i.plan.achieved
    )
    done = run(
        *words(
            task, generalist_zoo, "--keep", 0.5, "--channel-multiple", channel_multiple, "--precision", "fp32", "--json"
        )
    )
    assert [n["id"] for n in done.json["voters"]] == [small.id]
    assert "--channel-multiple has no effect" in " ".join(done.err.split())


def test_other_sizes_are_told_with_what_to_type(run: Run, task: Path, generalist_zoo: Path) -> None:
    done = run(*words(task, generalist_zoo, "--keep", 0.5))
    small, large = json.loads(Path("out/report.json").read_text())["sizes"]
    assert (small["keep"], large["keep"]) == (0.5, 0.75)
    assert f"other sizes {large['top1']:.1f} % at --keep 0.75 " in " ".join(done.out.split()) + " "


def test_classes_that_the_base_does_not_know(run: Run, tmp_path: Path, generalist_zoo: Path) -> None:
    path = tmp_path / "unknown.txt"
    path.write_text("tiger\nlion\napples\n")
    message = run(*words(path, generalist_zoo)).error()
    assert "'lion'" in message and "nearest: tiger" in message
    assert "'apples'" in message and "nearest: apple" in message
    assert "'tiger' is unknown" not in message
    assert "--data" in message


def test_a_base_that_names_no_classes(run: Run, task: Path, nameless_zoo: Path, tmp_path: Path) -> None:
    """Its generalists know those of the images that they were made from."""
    done = run(*words(task, nameless_zoo, "--keep", 0.5, "--json"))
    assert done.code == 0, done.err
    assert done.json["accuracy"]["n"] == 12
    path = tmp_path / "unknown.txt"
    path.write_text("tiger\nlion\n")
    message = run(*words(path, nameless_zoo, "--out", "none")).error()
    assert "'lion' is unknown to timm:test_resnet (nearest: tiger" in message


def test_a_zoo_without_generalist_members(run: Run, task: Path, tiny_zoo: Path) -> None:
    assert "--data" in run(*words(task, tiny_zoo)).error()


def test_the_result_is_not_added_to_a_zoo_later_either(run: Run, task: Path, generalist_zoo: Path) -> None:
    assert run(*words(task, generalist_zoo, "--keep", 0.5)).code == 0
    before = open_zoo(str(generalist_zoo)).ids()
    assert "without images" in run("zoo", "add", "out", "--zoo", generalist_zoo).error()
    assert open_zoo(str(generalist_zoo)).ids() == before


def test_a_family_of_members_whose_accuracy_is_unknown(
    run: Run, task: Path, generalist_zoo: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(generalist_zoo, tmp_path / "own"))
    for file in own.glob("members/*/member.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"outputs_sha256": ""}))
    done = run(*words(task, own, "--budgets", "900kparams", "--json"))
    assert [m["top1"] for m in done.json["models"]] == [None]
    assert "accuracy is unknown" in done.err


@pytest.mark.parametrize("flags", [["--similarity", "leep"], ["--voters", "specialist"], ["--add-to-zoo"]])
def test_flags_that_need_images(run: Run, task: Path, generalist_zoo: Path, flags: list[str]) -> None:
    assert "--data" in run(*words(task, generalist_zoo, *flags)).error()


def test_flags_that_change_nothing_are_told(run: Run, task: Path, generalist_zoo: Path) -> None:
    done = run(*words(task, generalist_zoo, "--keep", 0.5, "--iterations", 7, "--lr", 0.1))
    assert done.code == 0, done.err
    assert "--iterations, --lr have no effect; add --data DIR" in " ".join(done.err.split())
    assert "no effect" not in run(*words(task, generalist_zoo, "--keep", 0.5, "--force")).err


def test_flags_of_other_zoos_are_told(run: Run, task: Path, generalist_zoo: Path, body_zoo: Path) -> None:
    more = ["--max-drop", 2, "--no-unknown", "--vote", "sample", "--seed", 1]
    told = " ".join(run(*words(task, generalist_zoo, "--keep", 0.5, *more)).err.split())
    assert "pruned members, so --max-drop, --no-unknown have no effect" in told
    assert "without images a network is delivered unchanged, so --vote has no effect" in told
    task.write_text("espresso\nbicycle\n")
    voting = ["--method", "smsp", "--similarity", "leep", "--voters", "specialist", "--vote", "sample", "--lr", 1]
    budget = ["--max-macs", "1G", "--max-drop", 2, "--no-unknown", "--force"]
    told = " ".join(run(*words(task, body_zoo, *voting, *budget)).err.split())
    assert "none vote, so --vote, --method, --similarity, --voters have no effect" in told
    assert "unchanged, so --lr has no effect" in told and "a budget sets the size, so --max-drop has no effect" in told
    assert "no effect" not in run(*words(task, body_zoo, "--max-drop", 2, "--no-unknown", "--force")).err


def test_idle_flags_are_options() -> None:
    assert {flag for row in IDLE for flag in row.flags} <= signature(prune).parameters.keys()


def test_neighbours_by_words(run: Run, task: Path, generalist_zoo: Path) -> None:
    assert run("neighbours", "--task", task, "--zoo", generalist_zoo, "--json").json["similarity"] == "wordnet"
    assert "--data" in run("neighbours", "--task", task, "--zoo", generalist_zoo, "--similarity", "leep").error()


def test_without_images_no_int8_file_is_made(run: Run, task: Path, generalist_zoo: Path) -> None:
    wanted = words(task, generalist_zoo, "--keep", 0.5)
    assert "--data" in run(*wanted, "--precision", "int8").error()
    assert not Path("out").exists()
    int8 = run(*wanted, "--json").json["precisions"]["files"][1]
    assert (int8["precision"], int8["kept"], int8["bytes"]) == ("int8", False, None)
    assert "--data" in int8["reasons"][0]
