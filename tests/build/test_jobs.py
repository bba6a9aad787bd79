"""The members of a build as jobs: the same members as in one process, in an order that suits, begun anew if lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.measurements.launchers import WORKERS, content, on_engine, workers
from mvp_edge.build import launch
from mvp_edge.build.jobs import Job, make, plan_jobs, read_job, run_lines, write_jobs
from mvp_edge.build.launch import ATTEMPTS, Resources, drive, engine
from mvp_edge.build.members import build_generalists, build_specialists
from mvp_edge.config import BuildConfig, FitOverrides, PruneSchedule
from mvp_edge.core.device import Machine, use_bf16
from mvp_edge.core.errors import ConfigError, ZooError
from mvp_edge.core.progress import SilentProgress
from mvp_edge.data import open_source
from mvp_edge.models.bases import load_base
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.zoo.store import Zoo, create_zoo, open_zoo

SILENT = SilentProgress()
ONE_CORE = Machine("cpu", 1, "off")
SETTINGS = BuildConfig(
    members=2, ways=2, schedule=PruneSchedule(keep=0.5, channel_multiple=4),
    fit=FitOverrides(iterations=2, batch_size=4), generalist_fit=FitOverrides(iterations=2, batch_size=4),
)  # fmt: skip
KEEPS = [0.5, 0.75]


@pytest.fixture
def empty(tiny_base: Path, tmp_path: Path) -> Zoo:
    return create_zoo(tmp_path / "zoo", *load_base(str(tiny_base)))


def planned(zoo: Zoo, images: Path, config: BuildConfig = SETTINGS) -> list[Job]:
    return plan_jobs(zoo.path, str(images), open_source(str(images)), KEEPS, config, ONE_CORE)


def in_one_process(base: Path, images: Path, place: Path, config: BuildConfig) -> dict[str, tuple[str, str]]:
    zoo = create_zoo(place, *load_base(str(base)))
    prunable, data, cpu = PrunableModel.of(zoo.base, zoo.load_base()), open_source(str(images)), torch.device("cpu")
    threads = torch.get_num_threads()
    ONE_CORE.take()
    try:
        build_generalists(zoo, prunable, data, KEEPS, config, device=cpu, progress=SILENT)
        build_specialists(zoo, prunable, data, config, device=cpu, progress=SILENT)
    finally:
        torch.set_num_threads(threads)
        use_bf16("auto")
    return content(zoo)


def test_jobs_are_written_and_read(empty: Zoo, images: Path, tmp_path: Path) -> None:
    found = planned(empty, images)
    assert [(j.kind, j.keep, j.after) for j in found] == [
        ("generalist", 0.75, ()), ("generalist", 0.5, (0,)), ("specialist", 0.5, (0, 1)), ("specialist", 0.5, (0, 1)),
    ]  # fmt: skip
    (tmp_path / "jobs.jsonl").write_text(write_jobs(found))
    assert [read_job(tmp_path / "jobs.jsonl", n) for n in range(4)] == found
    assert [j.after for j in planned(empty, images, replace(SETTINGS, parent="base"))] == [()] * 4
    for number in (-1, 4):
        with pytest.raises(ConfigError, match=f"has 4 jobs.*no job {number}"):
            read_job(tmp_path / "jobs.jsonl", number)
    with pytest.raises(ConfigError, match=r"cannot be read \(No such file or directory\)"):
        read_job(tmp_path / "nothing", 0)
    (tmp_path / "noise").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"cannot be read \('utf-8'"):
        read_job(tmp_path / "noise", 0)


def test_a_job_that_was_changed(empty: Zoo, images: Path) -> None:
    value = json.loads(planned(empty, images)[-1].to_line())
    for change in ({"task": 2}, {"task": None}, {"job": "3"}, {"more": 1}, {"config": value["config"] | {"ways": "2"}}):
        with pytest.raises(ConfigError, match="is not a job"):
            Job.from_line(json.dumps(value | change))


@pytest.mark.parametrize("line", ["", "{}", "[]", '{"config": 7}', json.dumps({"config": {"schedule": {}}})])
def test_what_is_not_a_job(line: str) -> None:
    with pytest.raises(ConfigError, match="is not a job"):
        Job.from_line(line)


def test_job_by_job_gives_what_one_process_gives(empty: Zoo, images: Path, tiny_base: Path, tmp_path: Path) -> None:
    found = planned(empty, images)
    with pytest.raises(ConfigError, match=r"do these first: \[0, 1\]"):
        make(found[2:], SILENT)
    assert "do these first" in run_lines(found[1].to_line())
    made = [make([Job.from_line(job.to_line())], SILENT) for job in (found[0], found[1], found[3])]
    assert [len(m) for m in made] == [1] * 3 and make(found[:1], SILENT) == []
    assert len(make(found[2:], SILENT)) == 1  # of two, one is there
    assert content(empty) == in_one_process(tiny_base, images, tmp_path / "whole", SETTINGS)
    assert run_lines(found[0].to_line()) == ""
    assert "on shared storage" in run_lines(replace(found[0], zoo="/nowhere").to_line())
    assert "for another base" in run_lines(replace(found[0], base_sha256="0" * 64).to_line())


class Engine:
    """An engine whose jobs end in the next moment; some lose their worker or fail before."""

    def __init__(self, lost: dict[int, int] | None = None, told: dict[int, str] | None = None) -> None:
        self.lost, self.told, self.cancelled = lost or {}, told or {}, 0
        self.started, self.given = list[int](), list[list[int]]()

    def __call__(self, lines: str) -> Any:
        numbers = [json.loads(line)["job"] for line in lines.splitlines()]
        number = numbers[0]
        self.started.append(number)
        self.given.append(numbers)
        outer = self

        class Handle:
            def done(self) -> bool:
                return True

            def result(self) -> str:
                if outer.lost.get(number, 0) > 0:
                    outer.lost[number] -= 1
                    raise RuntimeError("worker died")
                return outer.told.get(number, "")

            def cancel(self) -> None:
                outer.cancelled += 1

        return Handle()


@pytest.fixture(autouse=True)
def no_pause(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "slow" not in request.keywords:
        monkeypatch.setattr(launch, "POLL_S", 0.0)


class Counting(SilentProgress):
    def __init__(self) -> None:
        self.done = 0

    def advance(self, n: int = 1) -> None:
        self.done += n


def test_jobs_wait_for_others_and_lost_ones_are_begun_anew(empty: Zoo, images: Path) -> None:
    found, stage = planned(empty, images), Counting()
    run = Engine(lost={0: 2, 3: ATTEMPTS - 1})
    drive(found, run, stage)
    assert run.started[:4] == [0, 0, 0, 1] and stage.done == 4
    assert run.started.count(3) == ATTEMPTS and run.cancelled == 0


def test_a_worker_gets_jobs_that_wait_for_the_same(empty: Zoo, images: Path) -> None:
    found, stage = planned(empty, images, replace(SETTINGS, members=3)), Counting()
    run = Engine(lost={2: 2 * ATTEMPTS - 1})  # two jobs, as often as each of them may lose it
    drive(found, run, stage, at_once=2)
    assert run.given == [[0], [1], [2, 3], [4], *[[2, 3]] * (2 * ATTEMPTS - 1)] and stage.done == 5
    with pytest.raises(ZooError, match="jobs 2 to 4: no images"):
        drive(found, Engine(told={2: "no images"}), Counting(), at_once=9)


def test_a_job_that_fails_stops_the_others(empty: Zoo, images: Path) -> None:
    found = planned(empty, images, replace(SETTINGS, parent="base"))
    run = Engine(told={0: "no images"})
    with pytest.raises(ZooError, match="job 0: no images"):
        drive(found, run, Counting())
    assert run.cancelled == 3
    with pytest.raises(ZooError, match=f"job 2 lost the worker {ATTEMPTS} times .*worker died"):
        drive(found, Engine(lost={2: ATTEMPTS}), Counting())


def test_ctrl_c_stops_all_jobs(empty: Zoo, images: Path) -> None:
    run = Engine()

    class Interrupted(Counting):
        def advance(self, n: int = 1) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive(planned(empty, images, replace(SETTINGS, parent="base")), run, Interrupted())
    assert (len(run.started), run.cancelled) == (4, 3)


@pytest.mark.parametrize("launcher", ["ray", "slurm"])
def test_an_engine_that_is_not_installed(launcher: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, {"ray": "ray", "slurm": "submitit"}[launcher], None)
    with (
        pytest.raises(ConfigError, match=rf"pip install 'mvp-edge\[{launcher}\]'"),
        engine(launcher, Resources(), tmp_path),
    ):
        pass


def test_a_machine_without_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "submitit", ModuleType("submitit"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="no Slurm on this machine"), engine("slurm", Resources(), tmp_path):
        pass


def test_slurm_that_takes_no_job(empty: Zoo, images: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: dict[str, Any] = {}

    def refuse(*words: Any) -> None:
        raise RuntimeError("sbatch: error: first line\nsbatch: error: invalid partition")

    executor = SimpleNamespace(update_parameters=given.update, submit=refuse)
    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace(AutoExecutor=lambda folder: executor))
    monkeypatch.setattr(launch.shutil, "which", lambda name: name)
    with (
        engine("slurm", Resources(cpus=2, gpus=1), tmp_path) as submit,
        pytest.raises(ConfigError, match=r"takes no job \(sbatch: error: invalid partition\)"),
    ):
        drive(planned(empty, images), submit, Counting())
    assert (given["cpus_per_task"], given["gpus_per_node"]) == (2, 1)
    assert given["slurm_srun_args"] == ["--cpus-per-task=2"]


@pytest.mark.parametrize("resources", [Resources(cpus=3), Resources(gpus=0.5)])
def test_a_machine_that_is_too_small_for_a_job(
    resources: Resources, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ray would let the job wait for ever."""
    ended: list[bool] = []
    fake = SimpleNamespace(
        is_initialized=lambda: False, init=lambda **words: None, shutdown=lambda: ended.append(True),
        cluster_resources=lambda: {"CPU": 2.0, "memory": 1e9}, remote=lambda **words: lambda function: function,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ConfigError, match="Ray found 2 and 0 on this machine"), engine("ray", resources, tmp_path):
        pass
    assert ended
    with engine("ray", replace(resources, ray_address="auto"), tmp_path):  # a cluster may grow
        pass


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999"])
def test_a_cluster_that_does_not_answer(address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False))
    with (
        pytest.raises(ConfigError, match=f"no Ray cluster answers at {address} .*check --ray-address"),
        engine("ray", Resources(ray_address=address), tmp_path),
    ):
        pass


SECONDS = replace(
    SETTINGS, members=4, fit=FitOverrides(iterations=60, batch_size=16),
    generalist_fit=FitOverrides(iterations=60, batch_size=16),
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("launcher", WORKERS)
def test_members_are_the_same_on_every_engine_whatever_is_killed(
    launcher: Any, empty: Zoo, images: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip({"local": "torch", "ray": "ray", "slurm": "submitit"}[launcher], reason="needs its extra")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    whole = in_one_process(tiny_base, images, tmp_path / "whole", SECONDS)
    jobs = planned(empty, images, SECONDS)
    done = on_engine(launcher, jobs, tmp_path / "logs", 2, 1.0, random.Random(0))
    assert done["killed"] and done["repeated"] <= done["killed"]  # nothing was lost but what was being made
    assert content(open_zoo(str(empty.path))) == whole
    assert open_zoo(str(empty.path)).verify() == []


@pytest.mark.slow
def test_a_machine_of_a_cluster_is_lost(
    empty: Zoo, images: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="needs mvp-edge[ray]")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_worker_niceness", "0")
    config = replace(SECONDS, parent="base")  # no job waits for another
    whole = in_one_process(tiny_base, images, tmp_path / "whole", config)
    jobs, begun = planned(empty, images, config), []
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        second = cluster.add_node(num_cpus=1)

        def lose_it() -> None:
            while len(workers(WORKERS["ray"])) < 2:
                time.sleep(0.05)
            cluster.remove_node(second, allow_graceful=False)

        with engine("ray", Resources(cpus=1, ray_address=cluster.address), tmp_path) as submit:
            loser = threading.Thread(target=lose_it)
            loser.start()
            drive(jobs, lambda line: begun.append(line) or submit(line), Counting())
            loser.join()
    finally:
        cluster.shutdown()
    assert len(begun) == len(jobs) + 1
    assert content(open_zoo(str(empty.path))) == whole


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["local", "ray"])
def test_ctrl_c_in_a_terminal_keeps_what_is_whole(
    launcher: str, empty: Zoo, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip({"local": "torch", "ray": "ray"}[launcher], reason="needs its extra")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    command = [
        sys.executable, "-m", "mvp_edge_cli", "zoo", "build", str(empty.path), "--data", str(images), "--ways", "2",
        "--members", "9", "--iterations", "60", "--batch-size", "16", "--keep", "0.5", "--channel-multiple", "4",
        "--cpus-per-member", "1", "--device", "cpu", "--launcher", launcher,
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while process.poll() is None and not empty.ids():
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # a terminal interrupts all its processes
    _, told = process.communicate(timeout=60)
    *progress, last = told.splitlines()
    assert process.returncode == 130 and all(line.startswith("Members ") for line in progress)  # no worker's traceback
    assert last == "interrupted; finished members are kept; run the same command again for the others"
    zoo = open_zoo(str(empty.path))
    before = zoo.ids()
    assert 1 <= len(before) < 9 and zoo.verify() == []
    time.sleep(3)
    assert open_zoo(str(empty.path)).ids() == before  # nobody works on
    if launcher == "local":  # a Ray worker is killed at once, and the next build removes what it leaves a day later
        assert not list((zoo.path / "members").glob(".*"))
