"""A result takes its place only where it may."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mvp_edge.core.errors import ConfigError
from mvp_edge.core.output import Contents, by_checksum, check_output, checksum_line, result_directory, survey

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
        (False, {"report.json": json.dumps(RECORD)}, "--force"),
        (True, {"report.json": json.dumps(RECORD), "notes.txt": "mine"}, "notes.txt"),
        (True, {"notes.txt": "mine"}, "not a result"),
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
    assert [f.name for f in tmp_path.iterdir()] == ["out"]


WORK = """
import os, sys
from pathlib import Path
from mvp_edge.core.output import result_directory

with result_directory(Path("out"), lambda: None) as directory:
    (directory / "model.onnx").write_text("half of it")
    print("ready", flush=True)
    sys.stdin.readline()
"""


def test_what_a_killed_process_left_is_removed_but_not_what_one_uses(tmp_path: Path) -> None:
    foreign = tmp_path / ".out.0123abcd"  # named alike, without a lock
    foreign.mkdir()
    running, killed = (
        subprocess.Popen([sys.executable, "-c", WORK], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    )
    with running, killed:
        for each in (running, killed):
            assert each.stdout is not None and each.stdout.readline() == b"ready\n"
        killed.kill()
        killed.wait()
        left = {f for f in tmp_path.iterdir() if f.is_dir()}
        write(tmp_path / "out", force=False, meanwhile={})
        used = {f for f in tmp_path.iterdir() if f.is_dir()} - {foreign, tmp_path / "out"}
        assert len(left) == 3 and len(used) == 1 and used < left
        shutil.rmtree(tmp_path / "out")
        running.communicate(b"\n")
    assert running.returncode == 0 and (tmp_path / "out" / "model.onnx").read_text() == "half of it"
    assert {f.name for f in tmp_path.iterdir()} == {"out", foreign.name}


@pytest.mark.parametrize("swapped", [False, True])
def test_an_older_result_that_a_killed_process_had_set_aside(tmp_path: Path, swapped: bool) -> None:
    old, out = tmp_path / ".out.0123abcd.old", tmp_path / "out"
    (tmp_path / ".out.0123abcd.lock").touch()
    fill(old, "report.json", RECORD)
    if swapped:
        fill(out, "report.json", RECORD)
    else:
        with pytest.raises(ConfigError, match="exists"):  # it is put back
            write(out, force=False, meanwhile={})
        assert (out / "report.json").is_file()
    write(out, force=True, meanwhile={})
    assert [f.name for f in tmp_path.iterdir()] == ["out"]


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("no flock")

    monkeypatch.setattr("mvp_edge.core.output.FileLock.acquire", refuse)
    (tmp_path / ".out.0123abcd").mkdir()
    (tmp_path / ".out.0123abcd.lock").touch()
    write(tmp_path / "out", force=False, meanwhile={})
    assert {f.name for f in tmp_path.iterdir()} == {"out", ".out.0123abcd", ".out.0123abcd.lock"}


RESULT = {
    "task": {},
    "base": "b",
    "keep": {},
    "settings": {},
    "environment": {},
    "files": ["model.onnx", "report.json"],
}
FAMILY = {"task": {}, "base": "b", "models": [], "environment": {}, "files": ["index.json", "index.html", "1ms/"]}
EXPORT = {"format": 1, "input": {}, "normalisation": {}, "output": {}, "classes": []}


def fill(directory: Path, record: str, value: Any, *names: str) -> Path:
    directory.mkdir(parents=True)
    (directory / record).write_text(json.dumps(value))
    for name in names:
        (directory / name).write_text("")
    return directory


@pytest.fixture
def result(tmp_path: Path) -> Path:
    return fill(tmp_path / "out", "report.json", RESULT, "model.onnx", ".DS_Store")


def test_a_result_with_exports(result: Path) -> None:
    assert survey(result, "result", "family") == Contents("result", (), ())
    fill(result / "phones", "preprocessing.json", EXPORT, "model.ort", "model-int8.with_runtime_opt.ort", "README.md")
    assert survey(result, "result") == Contents("result", ("phones",), ())
    (result / "phones" / "App.kt").write_text("")
    assert survey(result, "result") == Contents("result", ("phones",), ("phones/App.kt",))
    assert survey(result / "phones", "export") == Contents("export", (), ("App.kt",))
    assert survey(result, "export") is None


@pytest.mark.parametrize("name", ["model-v2.onnx", "model_mine.ort", "required_operators_mine.config"])
def test_a_foreign_model_in_an_export(tmp_path: Path, name: str) -> None:
    folder = fill(tmp_path / "phones", "preprocessing.json", EXPORT, "model-fp16.ort", name)
    assert survey(folder, "export") == Contents("export", (), (name,))


def test_foreign_files(result: Path, tmp_path: Path) -> None:
    (result / "src").mkdir()
    (result / "notes.txt").write_text("")
    (tmp_path / "elsewhere").mkdir()
    (result / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    fill(result / "other", "report.json", RESULT)  # another result, which was not made with this one
    assert survey(result, "result") == Contents("result", (), ("link", "notes.txt", "other", "src"))


def test_a_family(tmp_path: Path) -> None:
    family = fill(tmp_path / "out", "index.json", FAMILY, "index.html")
    fill(family / "1ms", "report.json", RESULT, "model.onnx")
    fill(family / "1ms" / "web", "preprocessing.json", EXPORT, "index.html", "dense.js")
    assert survey(family, "result", "family") == Contents("family", ("1ms/web",), ())
    fill(family / "2ms", "report.json", RESULT)
    (family / "1ms" / "notes.txt").write_text("")
    assert survey(family, "result", "family") == Contents("family", ("1ms/web",), ("1ms/notes.txt", "2ms"))


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"files": ["notes.txt"]}', "[" * 10**5])
def test_a_record_that_is_not_ours(tmp_path: Path, content: str) -> None:
    (tmp_path / "report.json").write_text(content)
    (tmp_path / "index.json").write_bytes(b"\xff")
    assert survey(tmp_path, "result", "family", "export") is None


def test_names_in_a_record_are_not_patterns(tmp_path: Path) -> None:
    fill(tmp_path / "out", "report.json", {**RESULT, "files": ["*"]}, "notes.txt")
    found = survey(tmp_path / "out", "result")
    assert found is not None and "notes.txt" in found.foreign
    (tmp_path / "out" / "report.json").write_text(json.dumps({**RESULT, "files": None}))
    assert survey(tmp_path / "out", "result") == Contents("result", (), ("notes.txt", "report.json"))


def test_files_by_their_checksums(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    assert by_checksum(folder, "sums") == ({}, [])
    (folder / "sub").mkdir()
    (tmp_path / "victim").write_bytes(b"v")
    for name in ("a", "sub/b", "edited", "added", ".DS_Store"):
        (folder / name).write_bytes(b"1")
    (folder / "link").symlink_to(folder / "a")
    (folder / "ring").symlink_to("ring")
    assert by_checksum(folder, "sums") == ({}, ["a", "added", "edited", "link", "ring", "sub"])
    names = {"a": b"1", "sub/b": b"1", "edited": b"2", "link": b"1", "ring": b"1", "gone": b"1", "../victim": b"v"}
    lines = {name: checksum_line(data, name) for name, data in names.items()}
    (folder / "sums").write_text("\n".join([*lines.values(), checksum_line(b"3", "sub/b")]))
    ours, others = by_checksum(folder, "sums")
    assert ours == {name: lines[name] for name in ("a", "sub/b")} and others == ["added", "edited", "link", "ring"]


@pytest.mark.parametrize(("record", "value"), [("report.json", RESULT), ("index.json", FAMILY)])
@pytest.mark.parametrize(("kind", "inner"), [("report.json", RESULT), ("index.json", FAMILY), ("notes.txt", {})])
def test_what_is_not_part_of_a_result_is_called_so(
    tmp_path: Path, record: str, value: dict[str, Any], kind: str, inner: dict[str, Any]
) -> None:
    out = fill(tmp_path / "my out", record, value)
    fill(out / "inner", kind, inner)
    with pytest.raises(ConfigError, match=r"not part of the (result|family)") as told:
        check_output(out, force=True)
    assert "did not write" not in str(told.value) and f"(mv '{out}/inner' ELSEWHERE)" in str(told.value)
    (out / "inner").rename(tmp_path / "elsewhere")
    check_output(out, force=True)
