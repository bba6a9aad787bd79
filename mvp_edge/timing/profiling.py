"""Time of a model by operator, from ONNX Runtime's profiler."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mvp_edge.timing.latency import choose_cpus, pinned
from mvp_edge.timing.session import open_session, random_feed, warm_up

KERNEL = "_kernel_time"
# Suffixes that the runtime adds to the names of nodes that it fused or moved to another memory layout.
DECORATION = re.compile(r"(_nchwc|_nhwc|_token_\d+|_quant)+$")


@dataclass(frozen=True)
class NodeCost:
    """One node of the graph as the runtime executes it, after its fusions.

    Attributes:
        name: Name in the file.
        operator: After fusion, a `Conv` may include the addition and the activation that followed it.
        median_us: Median time of a call in microseconds.
        share: Share of the sum over all nodes, in [0, 1].
        output_shape: Shape of the first output; empty if unknown.
    """

    name: str
    operator: str
    median_us: float
    share: float
    output_shape: tuple[int, ...]


@dataclass(frozen=True)
class OperatorCost:
    """All nodes of one operator: their number, the sum of their median times, and its share of the total in [0, 1]."""

    operator: str
    count: int
    median_us: float
    share: float


@dataclass(frozen=True)
class Profile:
    """Time by operator and by node.

    Attributes:
        operators: Slowest first.
        nodes: In the order of execution.
        between_us: Median time of a call outside all operators: the runtime's own work, and the profiler's.
        runs: Number of calls.
    """

    operators: tuple[OperatorCost, ...]
    nodes: tuple[NodeCost, ...]
    between_us: float
    runs: int

    @property
    def operators_us(self) -> float:
        """Time of a call inside operators: the sum of their medians."""
        return sum(n.median_us for n in self.nodes)


def profile_model(path: Path, threads: int = 1, batch: int = 1, runs: int = 200) -> Profile:
    """Run a model under ONNX Runtime's profiler.

    The profiler itself takes about a microsecond per node, so its times add up to more than those of `time_in_turns`;
    only their proportions count. Each node gets a median, because a burst of other work would distort a mean.

    Args:
        path: An ONNX image model.
        threads: Threads within an operator.
        batch: Images in a call.
        runs: Calls after the warm-up.

    Raises:
        ExportError: the file is missing, is not an ONNX model, or does not accept such an image or batch.
    """
    if runs < 1:
        raise ValueError(f"runs is {runs}; it must be at least 1")
    cpus = choose_cpus(threads)
    with TemporaryDirectory() as scratch:
        model = open_session(path, threads, cpus, profile_prefix=str(Path(scratch) / "profile"))
        images = random_feed(model, batch)
        warm_up(model, images)
        with pinned(cpus):
            for _ in range(runs):
                model.run(images)
        events = json.loads(Path(model.runner.end_profiling()).read_text(encoding="utf-8"))
    return summarise(events, runs)


def summarise(events: Iterable[Mapping[str, Any]], runs: int) -> Profile:
    """Return the profile of the last `runs` calls in a list of the runtime's trace events.

    Args:
        events: In the order of time; those of kernels are named `NODE_kernel_time`, whole calls `model_run`, and
            their `dur` is in microseconds.
        runs: Calls that count; the earlier ones were warm-up.
    """
    calls: list[float] = []
    durations: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
    shapes: dict[tuple[str, str, str], tuple[int, ...]] = {}
    for event in events:
        name, args = str(event.get("name", "")), event.get("args", {})
        if event.get("cat") == "Node" and name.endswith(KERNEL):
            key = (name.removesuffix(KERNEL), str(args.get("op_name", "")), str(args.get("node_index", "")))
            durations[key].append(float(event["dur"]))
            shapes[key] = _shape(args.get("output_type_shape", []))
        elif name == "model_run":
            calls.append(float(event["dur"]))
    medians = {key: float(np.median(times[-runs:])) for key, times in durations.items()}
    whole = sum(medians.values()) or 1.0
    nodes = tuple(
        NodeCost(DECORATION.sub("", key[0]) or key[0], key[1], us, us / whole, shapes[key])
        for key, us in medians.items()
    )
    return Profile(_by_operator(nodes), nodes, _between_us(calls[-runs:], durations.values(), runs), runs)


def _between_us(calls: Sequence[float], durations: Iterable[Sequence[float]], runs: int) -> float:
    # Per call, because an interruption by another program lengthens an operator and the whole call alike.
    inside = np.zeros(len(calls))
    for times in durations:
        inside += np.resize(times[-runs:], len(calls))
    return float(np.median(np.maximum(0, calls - inside))) if len(calls) else 0.0


def _by_operator(nodes: Sequence[NodeCost]) -> tuple[OperatorCost, ...]:
    groups: defaultdict[str, list[NodeCost]] = defaultdict(list)
    for node in nodes:
        groups[node.operator].append(node)
    costs = [
        OperatorCost(name, len(group), sum(n.median_us for n in group), sum(n.share for n in group))
        for name, group in groups.items()
    ]
    return tuple(sorted(costs, key=lambda c: (-c.median_us, c.operator)))


def _shape(outputs: Sequence[Mapping[str, Sequence[int]]]) -> tuple[int, ...]:
    return next((tuple(shape) for output in outputs[:1] for shape in output.values()), ())
