import json
import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import __main__ as command
from benchmarks import records
from benchmarks.methods import whole_base
from benchmarks.records import RESULTS
from benchmarks.registry import SCRIPTS, experiments
from benchmarks.setting import Setting
from benchmarks.suite.cost import CostMeter, ifp_dense_iterations, nominal_tflops
from benchmarks.suite.experiment import Clock, Context, Experiment, Row
from benchmarks.suite.running import cases, try_once, try_row, try_rows
from benchmarks.suite.store import SAME, Line, Store, counted
from benchmarks.suite.summary import REQUIRED, STATUS, summarise
from benchmarks.tables.experiments import table
from mvp_edge.config import PruneSchedule
from mvp_edge.core.errors import ConfigError
from mvp_edge.models.macs import count_macs


def broken(setting: Setting) -> nn.Module:
    raise RuntimeError("out of luck")


WHOLE = Row("whole", "base", "the whole base", whole_base, form="whole")
BROKEN = Row("broken", "mest", "fails", broken)
ABSENT = Row("absent", "uvc", "cannot run", whole_base, missing="there is no ViT zoo")


def test_trials_are_recorded_once_and_summarised(context: Context) -> None:
    rows = [WHOLE, BROKEN, ABSENT]
    tasks = cases(context, 2)
    try_rows("trial", rows, tasks)
    trials = context.store.trials("trial")
    assert [(t["row"], t["status"]) for t in trials] == [("whole", "ok"), ("broken", "failed")] * 2
    lines = summarise("trial", rows, trials, "tiny")
    assert all(set(REQUIRED) <= line.keys() for line in lines)
    assert [line["status"] for line in lines] == ["ok", "failed", "not-run"]
    assert [line["n_tasks"] for line in lines] == [2, 0, 0]
    assert lines[0]["seeds"] == [0]
    assert lines[0]["top1_mean"] == pytest.approx(sum(t["top1"] for t in trials[::2]) / 2, abs=0.01)
    assert lines[1]["top1_mean"] is None
    assert "out of luck" in lines[1]["reason"]
    assert lines[2]["reason"] == "there is no ViT zoo"
    try_rows("trial", rows, tasks)  # what succeeded is not repeated; what failed is tried again
    assert [t["row"] for t in context.store.trials("trial")[4:]] == ["broken", "broken"]


def test_target_tasks_are_those_of_no_member(context: Context) -> None:
    taken = {i.task.id for i in context.zoo.infos()}
    tasks = cases(context, 2)
    assert len(tasks) == 2
    assert not {c.task.id for c in tasks} & taken
    assert [c.task.id for c in cases(context, 1)] == [tasks[0].task.id]


def test_another_zoo_makes_another_row_once_it_has_as_many_tasks(context: Context) -> None:
    row = replace(WHOLE, zoo=True)
    for case in cases(context, 2):
        try_row("trial", row, case)
    old = context.store.trials("trial")
    [before] = summarise("trial", [row], old, "tiny")
    context.store.add("trial", {**old[0], "zoo_id": "newer", "top1": 12.0})
    [line] = summarise("trial", [row], context.store.trials("trial"), "tiny")
    assert (line["top1_mean"], line["n_tasks"]) == (before["top1_mean"], 2)
    context.store.add("trial", {**old[1], "zoo_id": "newer", "top1": 14.0})
    [line] = summarise("trial", [row], context.store.trials("trial"), "tiny")
    assert (line["top1_mean"], line["n_tasks"]) == (13.0, 2)


def test_times_are_medians_and_all_machines_are_named(context: Context) -> None:
    try_row("trial", WHOLE, cases(context, 1)[0])
    [first] = context.store.trials("trial")
    for number, seconds in enumerate((1.0, 2.0, 300.0)):
        context.store.add("trial", {**first, "task": str(number), "seconds": seconds, "device": f"cpu {number % 2}"})
    context.store.add("trial", {**first, "seconds": 3.0, "device": "cpu 1"})
    [line] = summarise("trial", [WHOLE], context.store.trials("trial"), "tiny")
    assert line["seconds"] == 2.5
    assert line["device"] == "cpu 1; cpu 0"


def test_a_row_is_dirty_if_one_of_its_trials_was(context: Context) -> None:
    for case in cases(context, 2):
        try_row("trial", WHOLE, case)
    clean, changed = ({**t, "dirty": d} for t, d in zip(context.store.trials("trial"), (False, True), strict=True))
    assert [summarise("trial", [WHOLE], found, "")[0]["dirty"] for found in ([clean], [clean, changed], [])] == [
        False, True, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("notes", "hyper", "expected"),
    [({"members": 30}, {"members": 40}, 30), ({}, {"members": 20}, 20), ({"added": 25}, {}, 25), ({}, {}, 1)],
)
def test_a_mean_over_members_is_one_of_as_many_tasks(context: Context, notes: Line, hyper: Line, expected: int) -> None:
    row = replace(WHOLE, hyper=hyper)
    try_once("trial", row, context, context.zoo, lambda: {"top1": 50.0, "notes": notes})
    assert summarise("trial", [row], context.store.trials("trial"), "")[0]["n_tasks"] == expected


def test_the_clock_starts_nothing_that_would_be_late(context: Context) -> None:
    now = [0.0]
    clock = Clock(1.0, now=lambda: now[0])
    assert clock.allows(60)
    assert not clock.allows(61)
    assert Clock().allows(1e9)
    late = Context(context.zoo, context.data, context.store, context.work, clock=clock, tasks=1)
    try_rows("trial", [replace(WHOLE, seconds=61.0)], cases(late, 1))
    assert context.store.trials("trial") == []
    try_rows("trial", [replace(WHOLE, seconds=59.0)], cases(late, 1))
    assert len(context.store.trials("trial")) == 1
    now[0] = 60.0 - context.store.trials("trial")[0]["seconds"] / 2  # now the measured time decides
    other = Context(context.zoo, context.data, context.store, context.work, clock=clock, tasks=2)
    try_rows("trial", [replace(WHOLE, seconds=0.0)], cases(other, 2))
    assert len(context.store.trials("trial")) == 1


TOPS = {
    "mvp-100": {"a": 90.0, "b": 80.0, "c": 74.0},
    "ifp-1000": {"a": 92.0, "b": 84.0, "c": 78.0},
    "mest-100": {"b": 70.0, "c": 60.0},
    "dlth-100": {"a": 60.0, "c": 50.0},
}


def stored(store: Store, name: str, tops: Mapping[str, Mapping[str, float]] = TOPS) -> list[Line]:
    """Put trials and rows of an experiment into a store; return the rows."""
    for row, tasks in tops.items():
        for task, top1 in tasks.items():
            trial = {"row": row, "task": task, "top1": top1, "status": "ok", "dataset": "cifar100", "seed": 0}
            store.add(name, trial | dict.fromkeys(SAME, ""))
    lines = [
        {"row": row, "title": row, "n_tasks": len(tasks), "top1_mean": 1.0, "form": "sliced", "status": "ok",
         "dataset": "cifar100", "paper": "", "reason": "", "iterations": 100, "hyper": {"lr": 0.1},
         **dict.fromkeys(("top1_sd", "nominal_tflops", "training_tflops", "macs", "seconds"))}
        for row, tasks in tops.items()
    ]  # fmt: skip
    store.write(name, lines)
    return lines


@pytest.mark.parametrize("name", ["table1", "ablations"])
def test_rows_of_few_tasks_are_compared_on_them(name: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    lines = stored(store, name)
    assert table(name, store).split("\n\n")[1].splitlines() == [  # in the order of the rows
        "| top-1 mean on the same tasks | 2 tasks | 2 tasks |",
        "|---|---|---|",
        "| mvp-100 | 77.00 | 82.00 |",
        "| ifp-1000 | 81.00 | 85.00 |",
        "| mest-100 | 65.00 |  |",
        "| dlth-100 |  | 55.00 |",
    ]
    store.write(name, lines[:2])
    assert "same tasks" not in table(name, store)


def test_the_table_of_rivals_has_a_column_for_the_tasks_that_all_rows_have(tmp_path: Path) -> None:
    store = Store(tmp_path)
    stored(store, "rivals")
    head, _, *rows = (line.split(" | ") for line in table("rivals", store).splitlines())
    column = head.index("on the same 1")
    assert [row[column] for row in rows] == ["74.00", "78.00", "60.00", "50.00"]


def test_only_the_methods_asked_for_run(context: Context) -> None:
    chosen = Context(context.zoo, context.data, context.store, context.work, tasks=1, methods=frozenset(["mest"]))
    try_rows("trial", [WHOLE, BROKEN], cases(chosen, 1))
    assert [t["method"] for t in context.store.trials("trial")] == ["mest"]


def test_a_trial_that_another_process_holds_is_left_to_it(context: Context) -> None:
    [case] = cases(context, 1)
    with context.store.claim("trial", f"whole-{case.task.id}-0") as mine:
        assert mine
        try_row("trial", WHOLE, case)
    assert context.store.trials("trial") == []


def test_equal_trials_of_another_experiment_are_not_repeated(context: Context) -> None:
    [case] = cases(replace(context, tasks=1), 1)
    shared = replace(WHOLE, shared=True)
    try_row("first", shared, case)
    [first] = context.store.trials("first")
    [late] = cases(replace(context, tasks=1, clock=Clock(0.0)), 1)
    try_row("second", shared, late)
    assert context.store.trials("second") == []
    try_row("second", replace(shared, name="dense", title="the same under another name"), case)
    [second] = context.store.trials("second")
    differing = {"experiment": "second", "row": "dense", "from": "first"}
    assert second == first | differing
    assert "from" not in first
    for other in (replace(shared, hyper={"lr": 1}), replace(shared, method="other"), WHOLE):  # not equal, or unsure
        try_row("third", replace(other, name=f"row {other.method} {other.hyper}"), case)
    assert [t.get("from") for t in context.store.trials("third")] == [None] * 3


def test_measured_cost_is_what_the_layers_did() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.Flatten(), nn.Linear(8 * 16, 5))
    image = torch.randn(4, 3, 8, 8)
    macs = 4 * (8 * 16 * 27 + 5 * 128)
    with CostMeter() as meter:
        model.eval()(image)
    assert meter.macs == macs == 4 * count_macs(model, (8, 8))
    with CostMeter() as meter:
        model.train()(image)
    assert meter.macs == 3 * macs
    model(image)
    assert meter.macs == 3 * macs  # outside the block nothing is counted


def test_nominal_cost_is_the_papers() -> None:
    dense = 555_500_000
    assert nominal_tflops(dense, 100 * 0.1**2, 128) == pytest.approx(0.427, abs=1e-3)  # Table 1, MVP: 0.43
    assert nominal_tflops(dense, 100 * 0.1, 128) == pytest.approx(4.27, abs=1e-2)  # DLTH: 4.28
    ifp = nominal_tflops(dense, ifp_dense_iterations(PruneSchedule(), 1000), 128)
    assert ifp == pytest.approx(14.88, rel=0.06)  # IFP; the schedule is not in the paper
    assert ifp_dense_iterations(PruneSchedule(keep=0.5, every=1, drop=0.5), 3) == 1 + 0.25 + 0.25


def test_the_command_writes_rows_also_when_it_is_interrupted(context: Context) -> None:
    def run(c: Context, rows: list[Row]) -> None:
        try_rows("half", rows, cases(c, 1))
        raise KeyboardInterrupt

    experiment = Experiment("half", "?", "ours", 1, lambda c: [WHOLE, ABSENT], run)  # pyright: ignore
    with pytest.raises(KeyboardInterrupt):
        command.carry_out(experiment, context)
    assert [line["status"] for line in context.store.lines("half")] == ["ok", "not-run"]


def test_results_of_a_smaller_scale_are_not_mixed_in() -> None:
    with pytest.raises(SystemExit, match="elsewhere"):
        command.main(["table1", "--scale", "0.1"])


def test_the_list_names_every_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["list"])
    text = capsys.readouterr().out
    assert all(name in text for name in experiments())
    assert "edge-latency" in text


def test_every_script_is_listed() -> None:
    scripts = (RESULTS.parent / "measurements").glob("*.py")
    assert {p.stem.replace("_", "-") for p in scripts} - {"--init--"} == set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_get_their_own_arguments(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [])
    with pytest.raises(SystemExit, match="0"):
        command.main([name, "--help"])
    assert f"python -m benchmarks {name}" in capsys.readouterr().out


def test_committed_rows_follow_from_committed_trials() -> None:
    store = Store()
    for name in experiments():
        lines, trials = store.lines(name), store.trials(name)
        for line in lines:
            assert set(REQUIRED) <= line.keys(), name
            assert line["status"] == "ok" or (line["status"] in STATUS and line["reason"]), name
            mine = [t for t in trials if t["row"] == line["row"] and t["task"] in line["tasks"]]
            assert {t["task"] for t in mine} == set(line["tasks"]), (name, line["row"])
            told = [t for t in counted(trials, line["row"]) if t["status"] == "ok"]
            assert len(told) == line["n_tasks"] or line["tasks"] == [""], (name, line["row"])
            assert line["dirty"] == (any(t["dirty"] for t in counted(trials, line["row"])) if told else None), name
            top1 = [t["top1"] for t in told if t["top1"] is not None]
            assert line["top1_mean"] == (round(statistics.mean(top1), 2) if top1 else None), (name, line["row"])
            assert line["top1_sd"] == (round(statistics.stdev(top1), 2) if len(top1) > 1 else None), (name, line["row"])


def test_all_files_beside_the_experiments_rows_have_their_fields() -> None:
    files = sorted(RESULTS.glob("*.jsonl"))
    assert {f.stem for f in files} <= experiments().keys()
    for file in files:
        for line in map(json.loads, file.read_text().splitlines()):
            assert set(REQUIRED) <= line.keys(), file.name
            assert line["status"] in STATUS, (file.name, line["row"])
            assert line["status"] == "ok" or line["reason"], (file.name, line["row"])


def test_measurements_lie_apart_from_the_experiments_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert records.read("prune-time")
    monkeypatch.setattr(records, "MEASUREMENTS", tmp_path / "results" / "measurements")
    records.append("packing", {}, {"n": 1}, torch.device("cpu"))
    assert [r["result"] for r in records.read("packing")] == [{"n": 1}]
    assert [p.name for p in (tmp_path / "results").rglob("*.jsonl")] == ["packing.jsonl"]


def test_a_budget_for_all_is_shared_out_and_what_is_left_is_used(context: Context) -> None:
    now, seen = [0.0], []

    def run(c: Context, rows: list[Row]) -> None:
        seen.append([s for s in (10, 20, 30, 60) if c.clock.allows(s)])
        now[0] += 6.0

    known = [Experiment(n, "?", "ours", 1, lambda c: [ABSENT], run) for n in ("a", "b")]  # pyright: ignore
    command.carry_out_all(known, replace(context, clock=Clock(1.0, now=lambda: now[0])))
    assert seen == [[10, 20, 30], [10, 20, 30], [10, 20, 30], [10, 20, 30]]
    assert not Clock().is_limited
    assert Clock().part(0.1).allows(1e9)


def test_an_experiment_that_cannot_go_on_does_not_stop_the_others(
    context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    ran = []

    def fails(c: Context, rows: list[Row]) -> None:
        raise ConfigError("no room left")

    def runs(c: Context, rows: list[Row]) -> None:
        ran.append("b")

    known = [Experiment(n, "?", "ours", 1, lambda c: [ABSENT], run) for n, run in (("a", fails), ("b", runs))]  # pyright: ignore
    command.carry_out_all(known, context)
    assert ran == ["b"]
    assert "a: no room left" in caplog.text


def test_what_is_made_once_is_recorded_also_when_it_fails(context: Context) -> None:
    made = []

    def make(fail: bool = False) -> Line:
        made.append(fail)
        if fail:
            raise RuntimeError("out of luck")
        return {"top1": 50.0}

    def once(fail: bool = False, anew: bool = False) -> str:
        try_once("trial", WHOLE, context, context.zoo, lambda: make(fail), anew=anew)
        return context.store.trials("trial")[-1]["status"]

    assert once(fail=True) == "failed"
    assert "out of luck" in context.store.trials("trial")[-1]["reason"]
    assert [once(), once()] == ["ok", "ok"]
    assert made == [True, False]  # what failed is tried again, what succeeded is not
    once(anew=True)
    assert len(made) == 3
    with context.store.claim("trial", f"{WHOLE.name}--{context.seed}"):
        once(anew=True)
    assert len(made) == 3  # another process makes it


def test_names_of_no_row_are_refused(context: Context) -> None:
    known = [Experiment("a", "?", "ours", 1, lambda c: [ABSENT, WHOLE], lambda c, rows: None)]
    command.check_methods(known, replace(context, methods=frozenset(["whole", "uvc"])))
    with pytest.raises(ConfigError, match=r"called hwole; there are uvc, absent, base, whole"):
        command.check_methods(known, replace(context, methods=frozenset(["hwole"])))
