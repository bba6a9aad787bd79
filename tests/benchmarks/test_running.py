import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import __main__ as command
from benchmarks import records, render
from benchmarks.cost import CostMeter, ifp_dense_iterations, nominal_tflops
from benchmarks.experiments import EXPERIMENTS
from benchmarks.methods import whole_base
from benchmarks.records import RESULTS, Line, append_line, read_lines
from benchmarks.setting import Setting
from benchmarks.suite import Context, Experiment, NotApplicableError, Row, carry_out, run_rows, target_tasks, write_rows
from benchmarks.tables.papers import table
from benchmarks.trials import SAME, counted
from mvp_edge.config import PruneSchedule
from mvp_edge.core.errors import ConfigError
from mvp_edge.models.macs import count_macs


def broken(setting: Setting) -> nn.Module:
    raise RuntimeError("out of luck")


def senseless(setting: Setting) -> nn.Module:
    raise NotApplicableError("no neighbour")


WHOLE = Row("whole", "base", "the whole base", whole_base(), form="whole")
ABSENT = Row("absent", "uvc", "cannot run", whole_base(), dataset="no-such-set", paper="12.3")


def test_trials_are_recorded_once(context: Context) -> None:
    rows = [WHOLE, replace(WHOLE, name="senseless", run=senseless)]
    run_rows("trial", rows, context)
    trials = context.trials("trial")
    assert [(t["row"], t["status"]) for t in trials] == [("whole", "ok"), ("senseless", "skipped")] * 2
    assert {"time", "commit", "dirty", "environment", "seconds", "top1", "macs", "hyper"} <= trials[0].keys()
    run_rows("trial", rows, context)
    assert len(context.trials("trial")) == 4
    run_rows("trial", [replace(WHOLE, hyper={"lr": 0.5})], context)  # other settings are another trial
    assert len(context.trials("trial")) == 6


def test_a_method_that_fails_is_not_recorded(context: Context) -> None:
    with pytest.raises(RuntimeError, match="luck"):
        run_rows("trial", [WHOLE, replace(WHOLE, name="broken", run=broken)], context)
    assert [t["row"] for t in context.trials("trial")] == ["whole"]


def test_rows_that_cannot_run_say_why_and_do_not_stop_the_others(context: Context) -> None:
    experiment = Experiment("trial", "?", "ours", lambda c: [ABSENT, WHOLE])
    assert "no folder no-such-set/" in carry_out(experiment, context)["absent"]
    assert {t["row"] for t in context.trials("trial")} == {"whole"}


def test_only_the_methods_asked_for_run(context: Context) -> None:
    rows = [WHOLE, replace(WHOLE, name="other", method="mest")]
    carry_out(Experiment("trial", "?", "ours", lambda c: rows), replace(context, tasks=1, methods=frozenset(["mest"])))
    assert [t["row"] for t in context.trials("trial")] == ["other"]


def test_rows_of_earlier_code_keep_their_place(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, [replace(WHOLE, name=n, title=n) for n in "abc"])
    write_rows(path, [replace(WHOLE, name=n, title=n.upper()) for n in "cd"])
    assert [line["title"] for line in read_lines(path)] == ["a", "b", "C", "D"]


def test_target_tasks_are_those_of_no_member(context: Context) -> None:
    taken = {i.task.id for i in context.zoo.infos()}
    tasks = target_tasks(context, WHOLE, context.zoo)
    assert len(tasks) == 2
    assert not {t.id for t in tasks} & taken
    assert target_tasks(context, replace(WHOLE, count=1), context.zoo) == tasks[:1]
    own = target_tasks(context, replace(WHOLE, tasks="members"), context.zoo)
    assert {t.id for t in own} < taken


def test_what_is_made_once_is_made_again_only_if_it_is_gone(context: Context, tmp_path: Path) -> None:
    product, made = tmp_path / "product", []

    def make(s: Setting) -> Line:
        made.append(s.task.names)
        product.touch()
        return {"top1": 50.0}

    row = replace(WHOLE, run=make, tasks="once", product=product)
    for _ in range(2):
        run_rows("trial", [row], context)
    product.unlink()
    run_rows("trial", [row], context)
    assert made == [(), ()]
    assert [t["task"] for t in context.trials("trial")] == ["", ""]
    (context.out / "trials" / "trial.jsonl").unlink()
    run_rows("trial", [row], context)  # a part was made by an earlier run, at a cost that nobody knows
    assert [t["seconds"] for t in context.trials("trial")] == [None]


def test_another_zoo_makes_another_row_once_it_has_as_many_tasks() -> None:
    common = dict.fromkeys(SAME, "") | {"row": "mvp", "dataset": "cifar100", "seed": 0, "status": "ok"}
    old = [common | {"task": task, "top1": 50.0} for task in "ab"]
    new = [common | {"zoo_id": "newer", "task": task, "top1": top1} for task, top1 in (("a", 12.0), ("b", 14.0))]
    assert [t["top1"] for t in counted([*old, new[0]], "mvp")] == [50.0, 50.0]
    assert [t["top1"] for t in counted([*old, *new], "mvp")] == [12.0, 14.0]
    assert [t["top1"] for t in counted([*old, old[0] | {"top1": 60.0}], "mvp")] == [60.0, 50.0]


TOPS = {
    "mvp-100": {"a": 90.0, "b": 80.0, "c": 74.0},
    "ifp-1000": {"a": 92.0, "b": 84.0, "c": 78.0},
    "mest-100": {"b": 70.0, "c": 60.0},
    "dlth-100": {"a": 60.0, "c": 50.0},
    "uvc-100": {},
}


def stored(out: Path, name: str, tops: dict[str, dict[str, float]] = TOPS) -> None:
    """Put trials and rows of an experiment into a directory."""
    common = dict.fromkeys(SAME, "") | {"status": "ok", "dataset": "cifar100", "seed": 0, "iterations": 100}
    figures = {"hyper": {"lr": 0.1}, "nominal_tflops": 0.43, "macs": 7.2e6, "notes": {}}
    for row, tasks in tops.items():
        for seconds, (task, top1) in enumerate(tasks.items(), 1):
            trial = common | figures | {"row": row, "task": task, "top1": top1, "seconds": seconds**3}
            append_line(out / "trials" / f"{name}.jsonl", trial | {"dirty": task == "a"})
    write_rows(out / f"{name}.jsonl", [Row(row, row, row, None, paper="76.28" * (row == "uvc-100")) for row in tops])


@pytest.mark.parametrize("name", ["table1", "ablations"])
def test_rows_of_few_tasks_are_compared_on_them(name: str, tmp_path: Path) -> None:
    stored(tmp_path, name)
    first, second, third = table(name, tmp_path).split("\n\n")
    assert first.splitlines()[2] == "| mvp-100 | 3 †1 | 81.33 | 8.08 |  | 0.43 |  | 7.2 | 8 |"  # seconds: the median
    assert first.splitlines()[-1] == "| uvc-100 |  | not run |  | 76.28 |  |  |  |  |"
    assert second.splitlines() == [  # in the order of the rows
        "| top-1 mean on the same tasks | 2 tasks | 2 tasks |",
        "|---|---|---|",
        "| mvp-100 | 77.00 | 82.00 |",
        "| ifp-1000 | 81.00 | 85.00 |",
        "| mest-100 | 65.00 |  |",
        "| dlth-100 |  | 55.00 |",
    ]
    assert third == "Not run: uvc-100."


def test_rows_of_equal_tasks_need_no_second_table(tmp_path: Path) -> None:
    stored(tmp_path, "table1", {k: TOPS[k] for k in ("mvp-100", "ifp-1000")})
    assert "same tasks" not in table("table1", tmp_path)


def test_the_table_of_baselines_has_a_column_for_the_tasks_that_all_rows_have(tmp_path: Path) -> None:
    stored(tmp_path, "baselines")
    head, _, *rows = (line.split(" | ") for line in table("baselines", tmp_path).split("\n\n")[0].splitlines())
    column = head.index("on the same 1")
    assert [row[column] for row in rows] == ["74.00", "78.00", "60.00", "50.00", ""]


@pytest.mark.parametrize(
    ("notes", "hyper", "expected"),
    [({"members": 30}, {"members": 40}, 30), ({}, {"members": 20}, 20), ({"added": 25}, {}, 25), ({}, {}, 1)],
)
def test_a_mean_over_members_is_one_of_as_many_tasks(tmp_path: Path, notes: Line, hyper: Line, expected: int) -> None:
    stored(tmp_path, "zoos", {"taylor": {"": 50.0}})
    path = tmp_path / "trials" / "zoos.jsonl"
    path.write_text(json.dumps(read_lines(path)[0] | {"notes": notes, "hyper": hyper}) + "\n")
    assert f"| taylor | {expected} | 50.00 |" in table("zoos", tmp_path)


def repository(path: Path, monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    monkeypatch.setattr(records, "_git", lambda *words: "abc1234" if words[0] == "rev-parse" else status)
    records.code.cache_clear()


@pytest.fixture
def fresh_code():
    """Forget what was found out about the code before and after a test."""
    records.code.cache_clear()
    yield
    records.code.cache_clear()


def test_uncommitted_code_is_refused_unless_it_is_allowed(
    fresh_code: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository(tmp_path, monkeypatch, " M benchmarks/suite.py\n?? mvp_edge/new.py")
    with pytest.raises(ConfigError, match="suite.py, mvp_edge/new.py.*--allow-dirty"):
        records.require_clean(False)
    records.require_clean(True)
    append_line(tmp_path / "a.jsonl", {"n": 1})
    assert [(r["commit"], r["dirty"]) for r in read_lines(tmp_path / "a.jsonl")] == [("abc1234", True)]
    for words in (["table1"], ["population"]):
        with pytest.raises(SystemExit, match="not committed"):
            command.main(words)
    repository(tmp_path, monkeypatch, "")
    records.require_clean(False)


def test_code_outside_a_repository_is_not_committed(fresh_code: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_git", lambda *words: "")
    assert records.code() == {"commit": "", "dirty": True}


def test_records_of_uncommitted_code_are_marked_where_they_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert records.dirty_mark([{"dirty": True}, {"dirty": False}, {"dirty": True}]) == " †2"
    assert records.dirty_mark([{"dirty": False}]) == ""
    monkeypatch.setitem(render.TABLES, "packing", lambda: "| 20 †2 |")
    page = render.rendered("<!-- table packing -->\nold\n<!-- end -->\n")
    assert page.startswith("<!-- table packing -->\n| 20 †2 |\n\n†N: N of the records")
    assert render.rendered(page) == page


def test_a_page_may_not_name_a_table_that_does_not_exist() -> None:
    with pytest.raises(KeyError, match="no-such-table"):
        render.rendered("<!-- table no-such-table -->\n<!-- end -->")


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


def test_results_of_a_smaller_scale_are_not_mixed_in() -> None:
    with pytest.raises(SystemExit, match="elsewhere"):
        command.main(["table1", "--scale", "0.1"])


def test_names_of_no_row_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="called hwole; there are smsp, smsp-0.05"):
        command.main(["memory", "--methods", "hwole", "--out", str(tmp_path), "--allow-dirty"])


def test_the_list_names_everything_that_can_be_run(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["list"])
    text = capsys.readouterr().out
    assert all(name in text for name in (*EXPERIMENTS, *command.SCRIPTS))
    scripts = (RESULTS.parent / "measurements").glob("*.py")
    assert {p.stem.replace("_", "-") for p in scripts} - {"--init--"} == set(command.SCRIPTS)


@pytest.mark.parametrize("name", command.SCRIPTS)
def test_scripts_get_their_own_arguments(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        command.main([name, "--help"])
    text = capsys.readouterr().out
    assert f"python -m benchmarks {name}" in text
    assert "--allow-dirty" in text


def test_every_committed_trial_belongs_to_a_row_of_its_table() -> None:
    for name in EXPERIMENTS:
        lines = {line["row"]: line for line in read_lines(RESULTS / f"{name}.jsonl")}
        trials = read_lines(RESULTS / "trials" / f"{name}.jsonl")
        assert {t["row"] for t in trials} <= lines.keys(), name
        assert all(t["commit"] and {"dirty", "task", "seed", "status"} <= t.keys() for t in trials), name
        for line in lines.values():
            assert not line["trials"] or line["row"] not in {t["row"] for t in trials}, (name, line["row"])
    assert {p.stem for p in RESULTS.glob("*.jsonl")} == {p.stem for p in (RESULTS / "trials").glob("*.jsonl")} | {
        "imagenet"
    }


def test_measurements_lie_apart_from_the_experiments_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert records.read("prune-time")
    monkeypatch.setattr(records, "MEASUREMENTS", tmp_path / "results" / "measurements")
    records.append("packing", {}, {"n": 1}, torch.device("cpu"))
    assert [r["result"] for r in records.read("packing")] == [{"n": 1}]
    assert [p.name for p in (tmp_path / "results").rglob("*.jsonl")] == ["packing.jsonl"]
