from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from matplotlib.image import imread

from benchmarks.experiments import figures
from benchmarks.experiments.figures import iou, plot_overlap
from benchmarks.plots import CURVES, MOST, SHADES, legend, panels
from benchmarks.records import Line
from benchmarks.setting import Setting
from benchmarks.tables.papers import _overlap
from benchmarks.trials import SAME, counted
from mvp_edge.core.errors import PlanError
from mvp_edge.models.plan import make_plan

VALUES = {
    "vit-leep": {"1/attn": 1.0, "1/mlp": 0.6, "2/attn": 1.0, "2/mlp": 0.4, "5/attn": 1.0, "5/mlp": 0.2},
    "vit-random": {"1/attn": 0.25, "1/mlp": 0.05},
    "vit-random-in-parent": {"1/attn": 1.0, "1/mlp": 0.3},
    "leep": {"1/conv": 1.0, "5/conv": 0.8},
    "ssl-leep": {"1/conv": 1.0, "5/conv": 0.8},
}
LINES: list[Line] = [{"row": row, "title": row} for row in VALUES]


def trial(row: str, task: str, values: dict[str, float]) -> Line:
    about = {"row": row, "task": task, "base": row.split("-")[0], "status": "ok", "dirty": False, "values": values}
    return {**dict.fromkeys(SAME, ""), "dataset": "", "seed": 0, **about}


TRIALS = [trial(row, "a", values) for row, values in VALUES.items()]


def table(trials: list[Line]) -> list[str]:
    return _overlap([(line, found) for line in LINES if (found := counted(trials, line["row"]))]).splitlines()


def test_layers_without_a_choice_are_left_out() -> None:
    _, _, *rows, empty, note = table(TRIALS)
    shown = {cells[1]: cells[3].split(" ")[0] for cells in (row.split(" | ") for row in ("| " + r for r in rows))}
    assert {k.removeprefix("| "): v for k, v in shown.items()} == {
        "vit-leep": "0.600",
        "vit-random": "0.050",
        "vit-random-in-parent": "0.300",
        "leep": "1.000",  # nothing tells that its parent left no choice
        "ssl-leep": "1.000",
    }
    assert empty == ""
    assert note.startswith("Left out: 1 of the 2 layers of vit (`attn` to `attn`)")


def test_a_group_that_is_empty_for_some_tasks_says_so() -> None:
    values = VALUES["vit-leep"]
    without = {k: v for k, v in values.items() if not k.startswith("2/")}
    [row] = [r for r in table([*TRIALS, trial("vit-leep", "b", without)]) if r.startswith("| vit-leep")]
    assert row == "| vit-leep | 2 | 0.600 (0.600) | 0.400 (0.400; 1 task) |  |  | 0.200 (0.200) |"


def test_the_figure_has_few_panels_a_row_and_one_of_differences_for_each_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {}

    def kept(path: Path, titles: list[str]):
        drawn["titles"] = titles
        return panels(path, titles)

    monkeypatch.setattr("benchmarks.experiments.figures.panels", kept)
    plot_overlap(LINES, TRIALS, tmp_path / "overlap.png")
    assert [t for t in drawn["titles"] if "group 5" in t] == [
        "ResNet-18: group 1 - group 5",
        "vision transformer: group 1 - group 5",
    ]
    plot_overlap(LINES, [t for t in TRIALS if "random" in t["row"]], tmp_path / "random.png")
    assert (tmp_path / "random.png").exists()
    height, width, _ = imread(tmp_path / "overlap.png").shape
    assert width < 1200 < 2 * height


def test_curves_differ_in_more_than_colour_and_legends_lie_outside(tmp_path: Path) -> None:
    for styles in (CURVES, SHADES):
        assert len({s.colour for s in styles}) == len({(s.line, s.marker) for s in styles}) == len(styles)
    with panels(tmp_path / "a.png", ["a", "b", "c"]) as axes:
        assert len(axes) == 3
        assert len({each.get_subplotspec().rowspan.start for each in axes}) == -(-3 // MOST)
        axes[0].plot([0, 1], [0, 1], label="x")
        legend(axes[0])
        axes[0].figure.draw_without_rendering()
        assert axes[0].get_legend().get_window_extent().x0 >= axes[0].get_window_extent().x1


def test_a_parent_that_is_not_there_has_the_units_that_its_children_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    def info(name: str, kept: list[int], parent: str) -> Any:
        plan, task = make_plan({"conv": 8}, {"conv": kept}), SimpleNamespace(id=name)
        return SimpleNamespace(id=name, kind="specialist", task=task, plan=plan, recipe={"parent": parent})

    children = [info("a", [0, 1], "p"), info("b", [1, 3], "p"), info("c", [6, 7], "other")]
    drawn: list[dict[str, Any]] = []
    monkeypatch.setattr(figures, "_drawn", lambda s, target, units: drawn.append(units) or {})
    for parent in ([], [info("p", [0, 1, 2, 3], "")]):
        zoo = SimpleNamespace(infos=lambda p=parent: [*children, *p])
        figures._within_parent(cast(Setting, SimpleNamespace(seed=0, zoo=zoo, task=children[0].task)))
    assert [units["conv"].tolist() for units in drawn] == [[0, 1, 3], [0, 1, 2, 3]]


def test_random_plans_lie_among_the_units_and_have_the_size_of_the_target() -> None:
    target: Any = SimpleNamespace(id="a", plan=make_plan({"conv": 8}, {"conv": [0, 1]}))
    s = cast(Setting, SimpleNamespace(seed=0))
    assert figures._drawn(s, target, {"conv": np.array([2, 5])}) == {"values": {"1/conv": 1.0}}
    assert figures._drawn(s, target, {"conv": np.arange(8)})["values"]["1/conv"] < 0.5


def test_overlap_of_hand_made_plans() -> None:
    a, b = make_plan({"g": 6}, {"g": [0, 1, 2]}), make_plan({"g": 6}, {"g": [2, 1, 5]})
    assert iou(a, b) == {"g": 0.5}
    assert iou(a, a) == {"g": 1.0}
    with pytest.raises(PlanError, match="different"):
        iou(a, make_plan({"g": 7}, {"g": [0]}))
