"""Settings of a run, checked where they are made."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from mvp_edge.errors import ConfigError

Similarity = Literal["auto", "leep", "wordnet"]
Vote = Literal["top", "sample"]
Voters = Literal["auto", "any", "narrow", "broad"]
Method = Literal["mvp", "smsp"]
Align = int | Literal["auto"]
InputFormat = Literal["float32-nchw", "uint8-nhwc"]
Precision = Literal["auto", "fp32", "fp16", "int8"]
Importance = Literal["activation", "taylor", "random"]
Packing = Literal["float16", "int8"]
Parent = Literal["broad", "base"]
Schedule = Literal["auto", "fixed"]
Optimizer = Literal["sgd", "adamw", "muon"]
Pruner = Literal["auto", "ifp", "ahnp"]
Embedding = Literal["whole", "pruned"]


def check(problems: list[str]) -> None:
    """Raise one `ConfigError` that lists all problems, if there are any."""
    if problems:
        raise ConfigError("; ".join(problems))


def _size_problems(keep: float, align: Align) -> list[str]:
    problems = []
    if not 0 < keep <= 1:
        problems.append(f"keep is {keep}; it must be in (0, 1], such as 0.1 to keep a tenth")
    if align != "auto" and align < 1:
        problems.append(f"align is {align}; it must be at least 1, or auto")
    return problems


@dataclass(frozen=True)
class FitConfig:
    """How a network is trained: warm-up, then a cosine to zero.

    Attributes:
        iterations: Optimiser steps.
        batch_size: Images a step.
        lr: Peak learning rate.
        momentum: Nesterov momentum, or AdamW's beta 1.
        weight_decay: On weights only; never on norms and biases.
        warmup: Fraction of the iterations in which the rate rises linearly.
        label_smoothing: Of the cross-entropy.
        crop: Padding in pixels for random crops; 0 turns them off.
        cutout: Side in pixels of the square that Cutout blanks (DeVries and Taylor, 2017); 0 turns it off.
        distill: Weight of the distillation loss against the cross-entropy, in [0, 1].
        temperature: Softening of the teacher's and the student's outputs.
        optimizer: `sgd`; `adamw`, for networks with attention; or `muon` for the matrices between the first and the
            last layer and AdamW for the rest.
    """

    iterations: int = 100
    batch_size: int = 128
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.0
    label_smoothing: float = 0.0
    crop: int = 4
    cutout: int = 0
    distill: float = 0.0
    temperature: float = 2.0
    optimizer: Optimizer = "sgd"

    def __post_init__(self) -> None:
        problems = []
        if self.optimizer not in get_args(Optimizer):
            problems.append(f"{self.optimizer!r} is none of {', '.join(get_args(Optimizer))}")
        if self.iterations < 0:
            problems.append(f"iterations is {self.iterations}; it must be 0 or more")
        if self.batch_size < 2:
            problems.append(f"batch size is {self.batch_size}; it must be at least 2")
        if not 0 < self.lr <= 10:
            problems.append(f"learning rate is {self.lr}; it must be in (0, 10]")
        if not 0 <= self.distill <= 1:
            problems.append(f"distill is {self.distill}; it must be in [0, 1]")
        check(problems)

    def to_recipe(self) -> dict[str, Any]:
        """Return a JSON-ready value that names a zoo's members; SGD goes without saying, as when there was no other."""
        return {k: v for k, v in asdict(self).items() if (k, v) != ("optimizer", "sgd")}


@dataclass(frozen=True)
class FitOverrides:
    """What a user wants of a `FitConfig`; the rest is left to the recipe for the network (`mvp_edge.recipes`)."""

    iterations: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    cutout: int | None = None
    distill: float | None = None
    optimizer: Optimizer | None = None

    def __post_init__(self) -> None:
        self.over(FitConfig())

    def over(self, recipe: FitConfig) -> FitConfig:
        """Return a recipe with what the user wants.

        Raises:
            ConfigError: a value is out of its range.
        """
        return replace(recipe, **{k: v for k, v in asdict(self).items() if v is not None})


@dataclass(frozen=True)
class VoteConfig:
    """How the nearest tasks vote (Algorithm 1, lines 1-8).

    Attributes:
        method: `mvp`: the most voted units of each group, the same fraction of every group unless a budget says
            otherwise. `smsp`: one round over all groups at once: the units with the highest similarity-weighted
            fraction of the neighbours that keep them, wherever they are (our reading of SMSP).
        keep: Fraction of every group's units to keep; of all units together for `smsp`.
        align: Kept counts are multiples of this many channels; `auto` fills what costs no time on this machine.
        neighbours: How many of the nearest members vote.
        similarity: What is near: LEEP on the task's images, or WordNet on the class names; `auto` is LEEP where there
            are images.
        voters: Members that may vote: `narrow` ones as in the paper, `broad` ones, or `any`. `auto` leaves it to the
            broad member alone if there is one of the size asked for that knows all classes, which won on the
            four held-out tasks that we tried; else `any`.
        vote: The units with most votes, or a sample as in Equation 1.
        temperature: Tau of Equation 1.
    """

    method: Method = "mvp"
    keep: float = 0.1
    align: Align = 8
    neighbours: int = 5
    similarity: Similarity = "auto"
    voters: Voters = "auto"
    vote: Vote = "top"
    temperature: float = 0.5

    def __post_init__(self) -> None:
        problems = _size_problems(self.keep, self.align)
        if self.neighbours < 1:
            problems.append(f"neighbours is {self.neighbours}; it must be at least 1")
        if not self.temperature > 0:
            problems.append(f"temperature is {self.temperature}; it must be above 0 (for its limit 0, use --vote top)")
        literals = ((self.similarity, Similarity), (self.vote, Vote), (self.voters, Voters), (self.method, Method))
        for value, kind in literals:
            if value not in get_args(kind):
                problems.append(f"{value!r} is none of {', '.join(get_args(kind))}")
        check(problems)


@dataclass(frozen=True)
class Budget:
    """The most that a delivered model may cost; None where there is no limit, but at least one is given.

    Attributes:
        latency_ms: Median time of one image on this machine, ONNX Runtime, one thread.
        macs: Multiply-adds of one image, as measured.
        params: Parameters.
        size_kib: Size of `model.onnx` in KiB (1024 bytes).
    """

    latency_ms: float | None = None
    macs: float | None = None
    params: float | None = None
    size_kib: float | None = None

    def __post_init__(self) -> None:
        wrong = [f"{k} is {v}; it must be above 0 and finite" for k, v in self.given.items() if not 0 < v < math.inf]
        check(wrong or ([] if self.given else ["a budget needs at least one limit"]))

    @property
    def given(self) -> dict[str, float]:
        """The limits that are set, by name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: v for k, v in values.items() if v is not None}

    @property
    def label(self) -> str:
        """A short name, such as `1ms` or `2MMACs-300KiB`."""
        units = {"latency_ms": (1, "ms"), "macs": (1e6, "MMACs"), "params": (1e3, "kparams"), "size_kib": (1, "KiB")}
        return "-".join(f"{v / units[k][0]:g}{units[k][1]}" for k, v in self.given.items())


@dataclass(frozen=True)
class PruneConfig:
    """Everything that `mvp-edge prune` is told.

    Attributes:
        fit: How it is fine-tuned; overrides leave the rest to the recipe for the kind of network.
        input: What the delivered file takes: RGB in [0, 1] as float32 `(N, 3, H, W)`, or raw uint8 `(N, H, W, 3)`, as a
            camera or a decoder gives it. Both normalise inside.
        schedule: `auto` fine-tunes a network that works already more gently where images are few, and keeps as much of
            it as images left out gain by; `fixed` takes `fit` as it is.
        precision: What is written beside `model.onnx`, which is always float32: nothing (`fp32`), a half-precision
            file, an INT8 file, or (`auto`) an INT8 file if it earns its place.
    """

    task: Path
    data: str | None
    out: Path = Path("out")
    force: bool = False
    zoo: str | None = None
    vote: VoteConfig = VoteConfig()
    budget: Budget | None = None
    fit: FitConfig | FitOverrides = FitOverrides()
    device: str = "auto"
    seed: int = 0
    add_to_zoo: bool = False
    input: InputFormat = "float32-nchw"
    precision: Precision = "auto"
    schedule: Schedule = "auto"

    def __post_init__(self) -> None:
        given = ((self.input, get_args(InputFormat)), (self.precision, get_args(Precision)))
        check([f"{value!r} is none of {', '.join(known)}" for value, known in given if value not in known])


@dataclass(frozen=True)
class PruneSchedule:
    """When and how much is pruned.

    Attributes:
        keep: Fraction of every group's units that is left at the end.
        align: Kept counts are multiples of this many channels.
        every: Steps between two pruning events (the paper's h); 0 takes a hundredth of the iterations, which is what
            the paper's own cost columns imply: pruning ends within the first tenth, the rest is fine-tuning.
        drop: Fraction of the remaining units dropped at each event (the paper's p).
        importance: `activation` as in the paper, `taylor` (Molchanov et al., 2019), or `random`.
    """

    keep: float = 0.1
    align: int = 8
    every: int = 0
    drop: float = 0.2
    importance: Importance = "activation"

    def __post_init__(self) -> None:
        problems = _size_problems(self.keep, self.align)
        if not 0 < self.drop < 1:
            problems.append(f"drop is {self.drop}; it must be in (0, 1)")
        check(problems)


@dataclass(frozen=True)
class ScoreSchedule:
    """How AHNP's scores of heads and nodes are learned.

    Attributes:
        sparsity: Weight of the scores' L1 norm in the loss (lambda); the paper does not give it.
        threshold: Units whose score is less are cut off (tau); the paper does not give it.
        lr: Peak learning rate of the scores.
        share: Fraction of the iterations in which the target is to be reached; what is left to cut then goes at once.
    """

    sparsity: float = 1e-3
    threshold: float = 0.5
    lr: float = 0.05
    share: float = 0.1

    def __post_init__(self) -> None:
        problems = []
        if not 0 <= self.sparsity < math.inf:
            problems.append(f"sparsity is {self.sparsity}; it must be 0 or more")
        for name in ("threshold", "share"):
            if not 0 < (value := getattr(self, name)) < 1:
                problems.append(f"{name} is {value}; it must be in (0, 1)")
        if not 0 < self.lr <= 1:
            problems.append(f"learning rate of scores is {self.lr}; it must be in (0, 1]")
        check(problems)


@dataclass(frozen=True)
class BuildConfig:
    """A run of `zoo build`.

    Attributes:
        members: Narrow members wanted in all.
        ways: Classes of a narrow member's task.
        schedule: How much is kept, and how IFP prunes.
        fit: How they are trained meanwhile; overrides leave the rest to the recipe for the kind of network.
        broad_fit: How members for all classes are trained, likewise.
        parent: What a member is pruned from: the smallest `broad` member that is larger, where there is one, or
            always the whole `base` model, as in the paper.
        seed: Of the tasks and of each training run.
        method: How members are pruned: IFP, AHNP, or what suits the base (`auto`): AHNP if it has attention.
        scores: How AHNP prunes.
    """

    members: int = 60
    ways: int = 5
    schedule: PruneSchedule = PruneSchedule()
    fit: FitConfig | FitOverrides = FitOverrides()
    broad_fit: FitConfig | FitOverrides = FitOverrides()
    parent: Parent = "broad"
    seed: int = 0
    method: Pruner = "auto"
    scores: ScoreSchedule = ScoreSchedule()

    def __post_init__(self) -> None:
        problems = []
        if self.method not in get_args(Pruner):
            problems.append(f"{self.method!r} is none of {', '.join(get_args(Pruner))}")
        if self.members < 0:
            problems.append(f"members is {self.members}; it must be 0 or more")
        if self.ways < 2:
            problems.append(f"ways is {self.ways}; it must be at least 2")
        check(problems)


@dataclass(frozen=True)
class ExemplarConfig:
    """How images of a network's classes are generated by inverting it (`mvp_edge.inversion`).

    Attributes:
        per_class: Images of each class.
        steps: Optimiser steps for each batch.
        batch_size: Images optimised together; their joint norm statistics are matched, so they should be many.
        lr: Peak rate of Adam.
        norm: Weight of the norm statistics' loss against the cross-entropy.
        critics: Weight of all broad members together against the base model; 0 leaves them out.
        crop: Largest shift in pixels of the random crops that the networks were trained with.
        cutout: Side in pixels of the Cutout squares that the base model was trained with; 0 turns them off.
    """

    per_class: int = 5
    steps: int = 40
    batch_size: int = 50
    lr: float = 0.4
    norm: float = 5.0
    critics: float = 0.5
    crop: int = 4
    cutout: int = 8

    def __post_init__(self) -> None:
        problems = []
        for name, least in (("per_class", 1), ("steps", 1), ("batch_size", 2), ("crop", 0), ("cutout", 0)):
            if (value := getattr(self, name)) < least:
                problems.append(f"{name} is {value}; it must be at least {least}")
        if not 0 < self.lr <= 10:
            problems.append(f"learning rate is {self.lr}; it must be in (0, 10]")
        for name in ("norm", "critics"):
            if not 0 <= getattr(self, name) < float("inf"):
                problems.append(f"{name} is {getattr(self, name)}; it must be 0 or more")
        check(problems)


@dataclass(frozen=True)
class PretrainConfig:
    """A run of `pretrain`.

    Attributes:
        base: Registered name or `timm:NAME`: what to train.
        data: Directory or data-set name.
        out: The safetensors file to write.
        epochs: Passes over the training images.
        fit: Everything else, or what differs from the recipe for the kind of network; the iterations are derived from
            the epochs.
        init: Weights to start from, in the same format.
        save_every: Steps between two checkpoints.
        small_size: Shorter side in pixels of the images in the first epochs, for progressive resizing; 0 turns it off.
        small_epochs: How many of the epochs these are.
        teacher: A base model or a zoo that is asked about every augmented batch; the weight of its answer is that of
            distillation.
        token_drop: Fraction of a transformer's patches that are left out of every image in the first epochs (Liu et
            al., "PatchDropout", 2022), for the same reason as progressive resizing; 0 turns it off.
        token_epochs: How many of the epochs these are.
    """

    base: str
    data: str
    out: Path
    epochs: float = 30
    fit: FitConfig | FitOverrides = FitOverrides()
    init: Path | None = None
    device: str = "auto"
    seed: int = 0
    save_every: int = 200
    small_size: int = 0
    small_epochs: float = 0
    teacher: str | None = None
    token_drop: float = 0.0
    token_epochs: float = 0

    def __post_init__(self) -> None:
        problems = []
        if not 0 < self.epochs < math.inf:
            problems.append(f"epochs is {self.epochs}; it must be above 0 and finite")
        if self.small_size < 0:
            problems.append(f"small size is {self.small_size}; it must be at least 1 pixel, or 0 for full size only")
        if not 0 <= self.token_drop < 1:
            problems.append(f"token drop is {self.token_drop}; it must be in [0, 1)")
        for name in ("small", "token"):
            if not 0 <= (value := getattr(self, f"{name}_epochs")) <= self.epochs:
                problems.append(f"{name} epochs is {value}; it must be in [0, {self.epochs:g}], the epochs in all")
        if (self.small_size > 0) != (self.small_epochs > 0):
            problems.append(
                "a small size and the number of small epochs only make sense together; give both or neither"
            )
        if (self.token_drop > 0) != (self.token_epochs > 0):
            problems.append(
                "dropped tokens and the number of such epochs only make sense together; give both or neither"
            )
        check(problems)
