"""Large zoos, and building on engines: what is simulated, and what the tables make of the records."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import RESNET_ZOO, records
from benchmarks.measurements import large_zoos, launchers
from benchmarks.tables import zoos
from mvp_edge.zoo.store import open_zoo

SLEEP = [sys.executable, "-c", "import subprocess, sys; subprocess.run(['sleep', '60'])"]


def test_simulated_members_have_five_classes(tmp_path: Path) -> None:
    lists = large_zoos.class_lists(300, 0)
    assert all(len(set(lists[i].names)) == 5 for i in range(300)) and len(lists) == 300
    (tmp_path / "catalogue").write_bytes(large_zoos.simulated(300, 0).to_bytes())
    found = large_zoos.ranking(open_zoo(RESNET_ZOO), tmp_path / "catalogue")
    assert 0.2 < found["nearest"] < 1 and found["rank_s"] < 10


def test_a_zoo_without_its_specialists(tmp_path: Path) -> None:
    whole = open_zoo(RESNET_ZOO)
    found = launchers.without_specialists(whole, tmp_path / "zoo")
    assert found.infos() == whole.generalists() and found.base == whole.base


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")
def test_workers_are_killed_and_counted() -> None:
    """Those below a process that starts them, as engines do."""
    before = launchers.processor_s()
    with launchers.killing(b"sleep", 1, 0.05, random.Random(0)) as killed:
        starter = subprocess.Popen(SLEEP)
        with contextlib.suppress(subprocess.TimeoutExpired):
            assert starter.wait(60) == 0
    assert len(killed) == 1 and killed[0] != starter.pid
    with pytest.raises(ProcessLookupError):
        os.kill(killed[0], signal.SIGCONT)
    began = time.process_time()
    while time.process_time() < began + 0.05:
        pass
    assert launchers.processor_s() > before


def record(**words: object) -> dict[str, object]:
    result = {k: words.pop(k) for k in ("killed", "repeated", "same", "processor_s") if k in words}
    commit = "abc" if words["round"] is None else "def"
    return {
        "commit": commit,
        "dirty": False,
        "config": {"members": 20, "members_per_job": 1, **words},
        "result": result,
    }


def test_what_an_engine_costs_is_what_it_takes_more_than_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        record(launcher="none", round=0, kills=0, processor_s=40.0),
        record(launcher="ray", round=0, kills=0, killed=0, repeated=0, same=True, processor_s=64.0),
        record(launcher="none", round=1, kills=0, processor_s=80.0),
        record(launcher="ray", round=1, kills=0, killed=0, repeated=0, same=True, processor_s=104.0),
        record(launcher="none", round=None, kills=0, processor_s=10.0),
        record(launcher="ray", round=None, kills=10, killed=9, repeated=8, same=True, processor_s=90.0),
        record(launcher="ray", round=None, kills=10, killed=10, repeated=10, same=False, processor_s=99.0),
    ]
    monkeypatch.setattr(records, "read", lambda question: rows)
    assert zoos.launchers().splitlines()[2] == "| `ray` | 1 | 4 x 20 | 19 | 18 | 3 of 4 | 1.2 | 2.0% | 0.2% |"
    monkeypatch.setattr(records, "read", lambda question: rows[:2])
    assert zoos.launchers().splitlines()[2] == "| `ray` | 1 | 1 x 20 | not run yet |  | 1 of 1 | 1.2 | 2.0% | 0.2% |"


def test_large_zoos_by_their_number_of_members(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = {"rank_s": 0.25, "read_s": 0.01, "catalogue_mib": 0.5, "added_mib": 1200}
    rows = [
        {"dirty": True, "config": {"kind": "rank", "members": 10_000}, "result": measured},
        {
            "dirty": False, "config": {"kind": "list", "members": 10_000},
            "result": {"first_processor_s": 1.4, "processor_s": 0.5},
        },
    ]  # fmt: skip
    monkeypatch.setattr(records, "read", lambda question: rows)
    first, last = zoos.large_zoos().split("\n\n")
    assert first.splitlines()[2] == "| 10,000 †1 | 0.25 | 0.01 | 0.5 | 1,200 |"
    assert last == "`zoo list` of 10,000 members takes 0.5 s, and 1.4 s when the catalogue has to be made."
