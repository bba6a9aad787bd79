"""The file of a network that learned from photographs, and what it costs before it has learned."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mvp_edge.config import PruneConfig
from mvp_edge.core.packed import in_full, read_stored
from mvp_edge.export.compact import store_compactly
from mvp_edge.export.graph import last_gemm
from mvp_edge.export.named_head import attach_head
from mvp_edge.models.tensors import serialise
from mvp_edge.names.base_classes import Resolution
from mvp_edge.names.known import Split
from mvp_edge.prune.body_size import Delivery
from mvp_edge.prune.heads import State, graph_of
from mvp_edge.prune.write import write_file
from mvp_edge.zoo.bodies import Body, BodyZoo, Features


@dataclass(frozen=True, eq=False)
class Head:
    """What a file says: a logit of each name, of so many rows, and how near a picture is to the nearest name."""

    names: Sequence[str]
    rows: Sequence[int]
    means: np.ndarray | None
    threshold: float | None
    temperature: float


def make_file(file: Path, zoo: BodyZoo, body: Body, head: Head, state: State, config: PruneConfig) -> State:
    """Write a network that was learned, with some weights, and return these as the file has them: in eight bits.

    The rows of the head stay as they are, as they are few.

    Raises:
        ExportError: it cannot be written.
    """
    rows = torch.arange(sum(head.rows)).split(list(head.rows))
    groups = tuple(tuple(r.tolist()) for r in rows)
    graph = graph_of(zoo, body, state).graph
    own = state.keys() - set(last_gemm(graph).input)
    packed = {t.name for t in graph.initializer} & own  # the graph has a stem of its own
    forms = read_stored(serialise({k: state[k] for k in sorted(packed)}, "int8-fine"))[0]
    state = state | {k: torch.from_numpy(v) for k, v in in_full(forms).items()}
    model = attach_head(
        graph_of(zoo, body, state), Split(groups, tuple(range(sum(head.rows))), (), ()), head.names,
        known_threshold=head.threshold, means=head.means, temperature=head.temperature,
    )  # fmt: skip
    store_compactly(model, forms)
    write_file(model, file, zoo, body, config.input, {"seed": str(config.seed)})
    return state


def delivery_of(
    zoo: BodyZoo, resolution: Resolution, config: PruneConfig, weights: Mapping[str, np.ndarray] | None = None
) -> Delivery:
    """Return what is delivered of a body with photographs, at most: each class of the base has a row of its own.

    With `weights` it is what is delivered of the part of a body that has these.
    """
    names, rows = resolution.task.names, tuple(max(1, len(g)) for g in resolution.groups)

    def write(body: Body, file: Path) -> None:
        width = zoo.features(body).basis.shape[1]
        state = {k: torch.from_numpy(v) for k, v in (weights or zoo.weights(body)).items()}
        last = last_gemm(graph_of(zoo, body, state).graph)
        state |= {name: state[name][:1].repeat(sum(rows), *[1] * (state[name].ndim - 1)) for name in last.input[1:]}
        long = sys.float_info.min  # no figure has more digits
        known = (np.ones((len(names), width), np.float32), -long) if config.unknown else (None, None)
        make_file(file, zoo, body, Head(names, rows, *known, long), state, config)

    means = len(names) if config.unknown else 0
    return Delivery(lambda body: learned_head_costs(zoo.features(body), rows, means), write)


def learned_head_costs(features: Features, rows: Sequence[int], means: int) -> tuple[int, int]:
    """Return multiply-adds and parameters of a head with rows of each name and means of so many."""
    width, outputs = features.basis.shape[1], sum(rows) + means
    return outputs * width, outputs * (width + 1)
