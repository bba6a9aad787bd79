"""What a ready-made body learns from photographs: a head for its features, steps, and what is none of the classes.

features of the photographs -> head, chosen on photographs left out -> a teacher, for many -> steps, unless they harm
-> nearness to a class

Heads, and the network as an ONNX graph, are in `heads.py`; torch takes the steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from mvp_edge.config import FitConfig, PruneConfig
from mvp_edge.core.device import on_device, on_host
from mvp_edge.core.progress import Progress, Stage, Stopwatch
from mvp_edge.data import ImageSet, evened
from mvp_edge.models.architectures import head_of, set_head
from mvp_edge.models.norms import fold
from mvp_edge.prune.fit import Unseen
from mvp_edge.prune.gate import JUDGED_IMAGES
from mvp_edge.prune.heads import Heads, LeftOut, Network, Photographs, State, fit_to_features, frozen, parts_of, seen
from mvp_edge.prune.nearness import Nearness, class_means, cosines, cosines_with, nearness_of
from mvp_edge.prune.teacher import Teacher, teacher_for
from mvp_edge.training.early_layers import ViewBatches, Views, freeze_early, frozen_views, skipped
from mvp_edge.training.frozen_head import Choice, Kind, NamedRows, named_logits
from mvp_edge.training.interpolation import (
    Interpolation,
    balanced_top1,
    best_temperature,
    calibrated_loss,
    class_weights,
    interpolate,
    rest_of,
)
from mvp_edge.training.loop import BatchSource, fit
from mvp_edge.training.optimizers import make_optimizer, resolve_fit

JUDGES = 20  # photographs left out, at least, that judge steps: with fewer in a fifth, up to `TRAINED` fifths
TRAINED = 3
CROP = 16  # photographs are shifted by up to this fraction of their side
# How much of what training changes is kept (WiSE-FT, Wortsman et al., 2022). Of 300 pictures of none of the classes the
# output `known` takes, at 95 % of test images kept, 3 % without training, 7 % at 0.5 and 21 % at 1; the gain is 3.2
# points at 0.5 and 1.7 at 1 (means over three lists of Clothing and of Caltech-101, 5, 20 and 100 images a class).
MIDWAY = 0.5
# With five images a class 0.25 gains 2.4 +- 0.4 points on training images that neither learn nor judge and loses 2.4 at
# worst; 0.5 gains 2.2 +- 0.6 and loses 4.0 (29 lists of Caltech-101, Clothing and Flowers-102, 64 pixels; a trial).
EARLY, FEW = 0.25, 10  # kept with fewer than so many images a class
# Of what a teacher taught. On training images left out a teacher gains 1.1 +- 0.4 points if half is kept, 1.8 +- 0.6 if
# so much is (six lists of Clothing, 100 images a class, 64 pixels; a trial); `known` takes 13 % instead of 10 %.
TAUGHT = 0.75


@dataclass(frozen=True, eq=False)
class Learned:
    """A network for the names, and how it came about.

    Attributes:
        state: Its tensors by their names in torch, with a head of the rows of all names.
        rows: Rows of each name.
        kind: Kind of its head.
        choice: Why; None if no photograph could be left out.
        fit: Settings of its training; no iterations if there was none.
        interpolation: How much of the training was kept.
        trained: Optimiser steps in all.
        changed: Whether the training changed the network.
        before: Tensors before the training, if it changed them.
        temperature: What logits are divided by before the softmax, so that it tells how often it is right.
        nearness: Tells pictures of no class; None if too few photographs could be left out.
        unseen: Photographs left out, with the network that has not seen them, for choices between files.
        teacher: Whose logits it learned in its training; None if it did not, or no training was kept.
        warnings: For the user.
    """

    state: State
    rows: tuple[int, ...]
    kind: Kind
    choice: Choice | None
    fit: FitConfig
    interpolation: Interpolation | None
    trained: int
    changed: bool
    before: State | None
    temperature: float
    nearness: Nearness | None
    unseen: Unseen | None
    teacher: Teacher | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Taken:
    """A network after its steps, if any were taken, and how these were judged.

    Attributes:
        before: Its tensors before.
        state: Its tensors.
        settings: Of the training; no iterations if there was none.
        number: Optimiser steps in all.
        changed: Whether they changed the network.
        interpolation: How much of the training was kept; None if it was not judged.
        judged: What is said of photographs left out, by networks that have not seen them.
        unseen: Photographs left out, with the network that has not seen them, for choices between files.
        warnings: For the user.
    """

    before: State
    state: State
    settings: FitConfig
    number: int
    changed: bool
    interpolation: Interpolation | None
    judged: tuple[LeftOut, ...]
    unseen: Unseen | None
    warnings: tuple[str, ...]


def learn(
    given: Photographs, config: PruneConfig, device: torch.device, progress: Progress, clock: Stopwatch
) -> Learned:
    """Fit a head to the frozen features of the photographs, then take steps unless these harm photographs left out.

    Many photographs have a teacher (`teacher.py`). What was cut must have been cut without those that `left_out` leaves
    out.
    """
    parts = left_out(given.network, given.train, config.seed)
    with clock.time("load"), progress.stage("Unpacking"):
        network, start, settings = unpacked(given, config)
    with clock.time("head"):
        heads, choice = fit_to_features(given, head_of(network), start, parts, config.seed, progress)
    teacher = None
    if settings.distill and choice is not None and to_train(settings, choice, given.train.labels, parts, config):
        with clock.time("teach"):
            teacher = teacher_for(given, choice, parts, config.seed, progress)
    settings = settings if teacher else replace(settings, distill=0.0)
    steps = Steps(given, network, start, heads, teacher, settings, device, config.seed)
    with clock.time("fine_tune"):
        taken = take_steps(steps, choice, parts, config, progress)
    with clock.time("known"), progress.stage("Learning what is none of these"):
        nearness = nearness_in(given, heads, taken)
    return Learned(
        state=taken.state, rows=heads.rows, kind=heads.kind, choice=choice, fit=taken.settings,
        interpolation=taken.interpolation, trained=taken.number, changed=taken.changed,
        before=taken.before if taken.changed else None, temperature=temperature_of(taken, given.train.labels),
        nearness=nearness, unseen=taken.unseen, teacher=teacher if taken.changed else None, warnings=taken.warnings,
    )  # fmt: skip


def cut_without(network: Network, train: ImageSet, seed: int) -> Network:
    """Return a network that was cut, cut anew without the photographs that are left out; a body as it is."""
    parts = left_out(network, train, seed)
    if network.cut_on is None or not parts:
        return network
    return network.cut_on(train.images[rest_of(torch.cat(parts), len(train))])


def left_out(network: Network, train: ImageSet, seed: int) -> list[Tensor]:
    """Return the positions of the photographs that are left out at a time; of what was cut, those that judge steps."""
    parts = parts_of(train, seed)
    return parts if network.cut_on is None else enough(parts)


def unpacked(given: Photographs, config: PruneConfig) -> tuple[nn.Module, State, FitConfig]:
    """Return the network in torch, its tensors, and how it is trained."""
    network, start = given.network.in_torch(given.zoo)
    settings = resolve_fit(config.fit, "photographs", network)
    if not isinstance(config.fit, FitConfig):
        settings = replace(settings, crop=given.body.pixels // CROP)
    return network, start, settings


def take_steps(
    steps: Steps, choice: Choice | None, parts: Sequence[Tensor], config: PruneConfig, progress: Progress
) -> Taken:
    """Train the network: judged by photographs left out, unless the schedule is `fixed` or there is nothing to gain."""
    train, settings, warnings = steps.given.train, steps.settings, list[str]()
    if settings.iterations > 0 and choice is None and config.schedule == "auto":
        settings = replace(settings, iterations=0)
        warnings.append(
            "fewer than two classes have two photographs that are not of one group, so that none can be left out to "
            "judge by: the network was not trained, only its head; add photographs"
        )
    everything, interpolation, number = torch.arange(len(train)), None, 0
    before = after = steps.start(everything)
    judged: list[LeftOut] = []
    unseen: Unseen | None = None
    trains = to_train(settings, choice, train.labels, parts, config)
    if trains and config.schedule == "fixed":
        number = settings.iterations
        with progress.stage("Fine-tuning", number) as stage:
            after = steps.take(before, everything, stage)
    elif trains:
        judges = enough(parts)
        number = settings.iterations * (len(judges) + 1)
        with progress.stage("Fine-tuning", number) as stage:
            interpolation, after, judged, unseen = steps.take_judged(before, judges, stage)
        number -= 0 if interpolation.weight else settings.iterations
    changed = number > 0 and (interpolation is None or interpolation.weight > 0)
    if not changed and parts:
        judged = [frozen(steps.heads, part) for part in parts]
        unseen = unseen_by(train, parts[0], steps.start(rest_of(parts[0], len(train))))
    val = steps.given.pictures.val
    if val is not None and len(val) >= JUDGED_IMAGES:
        unseen = Unseen(val, train)
    return Taken(before, after, settings, number, changed, interpolation, tuple(judged), unseen, tuple(warnings))


def nearness_in(given: Photographs, heads: Heads, taken: Taken) -> Nearness | None:
    """Return how near photographs are to their classes in the network that is delivered."""
    features = heads.features
    if taken.changed:
        features, _ = seen(given.graph(taken.state), given.train.images)
    means, none = class_means(features, given.train.labels), None
    if given.none is not None:
        none = cosines_with(means, seen(given.graph(taken.state), given.none)[0]).numpy()
    left_out = [j.nearness for j in taken.judged]
    return nearness_of(means, torch.cat(left_out).numpy() if left_out else None, none)


def temperature_of(taken: Taken, labels: Tensor) -> float:
    """Return what divides logits so that they tell how often they are right on photographs left out; 1 without any."""
    if not taken.judged:
        return 1.0
    said, index = (torch.cat([getattr(j, field) for j in taken.judged]) for field in ("logits", "index"))
    return best_temperature(said, labels[index])


def enough(parts: Sequence[Tensor]) -> list[Tensor]:
    """Return as many parts as hold `JUDGES` photographs, at most `TRAINED`: a network is trained for each."""
    held = np.cumsum([len(p) for p in parts])
    return list(parts[: min(TRAINED, 1 + int((held < JUDGES).sum()))])


def to_train(
    settings: FitConfig, choice: Choice | None, labels: Tensor, parts: Sequence[Tensor], config: PruneConfig
) -> bool:
    """Return whether the network is trained: where that is judged, photographs left out must be able to show a gain."""
    if settings.iterations == 0 or config.schedule == "fixed":
        return settings.iterations > 0
    return choice is not None and mistaken(choice, labels, enough(parts))


def mistaken(choice: Choice, labels: Tensor, judges: Sequence[Tensor]) -> bool:
    """Return whether the head is wrong about a photograph that judges, so that training can be seen to gain."""
    index = torch.cat(list(judges))
    return bool((choice.logits[index].argmax(1) != labels[index]).any())


def unseen_by(train: ImageSet, left_out: Tensor, state: State) -> Unseen:
    """Return the photographs that a network has not seen, with it."""
    return Unseen(train.subset(left_out), train.subset(rest_of(left_out, len(train))), state)


@dataclass(frozen=True, eq=False)
class Steps:
    """Training of the later half of the network, which starts with a head that was fitted to its own features.

    Every training starts from `body`, the tensors of the network as it comes: what a training that left some
    photographs out has learned must not reach the judgement on others that it has seen.
    """

    given: Photographs
    network: nn.Module
    body: State
    heads: Heads
    teacher: Teacher | None
    settings: FitConfig
    device: torch.device
    seed: int

    def start(self, index: Tensor) -> State:
        """Return the untrained network with the head that is fitted to some of the photographs."""
        head = self.heads.fitted(index)
        linear = nn.Linear(head.weight.shape[1], head.weight.shape[0])
        with torch.no_grad():
            linear.weight.copy_(head.weight)
            linear.bias.copy_(head.bias)
        set_head(self.network, linear)
        own = {id(p) for p in linear.parameters()}
        state = self.network.state_dict(keep_vars=True)
        return {k: (v if id(v) in own else self.body[k]).detach().clone() for k, v in state.items()}

    @cached_property
    def views(self) -> Views | None:
        """What the early layers, which stay as they are, make of the photographs; computed once for all trainings."""
        network = on_device(self.network.eval(), self.device)
        return frozen_views(network, self.given.train.images, self.given.base, self.settings, self.seed, self.device)

    def take(self, start: State, index: Tensor, stage: Stage) -> State:
        """Return the network after training on some of the photographs."""
        self.network.load_state_dict(start)
        freeze_early(self.network)
        network, rows = on_device(self.network.eval(), self.device), self.heads.rows
        model = network if max(rows) == 1 else on_device(NamedRows(network, rows).eval(), self.device)
        train, settings, views = self.given.train, self.settings, self.views
        part = train.subset(index)
        order, teacher_logits = evened(part.labels), None if self.teacher is None else self.teacher.logits(index)
        if views is None:
            own = None if teacher_logits is None else teacher_logits[index]
            source = BatchSource(part, self.given.base, settings, self.device, self.seed, own, order)
        else:
            source = ViewBatches(views, train.labels, index.numpy()[order], settings, self.seed, teacher_logits)
        with skipped(() if views is None else views.layers):
            fit(model, source, settings, optimizer=make_optimizer(model, settings), stage=stage)
        return {k: v.clone() for k, v in fold(on_host(self.network), self.given.base.input_size).state_dict().items()}

    def take_judged(
        self, start: State, judges: Sequence[Tensor], stage: Stage
    ) -> tuple[Interpolation, State, list[LeftOut], Unseen | None]:
        """Train, and go part of the way, unless that does harm on photographs left out.

        For each part that is left out the network is trained on the others, starting with a head that has not seen it.
        If that does no harm, the network is trained on all photographs.

        Args:
            start: Result of `start` for all photographs.
            judges: Positions of photographs that are left out together.
            stage: Progress.

        Returns:
            What was chosen and the network; if training is kept, what was said of photographs left out, and the
            network that has not seen the first part.
        """
        train, rows, share = self.given.train, self.heads.rows, TAUGHT if self.teacher else share_kept(self.given.train)
        before, after = list[LeftOut](), list[LeftOut]()
        first: Unseen | None = None
        for left_out in judges:
            rest = rest_of(left_out, len(train))
            begin = self.start(rest)
            moved = interpolate(begin, self.take(begin, rest, stage), share)
            features, logits = seen(self.given.graph(moved), train.images)
            near = cosines(features, train.labels, rest, left_out)
            before.append(frozen(self.heads, left_out))
            after.append(LeftOut(left_out, named_logits(logits[left_out], rows), near))
            first = first or unseen_by(train, left_out, moved)
        labels, said = train.labels[torch.cat(list(judges))], {0.0: before, share: after}
        balance, found = class_weights(labels), {w: torch.cat([s.logits for s in v]) for w, v in said.items()}
        losses = {w: calibrated_loss(v, labels, balance) for w, v in found.items()}
        top1 = {w: balanced_top1(v, labels) for w, v in found.items()}
        worse = harmful(losses[0.0], losses[share]) or top1[share] < top1[0.0]
        chosen = Interpolation(
            weight=0.0 if worse else share, images=len(labels), folds=len(judges),
            loss={w: float(v.mean()) for w, v in losses.items()}, top1=top1,
        )  # fmt: skip
        if worse:
            return chosen, start, [], None
        final = interpolate(start, self.take(start, torch.arange(len(train)), stage), share)
        return chosen, final, after, first


def share_kept(train: ImageSet) -> float:
    """Return how much is kept of what training on some images changes."""
    return EARLY if len(train) < FEW * len(train.classes) else MIDWAY


def harmful(before: Tensor, after: Tensor) -> bool:
    """Return whether training raises the loss of images `(N,)` that were left out by more than a standard error.

    It gains on nearly every task. A few photographs left out cannot show that, but great harm they can.
    """
    harm = after - before
    return float(harm.mean()) > float(harm.std()) / len(harm) ** 0.5
