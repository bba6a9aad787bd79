"""Zoos that are built job by job, merged and trimmed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mvp_edge.build import launch
from mvp_edge.build.jobs import run_lines
from mvp_edge.zoo.store import open_zoo

from .conftest import Run

FEW = (
    "--members", 1, "--ways", 2, "--generalist", 0.5, "--keep", 0.5, "--channel-multiple", 4, "--iterations", 2,
    "--generalist-iterations", 2, "--batch-size", 4, "--device", "cpu", "--bf16", "off",
)  # fmt: skip


class AtOnce:
    """An engine that does jobs when it gets them, in this process."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __enter__(self) -> Any:
        return self.submit

    def __exit__(self, *_: Any) -> None:
        pass

    def submit(self, lines: str) -> Any:
        self.lines.append(lines)
        told = run_lines(lines)
        return type("Handle", (), {"done": lambda _: True, "result": lambda _: told, "cancel": lambda _: None})()


def test_plan_and_make(run: Run, tiny_base: Path, images: Path, tmp_path: Path) -> None:
    planned = run("zoo", "plan", "z", "--base", tiny_base, "--data", images, *FEW)
    (tmp_path / "jobs.jsonl").write_text(planned.out)
    assert [json.loads(line)["kind"] for line in planned.out.splitlines()] == ["generalist", "specialist"]
    assert open_zoo("z").ids() == []
    assert "do these first: [0]" in run("zoo", "make", "jobs.jsonl", "--job", 1).error()
    (first,) = run("zoo", "make", "jobs.jsonl", "--job", 0, "--json").json["made"]
    assert run("zoo", "make", "jobs.jsonl", "--job", 0).out == "job 0: done before\n"
    run("zoo", "make", "jobs.jsonl", "--job", 1)
    assert first in open_zoo("z").ids() and len(open_zoo("z").ids()) == 2
    assert run("zoo", "build", "z", "--data", images, *FEW, "--json").json["made"] == []  # the same members
    assert "no job 2" in run("zoo", "make", "jobs.jsonl", "--job", 2).error()


def test_build_on_an_engine(
    run: Run, tiny_base: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used, given = AtOnce(), []
    monkeypatch.setattr(launch, "engine", lambda *words: given.append(words) or used)
    done = run(
        "zoo", "build", "z", "--base", tiny_base, "--data", images, *FEW, "--launcher", "ray", "--cpus-per-member", 1,
        "--gpus-per-member", 0.5, "--ray-address", "auto", "--json",
    )  # fmt: skip
    assert done.json["made"] == open_zoo("z").ids() and len(used.lines) == 2
    assert given[0][:2] == ("ray", launch.Resources(1, 0.5, "auto"))
    assert json.loads(used.lines[0])["machine"] == {"device": "cpu", "threads": 1, "bf16": "off"}
    local = ("--cpus-per-member", 1, "--members-per-job", 2, "--members", 3, "--json")
    again = run("zoo", "build", "z", "--data", images, *FEW, *local)
    assert len(again.json["made"]) == 2 and given[1][0] == "local"
    assert [len(lines.splitlines()) for lines in used.lines[2:]] == [1, 2, 1]


def test_a_zoo_that_cannot_be_written_is_refused_before_an_engine_starts(
    run: Run, tiny_base: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("zoo", "plan", "z", "--base", tiny_base, "--data", images, *FEW)
    Path("z/members").rmdir()
    Path("z/members").write_text("")
    monkeypatch.setattr(launch, "engine", lambda *words: pytest.fail("an engine started"))
    for launcher in ("local", "ray", "slurm"):
        words = ("--launcher", launcher, "--cpus-per-member", 1)
        assert "cannot be written" in run("zoo", "build", "z", "--data", images, *FEW, *words).error()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["build", "--ray-address", "auto"], "--ray-address needs --launcher ray"),
        (["build", "--gpus-per-member", "1"], "--gpus-per-member needs --launcher"),
        (["build", "--launcher", "slurm", "--gpus-per-member", "0.5"], "Slurm gives whole GPUs"),
        (["build", "--launcher", "ray", "--threads", "1"], "leave --threads out"),
        (["build", "--launcher", "kubernetes"], "kubernetes"),
        (["plan", "--launcher", "ray"], "zoo plan runs nothing"),
        (["plan", "--cpus-per-member", "1"], "zoo plan runs nothing"),
        (["plan", "--members-per-job", "2"], "zoo plan runs nothing"),
        (["build", "--members-per-job", "2"], "--members-per-job needs --launcher"),
    ],
)
def test_options_of_the_engine_that_do_not_fit(
    run: Run, tiny_base: Path, images: Path, tmp_path: Path, words: list[str], told: str
) -> None:
    command, *rest = words
    done = run("zoo", command, "z", "--base", tiny_base, "--data", images, *rest)
    assert told in done.usage_error()
    assert not (tmp_path / "z").exists()


def test_merge_and_trim(run: Run, tiny_zoo: Path, generalist_zoo: Path, tmp_path: Path) -> None:
    merged = run("zoo", "merge", tiny_zoo, generalist_zoo, "--out", "all", "--json").json["zoo"]
    assert merged["members"] == len({*open_zoo(str(tiny_zoo)).ids(), *open_zoo(str(generalist_zoo)).ids()})
    trimmed = run("zoo", "trim", "all", "--members", 3, "--out", "few", "--json").json
    assert trimmed["zoo"]["members"] == 3 and trimmed["zoo"]["generalist"] == 2
    assert len(trimmed["dropped"]) == merged["members"] - 3
    told = run("zoo", "trim", "all", "--members", 4, "--out", "more").out
    assert told.startswith("zoo more in ") and "has 4 members" in told
    assert run("zoo", "merge", "all", "few", "--out", "both").out.endswith(f"has {merged['members']} members\n")
    assert "exists" in run("zoo", "merge", "all", "few", "--out", "few").error()
    assert run("zoo", "merge", "all", "--out", "x").code == 2
