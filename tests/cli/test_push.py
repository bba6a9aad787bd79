"""Zoos and results that are published, and used by their address."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

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
    assert "an estimate" in card and "output `known`" in card
    assert "expected" in head(card.encode())["model-index"][0]["results"][0]["metrics"][0]["name"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["zoo", "push", "ZOO", "https://host/zoo"], "cannot be written over HTTP"),
        (["zoo", "push", "ZOO", "ftp://host/zoo"], "must be one of hf://"),
        (["zoo", "push", "ZOO", "out", "--private"], "--private is for"),
        (["zoo", "push", "ZOO", "."], "which is not part of it"),
        (["zoo", "push", "nothing", "hf://me/zoo"], "neither bundled"),
        (["zoo", "fetch", "hf://me/nothing"], "does not exist or is private"),
        (["zoo", "fetch", "animals"], "must be one of hf://"),
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
