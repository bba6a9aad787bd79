"""What `prune`, `eval`, `bench`, `bases` and `pretrain` print when all goes well."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import RESNET_ZOO
from cli.main import main
from mvp_edge.core.errors import ConfigError
from mvp_edge.models.bases import load_base
from mvp_edge.report import Report
from tests.report.example import example_report

from .conftest import Done, Run


def test_prune_prints_its_report(pruned: tuple[Path, Done]) -> None:
    out, done = pruned
    assert done.code == 0, done.err
    assert done.out == (out / "report.json").read_text()
    assert sorted(p.name for p in out.iterdir()) == sorted(done.json["files"])
    assert (out / "labels.txt").read_text() == "tiger\napple\nrose\n"
    assert done.json["seed"] == 1
    assert done.json["keep"]["requested"] == 0.5
    assert len(done.json["voters"]) == 2


def test_json_is_ascii_whatever_the_classes_are_called(
    run: Run, task: Path, tiny_zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["pêche", "桃"]
    made = example_report() | {"task": {"classes": names, "synsets": [None, None], "id": "t"}}
    monkeypatch.setattr("mvp_edge.prune.job.compress", lambda *_: Report.from_json(made))
    done = run("prune", "--task", task, "--zoo", tiny_zoo, "--json")
    assert done.out.isascii() and done.json["task"]["classes"] == names


def test_prune_for_people(run: Run, task: Path, images: Path, tiny_zoo: Path) -> None:
    words = ["prune", "--task", task, "--data", images, "--zoo", tiny_zoo, "--iterations", 1, "--batch-size", 4]
    done = run(*words, "--similarity", "wordnet", "--out", "there")
    assert done.code == 0, done.err
    for wanted in (
        "top-1",
        "of 12 test images, before fine-tuning: ",
        "MACs",
        "fewer",
        "latency",
        "1 CPU thread",
        "voters",
        "there: model.onnx",
    ):
        assert wanted in done.out
    assert run(*words, "--out", "there", "--force", "--quiet").code == 0


def test_prune_under_a_budget(
    run: Run, task: Path, images: Path, tiny_zoo: Path, probe_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MVP_EDGE_CACHE", str(probe_cache))
    words = ["prune", "--task", task, "--data", images, "--zoo", tiny_zoo, "--iterations", 1, "--batch-size", 4]
    done = run(*words, "--max-params", "60k", "--max-size-kib", 1000, "--json")
    assert done.code == 0, done.err
    report = done.json
    assert report["budget"]["params"] == {"limit": 60000, "achieved": report["params"]}
    assert 54000 < report["params"] <= 60000
    assert report["budget"]["size_kib"]["achieved"] == round(report["bytes"]["onnx"] / 1024, 4)
    assert report["keep"]["requested"] is None
    assert all(g["requested"] == g["kept"] for g in report["groups"])
    page = (task.parent / "out" / "report.html").read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    assert "at most 60.0 k parameters, measured" in page
    words += ["--force", "--max-macs", "2M", "--max-latency-ms", 5, "--channel-multiple", "auto", "--method", "smsp"]
    done = run(*words)
    assert done.code == 0, done.err
    assert "M MACs of 2.00 M MACs" in done.out and "of 5.00 ms" in done.out
    plan = json.loads((task.parent / "out" / "plan.json").read_text())
    assert all(g["count"] >= plan["requested"][g["name"]] for g in plan["groups"])
    assert json.loads((task.parent / "out" / "report.json").read_text())["method"].startswith("SMSP")


def test_a_budget_without_images(
    run: Run, task: Path, generalist_zoo: Path, probe_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MVP_EDGE_CACHE", str(probe_cache))
    words = ["prune", "--task", task, "--zoo", generalist_zoo, "--json", "--force"]
    large = run(*words, "--max-params", "10M").json
    small = run(*words, "--max-params", large["params"] - 1).json
    assert large["params"] > small["params"]  # the two generalists as they are
    assert small["voters"][0]["kind"] == "generalist"
    assert any("not used up" in w for w in large["warnings"])
    error = run(*words, "--max-params", "1k").error()
    assert f"smallest has {small['params']:,} parameters" in error and "--data" in error
    assert "smsp" in run(*words, "--method", "smsp").error()


def test_prune_a_family(run: Run, task: Path, images: Path, tiny_zoo: Path) -> None:
    words = ["prune", "--task", task, "--data", images, "--zoo", tiny_zoo, "--iterations", 1, "--batch-size", 4]
    done = run(*words, "--budgets", "0.6MMACs, 20kparams,0.1MiB", "--max-latency-ms", 60, "--json")
    assert done.code == 0, done.err
    index, out = done.json, task.parent / "out"
    assert done.out == (out / "index.json").read_text()
    names = ["60ms-0.6MMACs", "60ms-20kparams", "60ms-0.1MiB"]
    assert [m["directory"] for m in index["models"]] == names
    assert sorted(p.name for p in out.iterdir()) == sorted([*names, "index.json", "index.html"])
    for model in index["models"]:
        report = json.loads((out / model["directory"] / "report.json").read_text())
        assert (out / model["directory"] / "model.onnx").stat().st_size == report["bytes"]["onnx"]
        assert model["top1"] == report["accuracy"]["top1"]
        assert report["out"] == f"out/{model['directory']}"
        assert all(v["achieved"] <= v["limit"] for v in model["budget"].values())
    page = (out / "index.html").read_text()
    assert all(f'href="{name}/report.html"' in page for name in names)
    done = run(*words, "--budgets", "20kparams", "--force")
    assert done.code == 0, done.err
    assert "20kparams" in done.out
    assert sorted(p.name for p in out.iterdir()) == ["20kparams", "index.html", "index.json"]


def test_the_report_tells_the_threads(run: Run, task: Path, images: Path, tiny_zoo: Path) -> None:
    before = torch.get_num_threads()
    try:
        words = ["prune", "--task", task, "--data", images, "--zoo", tiny_zoo, "--iterations", 0, "--json"]
        done = run(*words, "--threads", before + 1)
    finally:
        torch.set_num_threads(before)
    assert done.json["environment"]["torch_threads"] == before + 1
    assert done.json["latency_ms"]["threads"] == 1


@pytest.mark.parametrize(
    "words",
    [
        "prune --task classes.txt --data x",
        f"neighbours --task classes.txt --zoo {RESNET_ZOO}",
        "eval model.onnx --data x",
        "pretrain --data x",
        "zoo build new --data x",
        "zoo add out",
    ],
)
def test_threads_are_set_before_any_work(run: Run, task: Path, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    def told(count: int | None) -> None:
        raise ConfigError(f"{count} threads")

    monkeypatch.setattr("mvp_edge.core.device.use_threads", told)
    assert run(*words.split(), "--threads", 3).error() == "3 threads\n"
    assert run(*words.split()).error() == "None threads\n"


def test_eval(run: Run, pruned: tuple[Path, Done], images: Path) -> None:
    found = run("eval", pruned[0] / "model.onnx", "--data", images, "--json").json
    assert found["accuracy"]["top1"] == pruned[1].json["accuracy"]["top1"]
    assert found["accuracy"]["per_class"].keys() == {"tiger", "apple", "rose"}
    assert "tiger" in run("eval", pruned[0] / "model.onnx", "--data", images).out


def test_eval_names_classes_without_images(run: Run, pruned: tuple[Path, Done], images: Path, tmp_path: Path) -> None:
    own = shutil.copytree(images, tmp_path / "own")
    for split in ("train", "test"):
        shutil.rmtree(own / split / "tiger")
    told = run("eval", pruned[0] / "model.onnx", "--data", own).error()
    assert "has no images of tiger, which" in told and "add some" in told


def test_eval_leaves_out_what_prune_leaves_out(
    run: Run, pruned: tuple[Path, Done], images: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(images, tmp_path / "own"))
    shutil.copy(next((own / "train" / "tiger").iterdir()), own / "test" / "tiger" / "again.png")
    found = run("eval", pruned[0] / "model.onnx", "--data", own, "--json").json
    assert found["accuracy"]["n"] == pruned[1].json["accuracy"]["n"]
    assert "1 test images are copies of images of other splits, and are not counted" in found["warnings"]
    shutil.rmtree(own / "train")
    alone = run("eval", pruned[0] / "model.onnx", "--data", own, "--json").json
    assert alone["accuracy"]["n"] == 1 + found["accuracy"]["n"]


def test_bench(run: Run, pruned: tuple[Path, Done]) -> None:
    model = pruned[0] / "model.onnx"
    found = run("bench", model, "--vs", model, "--runs", 30, "--batch", 2, "--json").json
    assert [m["path"] for m in found["models"]] == [str(model)] * 2
    assert found["models"][0]["ratio"] == 1
    assert found["runs"] >= 30
    assert (found["threads"], found["batch"]) == ([1], 2)
    assert found["models"][1]["ratio_quartiles"] is None  # of two rounds
    assert len(run("bench", model, model, "--runs", 80, "--json").json["models"][1]["ratio_quartiles"]) == 2
    done = run("bench", model, model, "--runs", 3)
    assert "too few runs for a range" in done.err and "slower" not in done.out and "faster" not in done.out
    done = run("bench", model, "--runs", 3)
    assert "median" in done.out and done.err == ""


def test_bench_of_several_threads_with_profile_and_plot(run: Run, pruned: tuple[Path, Done], tmp_path: Path) -> None:
    model = pruned[0] / "model.onnx"
    words = ["bench", model, model, "--threads", 2, "--threads", 1, "--runs", 20, "--profile"]
    found = run(*words, "--plot", "a.svg", "--json").json
    assert [(m["threads"], m["clock"]) for m in found["models"]] == [(1, "processor"), (2, "wall")] * 2
    assert [p["threads"] for p in found["profiles"]] == [1, 1]
    assert sum(o["share"] for o in found["profiles"][0]["operators"]) == pytest.approx(1, abs=0.01)
    assert (tmp_path / "a.svg").is_file()
    out = run(*words).out
    for wanted in ("threads", "Conv", "slowest nodes", "between operators", "in turns, 1 and 2 threads"):
        assert wanted in out


def test_prune_in_other_precisions(run: Run, task: Path, images: Path, tiny_zoo: Path, tmp_path: Path) -> None:
    words = ["prune", "--task", task, "--data", images, "--zoo", tiny_zoo, "--iterations", 1, "--batch-size", 4]
    words += ["--similarity", "wordnet", "--force"]
    report = run(*words, "--precision", "int8", "--input", "uint8-nhwc", "--json").json
    full, small = report["precisions"]["files"]
    assert (full["precision"], small["precision"], small["kept"]) == ("fp32", "int8", True)
    assert report["input"] == "uint8-nhwc"
    assert report["files"][-1] == "model-int8.onnx"
    assert full["top1"] == report["accuracy"]["top1"]
    assert full["latency_ms"] == report["latency_ms"]["pruned"]  # all files took turns once
    scored = run("eval", "out/model-int8.onnx", "--data", images, "--json").json
    assert scored["accuracy"]["top1"] == small["top1"]
    assert run("bench", "out/model.onnx", "out/model-int8.onnx", "--runs", 5).code == 0
    assert len(run(*words, "--precision", "fp32", "--json").json["precisions"]["files"]) == 1
    assert not (tmp_path / "out" / "model-int8.onnx").exists()
    assert "fp16" in run(*words, "--precision", "fp16").out


def test_bases(run: Run) -> None:
    assert "resnet18-cifar100" in [b["name"] for b in run("bases", "--json").json["bases"]]
    assert "timm:NAME" in run("bases").out


def test_pretrain(run: Run, images: Path, tiny_base: Path, tmp_path: Path) -> None:
    words = ["pretrain", "--base", "timm:test_resnet", "--data", images, "--epochs", 1, "--batch-size", 16, "--json"]
    done = run(*words, "--init", tiny_base, "--lr", 0.01)
    assert done.code == 0, done.err
    assert done.json["n"] == 24
    base, _ = load_base(str(tmp_path / "base.safetensors"))
    assert base.classes == ("apple", "chair", "crab", "plain", "rose", "tiger")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base.safetensors"]


@pytest.mark.skipif(os.name == "nt", reason="pipes close differently")
def test_a_closed_pipe_is_no_error(tiny_zoo: Path) -> None:
    command = [sys.executable, "-m", "mvp_edge_cli", "zoo", "list", "--json", "--zoo", str(tiny_zoo)]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.stderr == ""


def test_a_name_that_the_terminal_cannot_show(tiny_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "classes.txt").write_text("rose\nKäfer\n", encoding="utf-8")
    words = ["neighbours", "--task", str(tmp_path / "classes.txt"), "--json", "--zoo", str(tiny_zoo)]
    monkeypatch.setattr(sys, "argv", ["mvp-edge", *words, "--similarity", "wordnet"])
    monkeypatch.setattr("cli.process.start", lambda: None)  # it would handle this process's signals
    monkeypatch.setattr(sys, "stdout", shown := io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    shown.seek(0)
    assert json.loads(shown.read().replace("\\xe4", "\\u00e4"))["task"]["classes"] == ["rose", "Käfer"]
