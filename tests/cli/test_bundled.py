"""What ships with the package: zoos that work as installed, and no more bytes than promised."""

from __future__ import annotations

import io
import tomllib
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest

from mvp_edge.zoo.location import bundled_zoos

from .conftest import Run

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", sorted(bundled_zoos()))
def test_a_bundled_zoo_is_sound_and_delivers_a_model_for_nouns(run: Run, tmp_path: Path, name: str) -> None:
    verified = run("zoo", "verify", name, "--json").json
    assert (verified["zoo"], verified["problems"]) == (name, [])  # reports name it, and it is opened by this name
    (tmp_path / "classes.txt").write_text("espresso\nteapot\nlaptop\nbicycle\ndog\n")
    done = run("prune", "--task", "classes.txt", "--zoo", name, "--json")
    assert done.code == 0, done.err
    assert done.json["estimate"]["top1"] >= done.json["estimate"]["base_top1"] - 1


def test_the_package_takes_what_is_in_its_own_folders_only() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert {name.split(".")[0] for name in (*told["packages"], *told["package-data"])} == {"mvp_edge", "mvp_edge_cli"}
    assert not told["include-package-data"]


def test_the_wheel_is_no_larger_than_promised() -> None:
    """A wheel is a zip file of these, compressed in this way."""
    wheel = io.BytesIO()
    with ZipFile(wheel, "w", ZIP_DEFLATED) as packed:
        for file in (f for name in ("mvp_edge", "cli") for f in (ROOT / name).rglob("*")):
            if file.is_file() and file.suffix != ".pyc":
                packed.write(file, file.relative_to(ROOT))
    assert len(wheel.getvalue()) <= 40 * 2**20
