"""Making members: sample tasks, prune each from the base model, add it to the zoo."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from mvp_edge.config import BuildConfig, FitConfig, PruneSchedule, ScoreSchedule
from mvp_edge.data import DataSource, ImageSet
from mvp_edge.errors import ConfigError
from mvp_edge.networks.attention import attentions
from mvp_edge.networks.heads import random_head, shared_rows
from mvp_edge.networks.models import Base, head_of, set_head
from mvp_edge.networks.norms import IMAGES, is_folded, unfold
from mvp_edge.plan import KeepPlan
from mvp_edge.pruners import automatic_prune, base_importance, iterative_prune, target_counts, top_plan
from mvp_edge.runtime import Progress, Stage, on_device, on_host, rng, torch_rng
from mvp_edge.similarity import wordnet
from mvp_edge.tasks import Task, TaskClass, canonical, numbered
from mvp_edge.training.loop import BatchSource, accuracy, predict
from mvp_edge.training.optimizers import resolve_fit
from mvp_edge.trunk import Trunk
from mvp_edge.zoo import Breadth, Member, MemberInfo, Outputs, Zoo, create_zoo, member_id, open_zoo

NORM_CLASSES = 16  # whose images batch norms are measured on


def prepare_zoo(
    directory: Path, base: Base, model: nn.Module, data: DataSource, *, device: torch.device, progress: Progress
) -> tuple[Zoo, list[str]]:
    """Open the zoo of a base model, or make an empty one; its base can be trained.

    Batch norms that were folded into the convolutions are measured anew on images of the data. The recipe of the zoo's
    base tells of it, and which weights it came from.

    Returns:
        The zoo, and what the user should know.

    Raises:
        DataError: images cannot be read.
        ZooError: the directory holds something else or a zoo of another base model, or cannot be written.
    """
    if not is_folded(model):
        return create_zoo(directory, base, model), []
    told = f"batch norms measured anew, folded in the weights {base.sha256[:12]}"
    if (directory / "zoo.json").exists() and (zoo := open_zoo(str(directory))).base.recipe.endswith(told):
        return zoo, []
    with progress.stage("Measuring batch norms"):
        images = _sample(data, base)
        unfold(on_device(model, device), images, base, device)
    on_host(model)
    note = (
        f"the batch norms of {base.name} were folded into its convolutions; they were measured anew on {len(images)} "
        "images: the network computes the same, and can be trained"
    )
    return create_zoo(directory, replace(base, recipe=f"{base.recipe}; {told}".removeprefix("; ")), model), [note]


def _sample(data: DataSource, base: Base) -> Tensor:
    """Return uint8 images `(N, 3, H, W)` of classes spread over the data; only one class is in memory at a time."""
    chosen = data.classes[:: max(1, len(data.classes) // NORM_CLASSES)][:NORM_CLASSES]
    share, draw = max(1, IMAGES // len(chosen)), rng(0, "norms")
    parts = (data.load([name], "train", base.input_size).at_most(share, draw) for name in chosen)
    return torch.cat([part.images for part in parts])


def narrow_tasks(trunk: Trunk, data: DataSource, config: BuildConfig) -> list[Task]:
    """Return the tasks of the narrow members that settings ask for.

    Raises:
        ConfigError: there are not so many.
    """
    return sample_tasks(trunk.base.classes or data.classes, config.ways, config.members, config.seed)


def sample_tasks(classes: Sequence[str], ways: int, count: int, seed: int) -> list[Task]:
    """Draw `count` different tasks of `ways` classes each; the first k are the same for every count (Section 3.1).

    Raises:
        ConfigError: there are not so many.
    """
    if count == 0:
        return []
    if not 2 <= ways <= len(classes):
        raise ConfigError(f"ways is {ways}; the data have {len(classes)} classes, so it must be in 2..{len(classes)}")
    if count > (most := math.comb(len(classes), ways)):
        raise ConfigError(f"members is {count}; {len(classes)} classes make only {most} tasks of {ways} ways")
    draw = rng(seed, "tasks")
    tasks: dict[str, Task] = {}
    while len(tasks) < count:
        chosen = sorted(int(i) for i in draw.choice(len(classes), ways, replace=False))
        task = Task(tuple(TaskClass(classes[i]) for i in chosen))
        tasks.setdefault(task.id, task)
    return [wordnet.resolve(t) for t in tasks.values()]


def make_member(
    trunk: Trunk, train: ImageSet, schedule: PruneSchedule, config: FitConfig, *, device: torch.device, seed: int,
    parent: Member | None = None, teacher: Tensor | None = None, scores: ScoreSchedule | None = None,
    stage: Stage | None = None,
) -> tuple[nn.Module, KeepPlan]:  # fmt: skip
    """Prune for a task with IFP or AHNP; return the sliced model on `device` and what it keeps of the base model.

    Args:
        trunk: The base model.
        train: Images of the task.
        schedule: How much is kept, and what IFP drops when.
        config: How it is trained meanwhile.
        device: Where.
        seed: Of the head, the batches and random importance.
        parent: A larger member to prune from, which also gives the head's rows; the whole base model with a random
            head if not given.
        teacher: Logits `(N, classes)` of the base model on the images, for distillation.
        scores: How AHNP prunes; IFP does if not given.
        stage: Progress.
    """
    model = copy.deepcopy(trunk.model) if parent is None else trunk.restore(parent)
    head = None
    if parent is not None or teacher is not None:
        known = trunk.base.classes if parent is None else parent.info.task.names
        head = shared_rows(train.classes, known, head_of(model))
    if head is None:
        features = head_of(model).in_features
        head = random_head(features, len(train.classes), torch_rng(seed, "head"))
    set_head(model, head)
    model = on_device(model, device)
    source = BatchSource(train, trunk.base, config, device, seed, teacher)
    start = None if parent is None else parent.info.plan
    if scores is None:
        draw = rng(seed, "prune")
        return model, iterative_prune(model, trunk.table, source, schedule, config, rng=draw, start=start, stage=stage)
    counts = target_counts(trunk.table, schedule.keep, schedule.align)
    return model, automatic_prune(model, trunk.table, source, counts, scores, config, start=start, stage=stage)


def fit_for(breadth: Breadth, config: BuildConfig, trunk: Trunk) -> FitConfig:
    """Return how members are trained: without distillation where the base model names no classes, so cannot teach."""
    fit = _wanted_fit(breadth, config, trunk)
    return fit if trunk.base.classes else replace(fit, distill=0.0)


def _wanted_fit(breadth: Breadth, config: BuildConfig, trunk: Trunk) -> FitConfig:
    return resolve_fit(config.fit if breadth == "narrow" else config.broad_fit, breadth, trunk.model)


def untaught(breadths: Sequence[Breadth], config: BuildConfig, trunk: Trunk) -> list[str]:
    """Return what the user should know if members were to be taught, and the base model names no classes."""
    wanted = (_wanted_fit(breadth, config, trunk).distill for breadth in breadths)
    if trunk.base.classes or not any(wanted):
        return []
    return [f"distillation is off: {trunk.base.name} does not name its classes, so that it cannot teach its members"]


def scores_for(config: BuildConfig, trunk: Trunk) -> ScoreSchedule | None:
    """Return how AHNP prunes members of a base, or None if IFP does."""
    if config.method == "auto":
        return config.scores if attentions(trunk.model) else None
    return config.scores if config.method == "ahnp" else None


@dataclass(eq=False)
class Teacher:
    """Logits of the base model on training images; the images of a class are shown once, however many tasks have it."""

    trunk: Trunk
    device: torch.device
    _known: dict[bytes, Tensor] = field(default_factory=dict)

    def logits(self, data: ImageSet, stage: Stage | None = None) -> Tensor | None:
        """Return logits `(N, classes)` for the classes of `data`, or None if the base does not know them all."""
        row = numbered(self.trunk.base.classes)
        if not all(canonical(n) in row for n in data.classes):
            return None
        rows = [row[canonical(n)] for n in data.classes]
        out = torch.empty(len(data), len(self.trunk.base.classes))
        for label in range(len(data.classes)):
            mine = data.labels == label
            key = hashlib.sha256(data.images[mine].numpy().tobytes()).digest()
            if key not in self._known:
                self._known[key] = predict(
                    on_device(self.trunk.model, self.device),
                    data.images[mine], self.trunk.base, self.device, stage=stage, bf16=True,
                )  # fmt: skip
            out[mine] = self._known[key]
        return out[:, rows]


def find_parent(zoo: Zoo, trunk: Trunk, task: Task, schedule: PruneSchedule) -> MemberInfo | None:
    """Return the smallest broad member that knows a task's classes and is larger than what is to be made of it.

    It may have as few attention heads: of a block's few, several ratios keep the same number.
    """
    wanted, size = target_counts(trunk.table, schedule.keep, schedule.align), trunk.table.unit_channels

    def larger(counts: dict[str, int]) -> bool:
        return counts != wanted and all(n > wanted[g] or (n == wanted[g] and size[g] > 1) for g, n in counts.items())

    able = [i for i in zoo.knowing(task) if larger(i.plan.counts)]
    return min(able, key=lambda i: i.plan.achieved, default=None)


def build_narrow(
    zoo: Zoo, trunk: Trunk, data: DataSource, config: BuildConfig, *, device: torch.device, progress: Progress,
    teacher: Teacher | None = None,
) -> list[MemberInfo]:  # fmt: skip
    """Fill a zoo up to `config.members` narrow members with these settings; return those made by this call.

    A member that exists or that another process is making is passed over, so that any number of processes may build
    the same zoo and a killed one loses at most the member in progress. A `teacher` that is given remembers what the
    base says of each class beyond this call.

    Raises:
        ConfigError: the classes make fewer tasks than members are asked for.
        DataError: images of a class are missing.
        PlanError: the base model cannot be sliced faithfully.
        ZooError: the zoo cannot be written.
    """
    zoo.remove_leftovers()
    made = []
    tasks = narrow_tasks(trunk, data, config)
    parent = None
    if config.parent == "broad":
        everything = Task(tuple({c.name: c for t in tasks for c in t.classes}.values()))
        found = find_parent(zoo, trunk, everything, config.schedule)
        parent = None if found is None else zoo.load(found)
    fit, scores = fit_for("narrow", config, trunk), scores_for(config, trunk)
    recipe = make_recipe(parent, config.schedule, scores, fit, config.seed, data.name)
    pending = [t for t in tasks if not zoo.has(member_id(t, recipe))]
    teacher = teacher or Teacher(trunk, device)
    if pending:
        verify_base(trunk, config.schedule)
    with progress.stage("Members", len(tasks)) as stage:
        stage.advance(len(tasks) - len(pending))
        for task, member in _claimed(zoo, pending, recipe):
            train = data.load(task.names, "train", trunk.base.input_size)
            test = data.load(task.names, "test", trunk.base.input_size)
            model, plan = make_member(
                trunk, train, config.schedule, fit, device=device, seed=config.seed, parent=parent,
                teacher=teacher.logits(train) if fit.distill > 0 else None, scores=scores,
            )  # fmt: skip
            info = MemberInfo(member, task, "narrow", plan, zoo.base.sha256, recipe)
            made.append(_add(zoo, trunk, model, info, test))
            stage.note(f"{', '.join(task.names)}: {made[-1].top1:.1f} %")
            stage.advance()
    return made


def build_broad(
    zoo: Zoo, trunk: Trunk, data: DataSource, keeps: Sequence[float], config: BuildConfig, *, device: torch.device,
    progress: Progress,
) -> list[MemberInfo]:  # fmt: skip
    """Add members for all classes of the base model, the largest first and each pruned from the one before.

    A member that another process is making is waited for, because the next one is pruned from it. Their outputs on the
    test split are stored beside them: what a part of the classes scores can be told later without
    any image.

    Raises:
        DataError: images of a class are missing.
        ZooError: the zoo cannot be written.
    """
    classes = trunk.base.classes or data.classes
    task = wordnet.resolve(Task(tuple(TaskClass(c) for c in classes)))
    fit, scores = fit_for("broad", config, trunk), scores_for(config, trunk)
    made: list[MemberInfo] = []
    with progress.stage("Reading images", None):
        train = data.load(classes, "train", trunk.base.input_size)
        test = data.load(classes, "test", trunk.base.input_size)
    teacher, logits = Teacher(trunk, device), None
    for keep in sorted(keeps, reverse=True):
        schedule = replace(config.schedule, keep=keep)
        found = find_parent(zoo, trunk, task, schedule) if config.parent == "broad" else None
        parent = None if found is None else zoo.load(found)
        recipe = make_recipe(parent, schedule, scores, fit, config.seed, data.name)
        member = member_id(task, recipe)
        with _turn(zoo, member, progress) as mine:
            if not mine:
                continue
            verify_base(trunk, schedule)
            if fit.distill > 0 and logits is None:
                with progress.stage("Asking the base model", len(train)) as stage:
                    logits = teacher.logits(train, stage)
            with progress.stage(f"Broad member, keep {keep:g}", fit.iterations) as stage:
                model, plan = make_member(
                    trunk, train, schedule, fit, device=device, seed=config.seed, parent=parent,
                    teacher=logits, scores=scores, stage=stage,
                )  # fmt: skip
            made.append(_add(zoo, trunk, model, MemberInfo(member, task, "broad", plan, zoo.base.sha256, recipe), test))
    return made


@contextmanager
def _turn(zoo: Zoo, member: str, progress: Progress) -> Iterator[bool]:
    """Hold a member while it is made, once no other process makes it; False if it is there then."""
    with ExitStack() as held:
        mine = held.enter_context(zoo.claim(member))
        if not mine and not zoo.has(member):
            with progress.stage(f"Waiting for another process that makes {member}"):
                mine = held.enter_context(zoo.claim(member, math.inf))
        yield mine


def verify_base(trunk: Trunk, schedule: PruneSchedule) -> None:
    """Slice the base model as a schedule asks for, before anything is trained.

    Raises:
        PlanError: it is not what masking gives; no member of it would be.
    """
    counts = target_counts(trunk.table, schedule.keep, schedule.align)
    trunk.verify_slicing(top_plan(trunk.table, base_importance(trunk.model, trunk.table), counts))


def _add(zoo: Zoo, trunk: Trunk, model: nn.Module, info: MemberInfo, test: ImageSet) -> MemberInfo:
    """Add a network with its accuracy as it will be read back; a broad one with its outputs."""
    state = trunk.state_of(model)
    device = next(model.parameters()).device
    restored = on_device(trunk.restore(Member(info, zoo.as_stored(state))), device)
    logits = predict(restored, test.images, trunk.base, device)
    info = replace(info, top1=round(accuracy(logits, test).top1, 2))
    return zoo.add(info, state, Outputs(logits, test.labels) if info.breadth == "broad" else None).info


def make_recipe(
    parent: Member | None, schedule: PruneSchedule, scores: ScoreSchedule | None, fit: FitConfig, seed: int, data: str
) -> dict[str, object]:
    """Return how a member is made, which with its task names it; every word of it must stay for those made with IFP."""
    how = {"method": "ifp", **asdict(schedule)}
    if scores is not None:
        how = {"method": "ahnp", "keep": schedule.keep, "align": schedule.align, "scores": asdict(scores)}
    parent_id = None if parent is None else parent.info.id
    return {**how, "parent": parent_id, "fit": fit.to_recipe(), "seed": seed, "data": data}


def _claimed(zoo: Zoo, tasks: Sequence[Task], recipe: dict[str, object]) -> Iterator[tuple[Task, str]]:
    for task in tasks:
        member = member_id(task, recipe)
        with zoo.claim(member) as mine:
            if mine:
                yield task, member
