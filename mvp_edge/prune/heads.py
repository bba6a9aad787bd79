"""Heads on the features that a ready-made body has of photographs: fitted, and chosen on photographs left out.

The network runs as its ONNX graph, which is several times as fast as torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from mvp_edge.core.progress import Progress, Stage
from mvp_edge.core.streams import rng
from mvp_edge.data import ImageSet
from mvp_edge.export.graph import last_gemm
from mvp_edge.models.bases import Base
from mvp_edge.models.plan import KeepPlan
from mvp_edge.models.slicing import load_sliced
from mvp_edge.names.base_classes import Resolution
from mvp_edge.prune.nearness import cosines
from mvp_edge.prune.pictures import Pictures
from mvp_edge.timing.session import session_in_memory
from mvp_edge.training.frozen_head import Choice, Kind, Linear, choose_head, fit_head, named_logits
from mvp_edge.training.interpolation import grouped_folds, rest_of
from mvp_edge.zoo.bodies import Body, BodyZoo

State = dict[str, Tensor]

FOLDS = 5  # photographs of a fifth are left out at a time
ALL_FOLDS = 2000  # photographs up to which each is left out once; beyond, one fifth tells enough
AT_ONCE = 16  # photographs
USUAL = Kind(prior=True, decay=1e-2)  # where none can be left out


@dataclass(frozen=True, eq=False)
class Network:
    """A ready-made body, or what was cut from one.

    Attributes:
        body: The body; multiply-adds, parameters and share of units are those of what was cut.
        weights: Tensors by their names in torch.
        kept: Which of the base's units it keeps; None if it keeps them all.
        note: For the user: why no larger body is cut to a budget that this one leaves unfilled.
        cut_on: Of what was cut: returns as much of the body, cut on other images, uint8 `(N, 3, H, W)` at its pixels.
    """

    body: Body
    weights: Mapping[str, np.ndarray]
    kept: KeepPlan | None
    cut_on: Callable[[Tensor], Network] | None = None
    note: str = ""

    @staticmethod
    def of(zoo: BodyZoo, body: Body) -> Network:
        """Return a body as it is."""
        return Network(body, zoo.weights(body), zoo.kept(body))

    def in_torch(self, zoo: BodyZoo) -> tuple[nn.Module, State]:
        """Return the network in torch, with the head of all classes of the base, and its tensors."""
        state = {k: torch.from_numpy(np.array(v)) for k, v in self.weights.items()}
        return load_sliced(zoo.arch, state, len(zoo.classes.classes)), state


@dataclass(frozen=True, eq=False)
class Photographs:
    """A network with the photographs that it is given.

    Attributes:
        zoo: Where it is from.
        resolution: What stands for each name; an unknown name has no classes.
        network: The network.
        pictures: The photographs.
        source: Name of the data.
        none: Pictures of none of the classes, uint8 `(N, 3, H, W)`, if there are some.
    """

    zoo: BodyZoo
    resolution: Resolution
    network: Network
    pictures: Pictures
    source: str
    none: Tensor | None = None

    @property
    def body(self) -> Body:
        """The body, with the costs of what was cut if it was."""
        return self.network.body

    @property
    def base(self) -> Base:
        """How images of the body are normalised, and their size."""
        return replace(Base.from_json(dict(self.zoo.about)), input_size=(self.body.pixels, self.body.pixels))

    @property
    def train(self) -> ImageSet:
        """Photographs to learn from."""
        return self.pictures.train

    @property
    def test(self) -> ImageSet | None:
        """Photographs that only tell how good the result is; None if all are copies of others."""
        return self.pictures.test

    @property
    def all_known(self) -> bool:
        """Whether the base knows each name."""
        return not self.resolution.unknown

    @property
    def any_known(self) -> bool:
        """Whether the base knows one of the names."""
        return self.resolution.any_known

    def graph(self, state: Mapping[str, Tensor]) -> onnx.ModelProto:
        """Return the body with some weights as an ONNX graph: logits `(N, rows)` of the rows of its head."""
        return graph_of(self.zoo, self.body, state)


def graph_of(zoo: BodyZoo, body: Body, state: Mapping[str, Tensor]) -> onnx.ModelProto:
    """Return a body with some weights as an ONNX graph: logits `(N, rows)` of the rows of its head.

    The weights may be those of fewer units than the body has.
    """
    weights = {k: v.detach().cpu().numpy() for k, v in state.items()}
    graph = zoo.graph(body, weights)
    for node in graph.graph.node:
        if node.op_type == "Conv" and (own := weights.get(node.input[1])) is not None and own.shape[1] == 1:
            for attribute in (a for a in node.attribute if a.name == "group"):
                attribute.i = len(own)
    rows = len(weights[last_gemm(graph.graph).input[1]])
    graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value = rows
    return graph


@dataclass(frozen=True, eq=False)
class Heads:
    """Heads of one kind.

    Attributes:
        own: The base's.
        resolution: What stands for each name.
        features: Of the training photographs.
        prior: What names alone say of them.
        labels: Theirs.
        kind: Of the heads.
    """

    own: Linear
    resolution: Resolution
    features: Tensor
    prior: Tensor
    labels: Tensor
    kind: Kind

    @property
    def rows(self) -> tuple[int, ...]:
        """How many rows each name has: those of its base classes where these count, else one."""
        return tuple(max(1, len(g)) if self.kind.prior else 1 for g in self.resolution.groups)

    def fitted(self, index: Tensor) -> Linear:
        """Return the head that is fitted to some of the photographs.

        What was fitted for a name is added to each of its rows, and so to their log-sum-exp.
        """
        added = fit_head(self.features[index], self.labels[index], self.prior[index], self.kind)
        repeats = torch.tensor(self.rows)
        weight, bias = (t.repeat_interleave(repeats, 0) for t in (added.weight, added.bias))
        if self.kind.prior:
            groups, own = self.resolution.groups, self.own
            weight = weight + torch.cat([own.weight[list(g)] if g else 0 * own.weight[:1] for g in groups])
            bias = bias + torch.cat([own.bias[list(g)] if g else 0 * own.bias[:1] for g in groups])
        return Linear(weight, bias)


@dataclass(frozen=True, eq=False)
class LeftOut:
    """What a network that has not seen some photographs says of them.

    Attributes:
        index: Their positions, ascending.
        logits: `(len(index), names)`.
        nearness: `(len(index),)`: cosine with the nearest mean of the photographs that it has seen.
    """

    index: Tensor
    logits: Tensor
    nearness: Tensor


def parts_of(train: ImageSet, seed: int) -> list[Tensor]:
    """Return the positions of the photographs that are left out at a time: a fifth of each class, in whole groups.

    A class of fewer than five photographs, or groups of them, is in fewer parts, and one of a single one in none; none
    if fewer than two classes have two.
    """
    parts = [part for part in grouped_folds(train, rng(seed, "folds"), FOLDS) if len(part)]
    if not parts or len(train.labels[torch.cat(parts)].unique()) < 2:
        return []
    return parts if len(train) <= ALL_FOLDS else parts[:1]


def fit_to_features(
    given: Photographs, own: nn.Linear, start: State, parts: Sequence[Tensor], seed: int, progress: Progress
) -> tuple[Heads, Choice | None]:
    """Return heads of the kind that photographs left out favour, and why; without any of these, of the usual kind."""
    train = given.train
    with progress.stage("Looking at the photographs", len(train)) as stage:
        features, logits = seen(given.graph(start), train.images, stage)
    with progress.stage("Fitting a head"):
        prior = prior_of(logits, given.resolution)
        choice = chosen_head(given, features, prior, parts, seed) if parts else None
        kind = USUAL if choice is None else choice.kind
        rows = Linear(own.weight.detach(), own.bias.detach())
        return Heads(rows, given.resolution, features, prior, train.labels, kind), choice


def seen(graph: onnx.ModelProto, images: Tensor, stage: Stage | None = None) -> tuple[Tensor, Tensor]:
    """Return what a body sees in uint8 images `(N, 3, H, W)`: features `(N, D)`, and its logits `(N, rows)`."""
    (last,) = (n for n in graph.graph.node if graph.graph.output[0].name in n.output)
    graph.graph.output.append(helper.make_tensor_value_info(last.input[0], onnx.TensorProto.FLOAT, ["n", "features"]))
    session = session_in_memory(graph.SerializeToString(), torch.get_num_threads())
    logits, features = list[Tensor](), list[Tensor]()
    for part in images.split(AT_ONCE):
        feed = {graph.graph.input[0].name: part.numpy().astype(np.float32) / np.float32(255)}
        for kind, values in zip((logits, features), session.run(None, feed), strict=True):
            kind.append(torch.from_numpy(np.asarray(values)))
        if stage is not None:
            stage.advance(len(part))
    return torch.cat(features), torch.cat(logits)


def prior_of(logits: Tensor, resolution: Resolution) -> Tensor:
    """Return what names alone say, `(N, names)`, from logits of the base: 0 for an unknown name."""
    nothing = torch.zeros(len(logits))
    return torch.stack([logits[:, list(g)].logsumexp(1) if g else nothing for g in resolution.groups], 1)


def chosen_head(given: Photographs, features: Tensor, prior: Tensor, parts: Sequence[Tensor], seed: int) -> Choice:
    """Return which kind of head names most photographs that it was not fitted to."""
    return choose_head(
        features, given.train.labels, prior, parts, all_known=given.all_known, any_known=given.any_known,
        generator=rng(seed, "parts"),
    )  # fmt: skip


def frozen(heads: Heads, left_out: Tensor) -> LeftOut:
    """Return what the untrained network with a head that has not seen some photographs says of them."""
    rest = rest_of(left_out, len(heads.labels))
    logits = named_logits(heads.fitted(rest)(heads.features[left_out]), heads.rows)
    return LeftOut(left_out, logits, cosines(heads.features, heads.labels, rest, left_out))
