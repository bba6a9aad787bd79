"""What a user gets wrong: one line, the right exit code, nothing left behind."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from .conftest import Done, Run


def left(directory: Path) -> list[Path]:
    """Return what is in a directory, but for what the cache keeps of networks."""
    return sorted(p for p in directory.rglob("*") if directory / "cache" not in (p, *p.parents))


@pytest.fixture
def prune(run: Run, task: Path, images: Path, tiny_zoo: Path, tmp_path: Path) -> Callable[..., str]:
    """Run a `prune` that must fail; return its error, after a look at what it left."""

    def call(*words: object, **flags: object) -> str:
        before = left(tmp_path)
        given = {"task": task, "data": images, "zoo": tiny_zoo, "iterations": 1, "batch_size": 4, **flags}
        options = [w for k, v in given.items() if v is not None for w in (f"--{k.replace('_', '-')}", v)]
        done = run("prune", *options, *words)
        assert left(tmp_path) == before
        assert done.out == ""
        return done.error()

    return call


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"aple\nrose\n", ["'aple'", "apple"]),
        (b"apple\nrose\nApple\n", ["'Apple'", "line 3"]),
        (b"apple\n", ["only one class"]),
        (b"", ["no class"]),
        (b"# nothing\n\n", ["no class"]),
        ("apple\nröse\n".encode("latin-1"), ["line 2", "UTF-8"]),
        ("apple\nrose\n".encode("utf-16"), ["UTF-16", "UTF-8"]),
        (b"apple\nrose = rosy.n.99\n", ["rosy.n.99"]),
    ],
)
def test_class_list(prune: Callable[..., str], tmp_path: Path, content: bytes, wanted: list[str]) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    message = prune(task=path)
    assert all(w in message for w in wanted), message


def test_class_list_that_is_not_there(prune: Callable[..., str], tmp_path: Path) -> None:
    assert "no such file" in prune(task=tmp_path / "none.txt")
    assert "directory" in prune(task=tmp_path)


def test_no_data(prune: Callable[..., str], tmp_path: Path) -> None:
    assert "--data" in prune(data=None)
    assert "not a known data set" in prune(data=tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "has no images" in prune(data=tmp_path / "empty")


def test_class_without_images(prune: Callable[..., str], images: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(images, tmp_path / "copy"))
    for file in (copy / "train" / "rose").iterdir():
        file.unlink()
    message = prune(data=copy)
    assert "no train images for rose" in message


def test_too_many_corrupt_images(prune: Callable[..., str], images: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(images, tmp_path / "copy"))
    for file in list((copy / "train" / "rose").iterdir())[:4]:
        file.write_bytes(b"not a picture")
    assert "4 of 24 images cannot be read" in prune(data=copy)


def test_output_directory_that_exists(prune: Callable[..., str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.json").write_text("{}")
    assert "--force" in prune()
    (out / "report.json").rename(out / "diary.txt")
    assert "not a result" in prune("--force")
    assert "not a result" in prune()
    assert "is a file" in prune(out=out / "diary.txt")


@pytest.mark.parametrize("marker", ["report.json", "index.json"])
def test_force_spares_a_directory_of_somebody_else(prune: Callable[..., str], tmp_path: Path, marker: str) -> None:
    source = tmp_path / "proj" / "src" / "main.c"
    source.parent.mkdir(parents=True)
    source.write_text("int main;")
    for content in ("{}", "[1]", "no JSON", '{"files": ["src"], "task": {}, "base": "b"}'):
        (tmp_path / "proj" / marker).write_text(content)
        assert "not a result" in prune("--force", out=tmp_path / "proj")
        assert source.read_text() == "int main;"


def test_force_spares_what_was_put_into_a_result(
    prune: Callable[..., str], pruned: tuple[Path, Done], tmp_path: Path
) -> None:
    out = Path(shutil.copytree(pruned[0], tmp_path / "out"))
    assert "out exists; replace it with --force" in prune()
    (out / "notes.txt").write_text("mine")
    (out / "photos").mkdir()
    for force in ([], ["--force"]):
        assert "--force does not delete: notes.txt, photos;" in prune(*force)


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_output_directory_that_holds_what_is_needed(
    prune: Callable[..., str], tmp_path: Path, images: Path, zoo: Path, force: list[str]
) -> None:
    assert "current directory" in prune(*force, out=".")
    assert "current directory" in prune(*force, out="")
    assert "current directory" in prune(*force, out=tmp_path.parent)
    out = tmp_path / "out"
    shutil.copytree(images, out / "photos")
    shutil.copytree(zoo, out / "tiny")
    (out / "report.json").write_text("{}")
    (out / "mine.txt").write_text("apple\nrose\n")
    for flag, name in (("task", "mine.txt"), ("data", "photos"), ("zoo", "tiny")):
        assert f"contains the input {out / name};" in prune(*force, **{flag: out / name})
    assert "is inside the data" in prune(*force, data=out / "photos", out=out / "photos" / "new")


def test_output_directory_that_cannot_be_written(
    prune: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "File name too long" in prune(out=tmp_path / ("a" * 300))

    def refuse(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    monkeypatch.setattr("mvp_edge.prune.voted.read_inputs", pytest.fail)  # this must be found before any work
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert f"cannot write to {tmp_path} (Read-only file system)" in prune(out=tmp_path / "new")


@pytest.mark.parametrize("flag", ["task", "data", "zoo"])
def test_a_path_that_the_system_refuses(prune: Callable[..., str], flag: str) -> None:
    assert "File name too long" in prune(**{flag: "a" * 300})


def test_device_that_is_not_there(prune: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert "no CUDA device" in prune(device="cuda")
    assert "no CUDA device" in prune(device="cuda:3")


def test_zoo_that_is_none(prune: Callable[..., str], tmp_path: Path) -> None:
    assert "neither bundled" in prune(zoo="no-such-zoo")
    assert "not a zoo" in prune(zoo=tmp_path)
    assert "not a zoo" in prune(zoo=tmp_path / "classes.txt")


def test_zoo_whose_description_is_damaged(prune: Callable[..., str], zoo: Path) -> None:
    (zoo / "zoo.json").write_text('{"format": 1')
    assert "damaged" in prune(zoo=zoo)
    (zoo / "zoo.json").write_text('{"format": 99}')
    assert "has zoo format 99, but this version reads" in (message := prune(zoo=zoo))
    assert "mvp-edge zoo build" in message


def test_zoo_without_members(prune: Callable[..., str], zoo: Path) -> None:
    shutil.rmtree(zoo / "members")
    assert "no  member" not in (message := prune(zoo=zoo))
    assert "mvp-edge zoo build" in message


def test_budget_out_of_reach(
    prune: Callable[..., str], probe_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setenv("MVP_EDGE_CACHE", str(probe_cache))
    message = prune(max_latency_ms=1e-6, max_params="1k")
    assert "no sub-network" in message
    assert all(w in message for w in ("--max-latency-ms", "--max-params", "the smallest has", "--channel-multiple 1"))
    assert "no sub-network" in prune(budgets="50kparams,1kparams")


def test_damaged_member(prune: Callable[..., str], zoo: Path) -> None:
    for file in zoo.glob("members/*/weights.safetensors.gz"):
        flip_last_byte(file)
    assert "checksum" in prune(zoo=zoo)
    for file in zoo.glob("members/*/member.json"):
        file.write_text(file.read_text()[:100])
    assert "damaged" in prune(zoo=zoo)


def test_member_of_another_base(prune: Callable[..., str], zoo: Path) -> None:
    file = next(zoo.glob("members/*/member.json"))
    value = json.loads(file.read_text())
    file.write_text(json.dumps(value | {"base_sha256": "0" * 64}))
    assert "another base model" in prune(zoo=zoo)


def test_truncated_base(prune: Callable[..., str], zoo: Path) -> None:
    base = zoo / "base.safetensors.gz"
    base.write_bytes(base.read_bytes()[:-100])
    assert "not a readable safetensors" in prune(zoo=zoo)
    base.unlink()
    assert "does not exist" in prune(zoo=zoo)


def test_changed_base(prune: Callable[..., str], zoo: Path) -> None:
    flip_last_byte(zoo / "base.safetensors.gz")
    assert "not a readable safetensors" in prune(zoo=zoo)


@pytest.mark.parametrize(
    "words",
    [
        ["--keep", "0"],
        ["--keep", "1.5"],
        ["--keep", "-0.1"],
        ["--keep", "nan"],
        ["--keep", "half"],
        ["--iterations", "-1"],
        ["--iterations", "1.5"],
        ["--channel-multiple", "0"],
        ["--neighbours", "0"],
        ["--temperature", "0"],
        ["--batch-size", "1"],
        ["--lr", "0"],
        ["--lr", "nan"],
        ["--vote", "loud"],
        ["--similarity", "words"],
        ["--voters", "all"],
        ["--channel-multiple", "wide"],
        ["--channel-multiple", "1.5"],
        ["--method", "luck"],
        ["--max-latency-ms", "0"],
        ["--max-latency-ms", "-1"],
        ["--max-latency-ms", "nan"],
        ["--max-latency-ms", "soon"],
        ["--max-macs", "-7M"],
        ["--max-macs", "inf"],
        ["--max-macs", "7T"],
        ["--max-params", "0"],
        ["--max-params", "few"],
        ["--max-size-kib", "nan"],
        ["--keep", "0.2", "--max-macs", "7M"],
        ["--keep", "0.2", "--budgets", "1ms"],
        ["--budgets", ""],
        ["--budgets", "1ms,"],
        ["--budgets", "1s"],
        ["--budgets", "0ms"],
        ["--budgets", "1ms,1.0ms"],
        ["--budgets", "1ms,2ms", "--max-latency-ms", "3"],
        ["--threads", "0"],
        ["--threads", "two"],
        ["--device", "gpu"],
        ["--device", "cuda:x"],
        ["--precision", "int4"],
        ["--input", "float"],
        ["--no-such-flag"],
    ],
)
def test_bad_flag_of_prune(run: Run, task: Path, images: Path, tmp_path: Path, words: list[str]) -> None:
    usage_error(run, tmp_path, "prune", "--task", task, "--data", images, *words)


def test_a_family_is_not_added_to_a_zoo(run: Run, task: Path, images: Path, tiny_zoo: Path) -> None:
    done = run("prune", "--task", task, "--data", images, "--zoo", tiny_zoo, "--budgets", "1ms", "--add-to-zoo")
    assert "mvp-edge zoo add out/1ms" in done.error() and not Path("out").exists()


def test_a_class_list_without_its_flag(run: Run) -> None:
    done = run("prune", "my classes.txt", "--keep", "0.2")
    said = "'my classes.txt' has no option; give the class list with --task FILE and images with --data DIR"
    assert said in done.usage_error()
    assert run("prune", "classes.txt", "--help").code == 0


@pytest.mark.parametrize(
    "words",
    [
        ["prune"],
        ["bench"],
        ["bench", "a.onnx", "--runs", "0"],
        ["bench", "a.onnx", "--threads", "0"],
        ["bench", "a.onnx", "--batch", "0"],
        ["eval", "a.onnx"],
        ["eval", "a.onnx", "--data", "x", "--threads", "0"],
        ["neighbours", "--task", "classes.txt", "--top", "0"],
        ["neighbours", "--task", "classes.txt", "--threads", "0"],
        ["zoo", "add", "out", "--threads", "-1"],
        ["zoo", "build", "new", "--data", "x", "--threads", "0"],
        ["zoo", "build", "new", "--data", "x", "--keep", "2"],
        ["zoo", "build", "new", "--data", "x", "--generalist", "0"],
        ["zoo", "build", "new", "--data", "x", "--channel-multiple", "0"],
        ["zoo", "build", "new", "--data", "x", "--members", "-1"],
        ["zoo", "build", "new", "--data", "x", "--ways", "1"],
        ["zoo", "build", "new", "--data", "x", "--iterations", "-5"],
        ["zoo", "build", "new", "--data", "x", "--generalist-iterations", "-5"],
        ["zoo", "build", "new", "--data", "x", "--importance", "luck"],
        ["pretrain", "--data", "x", "--epochs", "0"],
        ["pretrain", "--data", "x", "--epochs", "inf"],
        ["pretrain", "--data", "x", "--lr", "-1"],
        ["pretrain", "--data", "x", "--threads", "0"],
        ["pretrain", "--data", "x", "--small-size", "-8", "--small-epochs", "1"],
        ["pretrain", "--data", "x", "--small-size", "16"],
        ["pretrain", "--data", "x", "--small-epochs", "1"],
        ["pretrain", "--data", "x", "--small-size", "16", "--epochs", "2", "--small-epochs", "3"],
        ["pretrain", "--data", "x", "--out", "base.pth"],
    ],
)
def test_bad_flag_elsewhere(run: Run, tmp_path: Path, words: list[str]) -> None:
    usage_error(run, tmp_path, *words)


@pytest.mark.parametrize("words", [["bench", "fake.onnx"], ["eval", "fake.onnx", "--data", "."]])
def test_file_that_is_no_onnx(run: Run, tmp_path: Path, words: list[str]) -> None:
    assert "is not a file" in run(*words).error()
    (tmp_path / "fake.onnx").write_bytes(b"no model at all")
    assert "cannot be loaded as an ONNX model" in run(*words).error()


def test_more_than_the_memory_holds(run: Run, pruned: tuple[Path, Done]) -> None:
    assert "memory" in run("bench", pruned[0] / "model.onnx", "--runs", 1, "--batch", 10**12).error()


@pytest.mark.parametrize(("name", "hint"), [("plot.pdf", ".svg or .png"), ("none/plot.svg", "mkdir -p none")])
def test_plot_that_cannot_be(run: Run, tmp_path: Path, name: str, hint: str) -> None:
    assert hint in run("bench", "fake.onnx", "--plot", name).error()
    assert not list(tmp_path.iterdir())


def test_zoo_build_from_a_bad_base(run: Run, images: Path, tiny_base: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))

    def build(base: object) -> str:
        done = run("zoo", "build", "new", "--data", images, "--base", base)
        assert sorted(p for p in tmp_path.rglob("*") if p.suffix != ".safetensors") == before
        return done.error()

    assert "is unknown" in build("resnet-of-mine")
    assert "timm has no model" in build("timm:resnet17")
    assert "does not exist" in build("none.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(tiny_base.read_bytes()[:1000])
    assert "not a readable safetensors file" in build("cut.safetensors")


def test_zoo_build_that_asks_for_more_than_there_is(run: Run, images: Path, zoo: Path) -> None:
    words = ["zoo", "build", zoo, "--data", images, "--iterations", "1", "--batch-size", "4"]
    assert "ways" in run(*words, "--ways", "7").error()
    assert "members" in run(*words, "--ways", "6", "--members", "2").error()


def test_zoo_build_in_a_place_that_holds_something_else(run: Run, images: Path, tiny_base: Path, task: Path) -> None:
    done = run("zoo", "build", task.parent, "--data", images, "--base", tiny_base)
    assert "not a zoo" in done.error()


def test_neighbours_without_images(run: Run, task: Path, tiny_zoo: Path) -> None:
    assert (
        "--similarity wordnet" in run("neighbours", "--task", task, "--zoo", tiny_zoo, "--similarity", "leep").error()
    )


def test_pretrain_does_not_replace_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "base.safetensors").write_text("precious")
    assert "--force" in run("pretrain", "--data", "x").error()
    assert "mkdir" in run("pretrain", "--data", "x", "--out", "a/b.safetensors").error()


def flip_last_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 255
    path.write_bytes(data)


def usage_error(run: Run, directory: Path, *words: object) -> None:
    before = sorted(directory.rglob("*"))
    done = run(*words)
    done.usage_error()
    assert done.out == ""
    assert sorted(directory.rglob("*")) == before


@pytest.mark.parametrize(
    "words",
    [
        "prune --task LOOP",
        "prune --task TASK --data LOOP",
        "prune --task TASK --none LOOP --data IMAGES",
        "prune --task TASK --zoo LOOP",
        "prune --task TASK --base timm:test_resnet --weights LOOP",
        "prune --task TASK --out LOOP",
        "prune --task TASK --out LOOP/inside",
        "prune --task TASK --zoo ZOO --out LOOP/inside/further --force",
        "neighbours --task LOOP",
        "bench LOOP",
        "eval LOOP --data IMAGES",
        "eval MODEL --data LOOP",
        "data LOOP",
        "data IMAGES --contact-sheet LOOP",
        "predict LOOP photo.jpg",
        "predict MODEL LOOP",
        "export LOOP --target ort",
        "export RESULT --target ort --out LOOP",
        "export RESULT --target web --ort-web LOOP",
        "push LOOP site",
        "push RESULT LOOP",
        "zoo push LOOP site",
        "zoo push ZOO LOOP",
        "zoo trim ZOO --members 1 --out LOOP",
        "zoo merge ZOO ZOO --out LOOP",
        "zoo build LOOP --base timm:test_resnet --data IMAGES --members 0",
        "zoo build new --base timm:test_resnet --data LOOP --members 0",
        "zoo add LOOP --zoo ZOO",
        "zoo verify LOOP",
        "pretrain --base vit-cifar100 --data LOOP --out new.safetensors",
        "pretrain --base vit-cifar100 --data IMAGES --out LOOP.safetensors",
    ],
)
def test_a_loop_of_links_is_one_line(
    run: Run, words: str, pruned: tuple[Path, Done], images: Path, tiny_zoo: Path, task: Path, tmp_path: Path
) -> None:
    for name in ("ring", "ring.safetensors"):
        (tmp_path / name).symlink_to(tmp_path / name)
    before = left(tmp_path)
    stands = {"TASK": task, "IMAGES": images, "ZOO": tiny_zoo, "RESULT": pruned[0], "MODEL": pruned[0] / "model.onnx"}
    done = run(*(stands.get(word, word.replace("LOOP", "ring")) for word in words.split()))
    assert "ring" in done.error() and "Traceback" not in done.err
    assert left(tmp_path) == before
