from benchmarks.experiments.curves import on_the_same_tasks
from benchmarks.suite.store import SAME

ROWS = {"activation zoo": {1: "activation-1", 2: "activation-2"}, "taylor zoo": {1: "taylor-1", 2: "taylor-2"}}
TOPS = {
    "activation-1": {"a": 90.0, "b": 80.0, "c": 10.0},
    "activation-2": {"a": 92.0, "b": 84.0, "c": 20.0},
    "taylor-1": {"a": 70.0, "b": 60.0},
}


def trials(tops: dict[str, dict[str, float]]) -> list[dict]:
    common = dict.fromkeys(SAME, "") | {"dataset": "cifar100", "seed": 0, "status": "ok"}
    return [{**common, "row": r, "task": t, "top1": v} for r, tasks in tops.items() for t, v in tasks.items()]


def test_curves_of_a_panel_are_over_the_same_tasks() -> None:
    curves = on_the_same_tasks(ROWS, trials(TOPS))
    assert {k: {x: y[0] for x, y in points.items()} for k, points in curves.by_label.items()} == {
        "activation zoo": {1: 85.0, 2: 88.0},
        "taylor zoo": {1: 65.0},
    }
    assert curves.over == "mean of the same 2 tasks"


def test_rows_without_a_common_task_make_no_curves() -> None:
    curves = on_the_same_tasks(ROWS, trials({"activation-1": {"a": 90.0}, "taylor-1": {"b": 60.0}}))
    assert not any(curves.by_label.values())
    assert curves.over == "no task"
    assert on_the_same_tasks(ROWS, []).tasks == 0
