import pandas as pd
import pytest

from benchmarks import records
from benchmarks.tables import accuracy, device, tests

RUN = {
    "median_s": 2.0, "top1": [84.0], "stages_median_s": {"total": 2.0}, "help_s": 0.5, "macs": 1e6, "base_macs": 2e6,
    "bytes": {"onnx": 1024, "dense_onnx": 2**20},
    "latency_ms": {"dense": {"median": 2.0}, "pruned": {"median": 1.0}},
}  # fmt: skip


def test_the_main_job_says_of_how_many_runs_its_median_is(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {
            "dirty": images,
            "config": {"images": images},
            "environment": {"cores": 2, "processor": "x"},
            "result": RUN | {"wall_s": walls},
        }
        for images, walls in ((False, [1.0, 2.0, 3.0]), (True, [2.0] * 5))
    ]
    monkeypatch.setattr(records, "read", lambda question: rows)
    [row] = [line for line in device.prune_time().splitlines() if "report" in line]
    assert row == "| typed command to report | 2.0 s (median of 3) | 2.0 s (median of 5) |"
    assert "| names alone | with 500 images a class †1 |" in device.prune_time()


def test_versions_that_took_turns_are_compared_run_by_run_and_are_not_the_main_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = {"wall_s": [2.0, 4.0, 2.0], "median_s": 2.0, "peak_mib": 300, "stages_median_s": {"start": 1.5, "total": 2.0}}
    before = {**now, "wall_s": [8.0, 8.0, 6.0], "median_s": 8.0, "peak_mib": 900}
    alone = {"config": {"images": False}, "result": {"printed": ["alone"]}}
    paired = {
        "dirty": False,
        "config": {"images": False, "beside": "abc", "zoo": "z"},
        "result": {**now, "beside": before, "printed": ["paired"]},
    }
    budget = {**paired, "config": {**paired["config"], "max_macs": "130M"}}
    monkeypatch.setattr(records, "read", lambda question: [alone, paired, budget])
    row, limited = device.before_after().splitlines()[2:]
    assert limited.startswith("| names alone, at most 130 MMACs, `z` |")
    assert row == "| names alone, `z` | `abc` | 8.0 | 2.0 | 3.0x | 900 | 300 | 3 | start 1.5 | start 1.5 |"
    assert "alone" in device.prune_output()


def test_the_accuracy_told_without_images_is_not_called_a_check_on_others() -> None:
    assert "outputs that were stored of these very test images. What storing them costs" in accuracy.images()


def test_what_the_main_job_prints_is_shown_for_names_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"config": {"images": images}, "result": {"printed": [text, "files  out"]}}
        for images, text in ((False, "top-1  80 %"), (False, "top-1  84 %"), (True, "top-1  85 %"))
    ]
    monkeypatch.setattr(records, "read", lambda question: rows)
    assert device.prune_output() == "```text\ntop-1  84 %\nfiles  out\n```"


def test_mutations_that_survive_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"dirty": False, "commit": "abc", "config": {"seed": 0, "number": number} | more,
         "result": {"module": f"mvp_edge/zoo/{number}.py", "line": 7, "change": "1 -> 2", "by": by}}
        for number, by, more in (
            (0, "tests/zoo", {}), (1, "tests/zoo", {}), (2, "", {}), (3, "", {}),
            (2, "", {"again": "def"}), (3, "tests/zoo", {"again": "def"}),
        )
    ]  # fmt: skip
    monkeypatch.setattr(records, "read", lambda question: rows)
    first, table = tests.mutations().split("\n\n")
    assert "Of 4 mutations" in first and "noticed 2 " in first and "3 (75%)" in first
    assert table.splitlines()[2:] == ["| `zoo/2.py`, line 7 at abc | `1 -> 2` |"]
    monkeypatch.setattr(records, "read", lambda question: rows[:2])
    assert "2 (100%)" in tests.mutations() and "survives" not in tests.mutations()


def test_seeds_are_told_apart_from_tasks_and_the_tables_take_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {0: (50.0, 60.0), 1: (80.0, 90.0), 2: (82.0, 94.0), 3: (84.0, 92.0)}
    rows = [
        {"method": "prune", "seed": seed, "task": task, "top1": top1, "base_sha256": "b", "members": 1, "record": {}}
        for seed, of_tasks in found.items()
        for task, top1 in zip("ab", of_tasks, strict=True)
    ]
    monkeypatch.setattr(accuracy, "frame", lambda _: pd.DataFrame(rows))
    monkeypatch.setattr(accuracy, "mark", lambda _: "")
    (line,) = accuracy.seeds().splitlines()[2:]
    # Means of tasks 82 and 92; each has a standard deviation of 2 over the seeds, whose means are 85, 88 and 88.
    assert line.endswith("| 3 | 2 | 87.00 | 7.07 | 2.00 | 1.73 |")
    assert sorted(accuracy.on_targets().top1) == [80.0, 90.0]
