"""Adding a result of `prune` to a zoo: the life-long half of the method (Algorithm 1, line 10)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from mvp_edge.core.errors import PlanError, ZooError
from mvp_edge.core.output import results_inside
from mvp_edge.core.words import in_short
from mvp_edge.models.plan import KeepPlan
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.models.slicing import sliced_copy
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.prune.deliver import member_recipe
from mvp_edge.report import Report
from mvp_edge.zoo.member import MemberInfo, member_id, read_weights
from mvp_edge.zoo.store import Added, Zoo


def add_result(zoo: Zoo, result: Path) -> Added:
    """Add the model in a result directory to a zoo, under the name that `prune --add-to-zoo` would give it.

    Args:
        zoo: Where to add it; a zoo of the model's own base.
        result: Directory with `plan.json`, `weights.safetensors` and `report.json`.

    Returns:
        The member, and whether it is new; one that is there already stays as it is.

    Raises:
        ZooError: it is a family of results, a file is missing or damaged, no images were used, the weights do not fit
            the plan, the model was cut from another base, or the zoo cannot be written.
    """
    if inside := results_inside(result):
        raise ZooError(f"{result} holds several results; give one of them: {in_short(inside)}")
    plan_json, report_json = _read_json(result / "plan.json"), _read_json(result / "report.json")
    if report_json.get("data", "") is None:
        raise ZooError(
            f"{result} was made without images, so it is a member of its zoo already; add a result of: "
            "mvp-edge prune --data DIR"
        )
    state = read_weights(_read(result / "weights.safetensors"), str(result / "weights.safetensors"))
    if report_json.get("body") and report_json.get("data"):
        raise ZooError(f"{result} is a ready-made network with a new head: no member of a zoo, whose units could vote")
    try:
        base_name, base_sha256 = plan_json["base"]["name"], plan_json["base"]["sha256"]
        plan = KeepPlan.from_json(plan_json)
        report = Report.from_json(report_json)
        task = Task(tuple(map(TaskClass, report.task.classes, report.task.synsets)))
    except (KeyError, TypeError, ValueError, PlanError) as e:
        raise ZooError(f"{result} is not a complete result ({e!r}); make it again: mvp-edge prune --out DIR") from e
    if base_sha256 != zoo.base.sha256:
        raise ZooError(
            f"{result} was cut from {base_name} ({base_sha256[:12]}), but zoo {zoo.name} is for {zoo.base.name} "
            f"({zoo.base.sha256[:12]}); give the zoo of its own base with --zoo"
        )
    _check_fit(zoo, plan, state, len(task.classes), result)
    images = report.data, report.data_sha256, report.data_held_out
    recipe = member_recipe(report.settings, report.budget, report.seed, *images)
    name, top1 = member_id(task, recipe), report.accuracy.top1
    info = MemberInfo(name, task, "specialist", plan, base_sha256, recipe, top1)
    return zoo.add(info, state)


def _check_fit(zoo: Zoo, plan: KeepPlan, state: dict[str, Tensor], classes: int, result: Path) -> None:
    """Refuse tensors that are not those of a network sliced to `plan` with one output a class."""
    prunable = PrunableModel.of(zoo.base, zoo.load_base())
    try:
        network = prunable.state_of(sliced_copy(prunable.model, prunable.table, plan))
    except PlanError as e:
        raise ZooError(
            f"{result / 'plan.json'} does not fit {zoo.base.name}: {e}; make it again with: mvp-edge prune"
        ) from e
    head = f"{prunable.head}."
    expected = {k: (classes, *v.shape[1:]) if k.startswith(head) else tuple(v.shape) for k, v in network.items()}
    found = {k: tuple(v.shape) for k, v in state.items()}
    wrong = sorted(k for k in expected.keys() | found.keys() if expected.get(k) != found.get(k))
    if not wrong:
        wrong = sorted(k for k, v in state.items() if not bool(v.isfinite().all()))
    if wrong:
        raise ZooError(
            f"{result / 'weights.safetensors'} does not fit its plan: {len(wrong)} tensors are missing, differ in "
            f"shape or are not finite, {wrong[0]} first; make it again with: mvp-edge prune --force"
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise ZooError(
            f"{path} cannot be read ({e.strerror or e}); name a directory that `mvp-edge prune` has left"
        ) from e


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_read(path))
    except ValueError as e:
        raise ZooError(f"{path} is damaged ({e}); make it again with: mvp-edge prune --out DIR") from e
    if not isinstance(value, dict):
        raise ZooError(f"{path} is damaged (no JSON object); make it again with: mvp-edge prune --out DIR")
    return value
