"""A result takes its place only where it may."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mvp_edge.core.errors import ConfigError
from mvp_edge.core.output import check_output, result_directory

RECORD = {"task": {}, "base": "b", "keep": {}, "settings": {}, "environment": {}, "files": ["report.json"]}


def write(out: Path, *, force: bool, meanwhile: dict[str, str]) -> None:
    """Write a result, while somebody else writes files to its place."""

    def check() -> None:
        check_output(out, force=force)

    check()
    with result_directory(out, check) as directory:
        (directory / "model.onnx").write_text("ours")
        for name, text in meanwhile.items():
            out.mkdir(exist_ok=True)
            (out / name).write_text(text)


@pytest.mark.parametrize(
    ("force", "meanwhile", "said"),
    [
        (False, {"report.json": json.dumps(RECORD)}, "out exists; replace it"),
        (True, {"report.json": json.dumps(RECORD), "notes.txt": "mine"}, "did not write.*notes.txt"),
        (True, {"notes.txt": "mine"}, "something else than a result"),
    ],
)
def test_what_appears_during_the_run_is_spared(
    tmp_path: Path, force: bool, meanwhile: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        write(tmp_path / "out", force=force, meanwhile=meanwhile)
    assert {f.name: f.read_text() for f in (tmp_path / "out").iterdir()} == meanwhile
    assert [f.name for f in tmp_path.iterdir()] == ["out"]  # nothing half-written either


@pytest.mark.parametrize(("force", "meanwhile"), [(False, {}), (True, {}), (True, {"report.json": json.dumps(RECORD)})])
def test_what_may_be_replaced_is(tmp_path: Path, force: bool, meanwhile: dict[str, str]) -> None:
    write(tmp_path / "out", force=force, meanwhile=meanwhile)
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["model.onnx"]
