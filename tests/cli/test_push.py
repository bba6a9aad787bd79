"""Zoos and results that are published, and used by their address."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from mvp_edge.core.atomic import write_atomically
from tests.hub import Hub, serving

from .conftest import Done, Run

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=")  # huggingface_hub's way to use its own HTTP library


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(monkeypatch) as found:
        yield found


def head(card: bytes) -> dict:
    """Return a card's front matter."""
    return yaml.safe_load(card.decode().split("---")[1])


def test_a_zoo_is_published_and_used_by_its_address(hub: Hub, run: Run, body_zoo: Path, tmp_path: Path) -> None:
    published = run("zoo", "push", body_zoo, "hf://me/bodies", "--private", "--json").json["published"]
    assert published == f"hf://me/bodies@{hub.commit('me/bodies', 1)}" and hub.private == {"me/bodies"}
    assert run("zoo", "classes", "hf://me/bodies").out == run("zoo", "classes", body_zoo).out
    (tmp_path / "classes.txt").write_text("espresso\nteapot\nbanana\n")
    done = run("prune", "--task", "classes.txt", "--zoo", published, "--max-macs", "300k", "--json")
    assert done.code == 0 and done.json["body"]["id"] == "tiny-16"
    kept = next((tmp_path / "cache" / "zoos").glob("bodies-*/weights"))
    assert [f.name for f in kept.iterdir()] == ["tiny-16.safetensors.gz"]  # and nothing of the others
    told = run("zoo", "fetch", "hf://me/bodies")
    assert told.out.startswith(f"{published} is in ")
    assert run("zoo", "verify", "hf://me/bodies").code == 0
    assert all(hub.token not in text for text in (done.out, done.err, told.out, told.err))


def test_the_card_of_a_zoo(hub: Hub, run: Run, generalist_zoo: Path) -> None:
    assert run("zoo", "push", generalist_zoo, "hf://me/zoo").out.startswith("published: hf://me/zoo@")
    files = hub.repos["me/zoo"][-1]
    about = head(files["README.md"])
    assert about["license"] == "apache-2.0" and about["pipeline_tag"] == "image-classification"
    (model,) = about["model-index"]
    assert model["name"] == "generalist" and len(model["results"][0]["metrics"]) == 2
    text = files["README.md"].decode()
    assert "apple, chair, crab, plain, rose, tiger" in text and "--zoo hf://me/zoo" in text
    assert {"zoo.json", "index.json.gz", "base.safetensors.gz"} <= files.keys()


def test_names_in_a_card_are_no_html(run: Run, zoo: Path, tmp_path: Path) -> None:
    text = (zoo / "zoo.json").read_text().replace('"crab"', '"<script>alert(1)</script> | *x*"')
    (zoo / "zoo.json").write_text(text)
    assert run("zoo", "push", zoo, tmp_path / "out").code == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "<script" not in card and r"&lt;script&gt;alert\(1\)&lt;/script&gt; \| \*x\*" in card


def test_a_member_from_elsewhere_votes(hub: Hub, run: Run, tiny_zoo: Path, images: Path, task: Path) -> None:
    run("zoo", "push", tiny_zoo, "hf://me/tiny")
    done = run(
        "prune", "--task", task, "--data", images, "--zoo", "hf://me/tiny", "--keep", 0.5, "--channel-multiple", 4,
        "--neighbours", 1, "--similarity", "wordnet", "--iterations", 2, "--batch-size", 8, "--json",
    )  # fmt: skip
    assert done.code == 0 and len(done.json["voters"]) == 1
    weights = [path for method, path in hub.asked if method == "GET" and path.endswith("weights.safetensors.gz")]
    assert len(weights) == 1 and done.json["voters"][0]["id"] in weights[0]


def test_a_base_from_elsewhere(hub: Hub, run: Run, tiny_zoo: Path, images: Path) -> None:
    run("zoo", "push", tiny_zoo, "hf://me/tiny")
    built = run("zoo", "build", "new", "--base", "hf://me/tiny", "--data", images, "--members", 0, "--json")
    assert built.json["zoo"]["base"] == "timm:test_resnet"
    told = run("zoo", "build", "n", "--base", "hf://me/tiny", "--weights", "w", "--data", images, "--members", 0)
    assert "leave --weights out" in told.error()


def test_a_result_is_published(hub: Hub, run: Run, pruned: tuple[Path, Done], tmp_path: Path) -> None:
    out, done = pruned
    assert run("push", out, "hf://me/model").out.startswith("published: hf://me/model@")
    files = hub.repos["me/model"][-1]
    assert {"README.md", "config.json", "labels.txt", "model.onnx"} <= files.keys()
    assert not {"report.json", "plan.json", "weights.safetensors"} & files.keys()
    assert files["model.onnx"] == (out / "model.onnx").read_bytes()
    config = json.loads(files["config.json"])
    assert config["id2label"] == {"0": "tiger", "1": "apple", "2": "rose"} and config["label2id"]["rose"] == 2
    assert config["interface"]["input"]["shape"][1] == 3
    (metric,) = head(files["README.md"])["model-index"][0]["results"][0]["metrics"]
    assert metric["value"] == done.json["accuracy"]["top1"]
    assert str(tmp_path) not in files["README.md"].decode()
    run("push", out, tmp_path / "published")
    assert (tmp_path / "published" / "config.json").read_bytes() == files["config.json"]


def test_an_estimate_is_called_one(run: Run, body_zoo: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("espresso\nteapot\nbanana\n")
    assert run("prune", "--task", "classes.txt", "--zoo", body_zoo).code == 0
    assert run("push", "out", "published", "--json").json == {"published": "published"}
    card = (tmp_path / "published" / "README.md").read_text()
    assert "%, estimate: " in card and "output `known`" in card
    (result,) = head(card.encode())["model-index"][0]["results"]
    assert "expected" in result["metrics"][0]["name"] and not result["dataset"]["name"].startswith("estimate")


def files_in(directory: Path) -> dict[str, bytes]:
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", ["README.md", "config.json", "model.onnx", "zoo.json", "members/mine.txt", "fifo"])
def test_files_of_the_user_are_not_overwritten(
    run: Run, pruned: tuple[Path, Done], zoo: Path, tmp_path: Path, name: str
) -> None:
    target = tmp_path / "site"
    (target / name).parent.mkdir(parents=True)
    os.mkfifo(target / name) if name == "fifo" else (target / name).write_text("mine")
    before = files_in(target)
    for words in (("push", pruned[0]), ("zoo", "push", zoo)):
        error = run(*words, target).error()
        assert name.split("/")[0] in error and "did not write" in error and "move them, or choose" in error
        assert files_in(target) == before


def test_a_directory_is_pushed_to_again(run: Run, pruned: tuple[Path, Done], zoo: Path, tmp_path: Path) -> None:
    result = Path(shutil.copytree(pruned[0], tmp_path / "own"))
    (result / "model-fp16.onnx").write_bytes(b"half")
    for words, part in ((("push", result), result / "model-fp16.onnx"), (("zoo", "push", zoo), first_member(zoo))):
        target = tmp_path / f"site-{words[0]}"
        assert run(*words, target).code == run(*words, target).code == 0
        gone = {n for n in files_in(target) if part.name in n}
        shutil.rmtree(part) if part.is_dir() else part.unlink()
        assert gone and run(*words, target).code == 0
        assert not gone & files_in(target).keys() and not list(target.rglob(part.name))
        other = ("zoo", "push", zoo) if words[0] == "push" else ("push", result)
        assert run(*other, target).code == 0  # all there is was written by a push
        (target / "README.md").write_text("my own words")
        assert "README.md" in run(*other, target).error()
        assert (target / "README.md").read_text() == "my own words"


def test_a_push_that_broke_off_can_be_repeated(
    run: Run, pruned: tuple[Path, Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, target = Path(shutil.copytree(pruned[0], tmp_path / "own")), tmp_path / "site"
    assert run("push", result, target).code == 0
    (result / "labels.txt").write_text("lion\napple\nrose\n")
    with monkeypatch.context() as patch:
        patch.setattr("mvp_edge.zoo.remote.write_atomically", breaking_at("config.json"))
        assert "No space left" in run("push", result, target).error()
    assert run("push", result, target).code == 0
    assert (target / "labels.txt").read_text() == "lion\napple\nrose\n"


def first_member(zoo: Path) -> Path:
    return sorted((zoo / "members").iterdir())[0]


def breaking_at(name: str) -> Callable[[Path, bytes], None]:
    def write(path: Path, data: bytes) -> None:
        if path.name == name:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_atomically(path, data)

    return write


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["zoo", "push", "ZOO", "https://host/zoo"], "cannot be written over HTTP"),
        (["zoo", "push", "ZOO", "ftp://host/zoo"], "must be one of hf://"),
        (["zoo", "push", "ZOO", "out", "--private"], "--private is for"),
        (["zoo", "push", "ZOO", "."], "did not write"),
        (["zoo", "push", "nothing", "hf://me/zoo"], "neither bundled"),
        (["zoo", "fetch", "hf://me/nothing"], "does not exist or is private"),
        (["zoo", "fetch", "animals"], "'animals' is not an address; it must be one of hf://"),
        (["zoo", "fetch", "ftp://me:secret@host"], "an address that starts with ftp:// must be one of hf://"),
        (["prune", "--task", "TASK", "--zoo", "hf://me/nothing"], "does not exist or is private"),
        (["prune", "--task", "TASK", "--zoo", "hf://nothing"], "must be one of hf://"),
        (["push", "ZOO", "hf://me/model"], "is not a complete result"),
        (["push", "nothing", "hf://me/model"], "is not a directory"),
    ],
)
def test_errors_are_one_line(
    hub: Hub, run: Run, zoo: Path, task: Path, tmp_path: Path, words: list[str], told: str
) -> None:
    (tmp_path / "notes.txt").touch()
    before = sorted(tmp_path.rglob("*"))
    done = run(*({"ZOO": zoo, "TASK": task}.get(word, word) for word in words))
    assert told in done.error()
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    assert sorted(tmp_path.rglob("*")) == before and not hub.repos
