"""`mvp-edge predict`: what a delivered model sees in pictures."""

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
