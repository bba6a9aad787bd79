"""A look at a data set."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from cli.app import app
from mvp_edge.core.progress import SilentProgress
from mvp_edge.data import open_source
from mvp_edge.data.copies import NOTE
from mvp_edge.data.look import look


def _data(root: Path) -> Path:
    for seed, name in enumerate(["train/a", "train/b", "test/a", "test/b"]):
        (root / name).mkdir(parents=True)
        small = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (5, 5, 3), dtype=np.uint8))
        small.resize((48, 48), Image.Resampling.BICUBIC).save(root / name / f"{seed}.png")
    shutil.copy(root / "train/a/0.png", root / "test/a/copy.png")
    (root / "train/b/bad.jpg").write_bytes(b"x")
    (root / "notes.txt").write_text("x")
    return root


def test_counts_damage_and_copies(tmp_path: Path) -> None:
    root = _data(tmp_path / "data")
    found = look(open_source(str(root)), SilentProgress())
    assert found.classes == {"a": {"train": 1, "test": 2}, "b": {"train": 1, "test": 1}}
    assert (found.given, found.aside, found.copies) == (7, {"not pictures (.txt 1)": 1, "cannot be read": 1}, 1)
    assert found.copied == ((str(root / "test/a/copy.png"), str(root / "train/a/0.png")),)
    assert [Path(path).name for path, _ in found.unreadable] == ["bad.jpg"]
    assert found.warnings[:2] == (
        "1 of 3 train images cannot be read: `prune` refuses more than 10%",
        "1 of 3 test images are copies of training images: `prune` leaves them out of the test",
    )


def test_copies_on_both_sides_of_a_split_of_ours_and_in_two_classes(tmp_path: Path) -> None:
    root = _data(tmp_path / "data")
    for name in "ab":
        shutil.copytree(root / "train" / name, tmp_path / "own" / name)
        for i in range(8):
            shutil.copy(root / "train/a/0.png", tmp_path / "own" / name / f"again{i}.png")
    warnings = " ".join(look(open_source(str(tmp_path / "own")), SilentProgress()).warnings)
    assert "`prune` keeps copies on one side" in warnings
    assert "the same image has two classes: " in warnings


def test_the_command(tmp_path: Path) -> None:
    root = _data(tmp_path / "data")
    shown = CliRunner().invoke(app, ["data", str(root), "--json", "-q"])
    assert shown.exit_code == 0
    assert json.loads(shown.stdout)["copies"] == 1
    text = CliRunner().invoke(app, ["data", str(root), "-q"]).output
    for part in ("7 files: 2 train, 3 test, of 2 classes; 2 set aside", "bad.jpg", "1 image is a copy"):
        assert part in " ".join(text.split())
    for i in range(10):
        shutil.copy(root / "train/a/0.png", root / f"train/a/again{i}.png")
    assert "and 3 more copies" in CliRunner().invoke(app, ["data", str(root), "-q"]).output


def test_a_zip_and_a_contact_sheet(tmp_path: Path) -> None:
    root = _data(tmp_path / "data")
    for i in range(12):
        shutil.copy(root / "train/a/0.png", root / f"train/a/again{i}.png")
    packed, page = shutil.make_archive(str(tmp_path / "packed"), "zip", root), tmp_path / "sheet.html"
    command = ["data", packed, "--contact-sheet", str(page), "-q", "--json"]
    assert CliRunner().invoke(app, command).exit_code == 0
    text = page.read_text(encoding="utf-8")
    assert "packed.zip" in text
    assert text.count("data:image/jpeg") == 12 + 2 + 2 * 13  # of a class at most twelve; each copy beside its original
    for part in ("bad.jpg", "19 files: 14 train, 3 test", "13 images are copies"):
        assert part in text.replace("\N{NO-BREAK SPACE}", " ")
    assert "http" not in text.split("<body>")[1]
    again = CliRunner().invoke(app, command)
    assert (again.exit_code, "exists; replace a file with" in " ".join(again.output.split())) == (1, True)
    assert CliRunner().invoke(app, [*command, "--force"]).exit_code == 0
    assert f"contact sheet: {page}" in "".join(CliRunner().invoke(app, [*command[:-1], "--force"]).output.split("\n"))
    other = CliRunner().invoke(app, ["data", packed, "--contact-sheet", str(page.with_suffix(".txt"))])
    assert other.exit_code == 1 and "is a page; call it" in " ".join(other.output.split())
    assert CliRunner().invoke(app, ["data", packed, "--contact-sheet", str(tmp_path), "--force"]).exit_code == 1
    nowhere = CliRunner().invoke(app, ["data", packed, "--contact-sheet", str(page / "sheet.html")])
    assert nowhere.exit_code == 1 and "another place with --contact-sheet" in " ".join(nowhere.output.split())


def test_a_fixed_camera_and_classes_without_images(tmp_path: Path) -> None:
    small = Image.fromarray(np.random.default_rng(0).integers(0, 255, (5, 5, 3), dtype=np.uint8))
    scene = np.asarray(small.resize((64, 64), Image.Resampling.BICUBIC)).astype(int)
    for i in range(40):
        place = tmp_path / ("train" if i % 4 else "test") / ("ok" if i % 2 else "broken")
        place.mkdir(parents=True, exist_ok=True)
        noisy = scene + np.random.default_rng(i).integers(-5, 5, scene.shape)
        noisy[20:24, 20:24] = 255 * (i % 2)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(place / f"{i}.png")
    found = look(open_source(str(tmp_path)), SilentProgress())
    assert found.copies == 0
    assert found.warnings[:2] == ("no test images of ok", NOTE)


def test_sizes_are_ranked_by_area(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for i, size in enumerate([(40, 40), (20, 90), (50, 40)]):
        Image.new("RGB", size).save(tmp_path / "a" / f"{i}.png")
    assert look(open_source(str(tmp_path)), SilentProgress()).sizes == ((40, 40), (20, 90), (50, 40))


def test_leaks_and_trifles(tmp_path: Path) -> None:
    for name, side in (("a", 40), ("b", 60)):
        (tmp_path / name).mkdir()
        for i in range(20):
            noise = np.random.default_rng(i + side).integers(0, 120, (side, side, 3), dtype=np.uint8)
            Image.fromarray(noise + np.uint8(2 * side)).save(tmp_path / name / f"{i}.png")
    found = look(open_source(str(tmp_path)), SilentProgress())
    assert (found.formats, found.sizes, found.coarse) == ({"PNG": 40}, ((40, 40), (60, 60), (60, 60)), 100.0)
    assert "20 of 20 images of a have 40 x 40 pixels, and 0 of 20 others" in found.warnings
    assert "8 x 8 pixels has a balanced accuracy of 100.0 %" in found.warnings[-1]
    assert "samples" not in found.to_json()
