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
    assert found.classes == {"a": {"train": 1, "test": 2}, "b": {"train": 2, "test": 1}}
    assert (found.given, found.aside, found.copies) == (7, {"not pictures (.txt 1)": 1}, 1)
    assert found.copied == ((str(root / "test/a/copy.png"), str(root / "train/a/0.png")),)
    assert [Path(path).name for path, _ in found.unreadable] == ["bad.jpg"]


def test_the_command(tmp_path: Path) -> None:
    root = _data(tmp_path / "data")
    shown = CliRunner().invoke(app, ["data", str(root), "--json", "-q"])
    assert shown.exit_code == 0
    assert json.loads(shown.stdout)["copies"] == 1
    text = CliRunner().invoke(app, ["data", str(root), "-q"]).output
    for part in ("7 files: 3 train, 3 test, of 2 classes; 1 set aside", "bad.jpg", "1 images are copies"):
        assert part in " ".join(text.split())
