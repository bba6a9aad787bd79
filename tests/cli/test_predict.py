"""`mvp-edge predict`: what a delivered model sees in pictures."""

import os
import shutil
from pathlib import Path

import pytest

from .conftest import Done, Run


def pictures(images: Path, *classes: str) -> list[Path]:
    return [sorted((images / "test" / name).iterdir())[0] for name in classes]


def test_pictures_get_a_class_and_probabilities(run: Run, pruned: tuple[Path, Done], images: Path) -> None:
    files = pictures(images, "tiger", "rose")
    done = run("predict", pruned[0], *files, "--json")
    assert done.code == 0, done.err
    found = done.json["predictions"]
    assert [f["file"] for f in found] == [str(f) for f in files]
    for each in found:
        assert list(each["probabilities"]) == ["tiger", "apple", "rose"]
        assert sum(each["probabilities"].values()) == pytest.approx(1, abs=1e-3)
        assert each["probability"] == max(each["probabilities"].values()) == each["probabilities"][each["class"]]
    assert run("predict", pruned[0] / "model.onnx", *files, "--json").json["predictions"] == found


def test_predictions_agree_with_the_accuracy_of_the_file(run: Run, pruned: tuple[Path, Done], images: Path) -> None:
    files = [f for name in ("tiger", "apple", "rose") for f in sorted((images / "test" / name).iterdir())]
    found = run("predict", pruned[0], *files, "--json").json["predictions"]
    right = sum(f["class"] == Path(f["file"]).parent.name for f in found)
    assert 100 * right / len(files) == pytest.approx(pruned[1].json["accuracy"]["top1"], abs=0.01)


def test_predictions_for_people(run: Run, pruned: tuple[Path, Done], images: Path) -> None:
    (file,) = pictures(images, "tiger")
    done = run("predict", pruned[0], file)
    assert done.code == 0, done.err
    assert file.name in done.out and "%" in done.out


def test_an_unreadable_picture_is_named_and_the_others_are_classified(
    run: Run, pruned: tuple[Path, Done], images: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.jpg").write_text("no picture")
    done = run("predict", pruned[0], tmp_path / "notes.jpg", *pictures(images, "rose"), "--json")
    assert done.code == 0
    assert len(done.json["predictions"]) == 1
    assert "notes.jpg" in done.json["warnings"][0]


def test_nothing_readable_is_an_error(run: Run, pruned: tuple[Path, Done], tmp_path: Path) -> None:
    assert "gone.jpg" in run("predict", pruned[0], tmp_path / "gone.jpg").error()
    assert "model.onnx" in run("predict", tmp_path, tmp_path / "gone.jpg").error()


def family(pruned: tuple[Path, Done], directory: Path) -> Path:
    for name in ("60MMACs", "90MMACs"):
        shutil.copytree(pruned[0], directory / "family" / name)
    (directory / "family" / "index.json").write_text("{}")
    return directory / "family"


def test_a_picture_that_is_none_says_what_to_give(
    run: Run, pruned: tuple[Path, Done], images: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder").mkdir()
    told = {
        "folder/": "folder/*",
        "https://x.org/a.jpg": "https://x.org/a.jpg is an address; download",
        "pipe.jpg": "a pipe",
    }
    for name, words in told.items():
        assert words in run("predict", pruned[0], name).error()
    done = run("predict", pruned[0], *told, *pictures(images, "rose"), "--json")
    assert done.code == 0 and len(done.json["predictions"]) == 1
    assert all(words in warning for words, warning in zip(told.values(), done.json["warnings"], strict=True))


def test_a_model_that_is_none_says_what_to_give(
    run: Run, pruned: tuple[Path, Done], images: Path, tmp_path: Path
) -> None:
    (photo,) = pictures(images, "rose")
    assert f"give the model first: mvp-edge predict MODEL {photo}" in run("predict", photo, pruned[0]).error()
    (tmp_path / "notes.onnx").write_text("not a model")
    for words in (("predict", "notes.onnx", photo), ("eval", "notes.onnx", "--data", images), ("bench", photo)):
        error = run(*words).error()
        assert "cannot be loaded as an ONNX model" in error and "PROTOBUF" not in error
    for words in (("predict", "https://x.org/m.onnx", photo), ("bench", "https://x.org/m.onnx")):
        assert "https://x.org/m.onnx is not a file" in run(*words).error()


def test_a_family_is_not_a_model(
    run: Run, pruned: tuple[Path, Done], images: Path, tiny_zoo: Path, tmp_path: Path
) -> None:
    place, (photo,) = family(pruned, tmp_path), pictures(images, "rose")
    for words in (("predict", place, photo), ("eval", place, "--data", images), ("bench", place)):
        assert f"{place}/60MMACs/model.onnx, {place}/90MMACs/model.onnx" in run(*words).error()
    for words in (
        ("export", place, "--target", "ort"),
        ("push", place, "site"),
        ("zoo", "add", place, "--zoo", tiny_zoo),
    ):
        error = run(*words).error()
        assert f"give one of them: {place}/60MMACs, {place}/90MMACs" in error and "--force" not in error
    for words in (("eval", pruned[0], "--data", images), ("bench", pruned[0])):
        assert f"one of its models: {pruned[0]}/model.onnx from" in run(*words).error()


def test_results_are_not_written_to_addresses(run: Run, task: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    for words in (
        ("prune", "--task", task, "--out", "s3://bucket/out"),
        ("zoo", "build", "s3://bucket/out", "--base", "resnet18-cifar100", "--data", tmp_path),
        ("pretrain", "--base", "resnet18-cifar100", "--data", tmp_path, "--out", "s3://bucket/out/base.safetensors"),
    ):
        assert "is an address; choose a place on this computer" in run(*words).error()
    assert sorted(tmp_path.rglob("*")) == before
