from pathlib import Path

from benchmarks.experiments.figures import group_rows, on_the_same_tasks
from benchmarks.records import append_line
from benchmarks.setting import Setting
from benchmarks.suite import Context, measure
from benchmarks.tables.papers import _groups
from benchmarks.trials import SAME

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
    top1 = on_the_same_tasks(ROWS, trials(TOPS))
    assert top1.mean().to_dict() == {
        ("activation zoo", 1): 85.0, ("activation zoo", 2): 88.0, ("taylor zoo", 1): 65.0,
    }  # fmt: skip
    assert list(top1.index) == ["a", "b"]


def test_rows_without_a_common_task_make_no_curves() -> None:
    assert len(on_the_same_tasks(ROWS, trials({"activation-1": {"a": 90.0}, "taylor-1": {"b": 60.0}}))) == 0
    assert len(on_the_same_tasks(ROWS, [])) == 0


def test_trials_of_groups_record_how_many_voted(context: Context, setting: Setting) -> None:
    [row] = [r for r in group_rows(context) if r.name == "leep-group1-20"]
    assert measure(row, setting)["notes"] == {"voters": len(setting.__dict__["grouped/leep"][1])}


def test_the_note_has_how_many_members_the_groups_of_the_same_zoo_have(tmp_path: Path) -> None:
    common = dict.fromkeys(SAME, "") | {"dataset": "cifar100", "seed": 0, "status": "ok", "top1": None}
    path = tmp_path / "trials" / "overlap.jsonl"
    for task, first in (("a", 2), ("b", 9)):
        members = {f"members/{g}": first if g == 1 else 10 * g for g in range(1, 6)}
        append_line(path, {**common, "row": "leep", "task": task, "notes": members})
    append_line(path, {**common, "row": "wordnet", "task": "a", "zoo_id": "another", "notes": {"members/1": 1}})
    append_line(tmp_path / "trials" / "groups.jsonl", {**common, "row": "leep-group1-20", "task": "x"})
    text = _groups(tmp_path)
    assert "have 2 to 9, 20 to 20, 30 to 30, 40 to 40, 50 to 50 members, over the 2 tasks of `overlap`" in text
    assert "fewer than 5 for 1, 0, 0, 0, 0 of them" in text
    assert "WordNet" not in text
