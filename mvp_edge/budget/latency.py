"""How long sliced networks take on this machine: measured, remembered, and predicted for all others.

What is timed is one call on one thread, as in the report, by the processor time of that thread where the system's clock
is fine enough. A network of one shape takes as long whatever its weights are, so the base's own are sliced to the first
units of every group.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

from mvp_edge.budget.costs import Achieved, Costs, Products
from mvp_edge.config import InputFormat
from mvp_edge.core.atomic import write_atomically
from mvp_edge.core.environment import environment
from mvp_edge.core.places import cache_dir
from mvp_edge.core.progress import Stage
from mvp_edge.core.streams import rng
from mvp_edge.export import export_onnx
from mvp_edge.models.architectures import head_of, set_head
from mvp_edge.models.bases import Base
from mvp_edge.models.groups import GroupTable
from mvp_edge.models.macs import count_macs, count_params
from mvp_edge.models.plan import make_plan
from mvp_edge.models.slicing import sliced_copy
from mvp_edge.timing.latency import Contender, time_in_turns

PROBES = 20
PROBE_KEEP = (0.03, 0.6)  # smallest and largest fraction that probes keep, before they are varied by group
ROUNDS, RUNS_PER_ROUND = 5, 16
ENOUGH_S = 0.2  # of timing one network
FORMAT = 2
MULTIPLES = (32, 16, 8, 4)  # channels; vectors of single precision hold 4 in NEON, 8 in AVX2, 16 in AVX-512
NO_SLOWER = 0.01  # relative difference that counts as none: about what timings repeat to
MOST_WIDTHS = 8  # a base with more different widths is raised in all groups at once only


class LatencyProbe:
    """Makes, times and weighs sliced versions of one base model; times are kept in the user's cache directory."""

    def __init__(
        self,
        base: Base,
        model: nn.Module,
        table: GroupTable,
        costs: Costs,
        labels: Sequence[str],
        kind: InputFormat = "float32-nchw",
    ) -> None:
        """Open the cache for a base and this machine.

        Args:
            base: Whose input size and normalisation are used.
            model: The base model, on the CPU.
            table: Its groups.
            costs: Its costs.
            labels: Class names of the files that are weighed.
            kind: What the files take.
        """
        self.base, self.model, self.table, self.costs, self.labels = base, model, table, costs, tuple(labels)
        self.kind: InputFormat = kind
        self.about = {
            "format": FORMAT,
            "arch": base.arch,
            "groups": table.widths,
            "input_size": list(base.input_size),
            "input": kind,
            "onnxruntime": version("onnxruntime"),
            "processor": environment(torch.device("cpu"))["processor"],
            "machine": platform.machine(),
            "threads": 1,
        }
        digest = hashlib.sha256(json.dumps(self.about, sort_keys=True).encode()).hexdigest()
        self.file = cache_dir() / "latency" / f"{base.arch}-{digest[:12]}.json"
        self._times = self._read()

    def times_ms(self, counts: np.ndarray, stage: Stage | None = None) -> np.ndarray:
        """Return the times `(N,)` of networks with counts `(N, G)`, from the cache where it has them.

        Raises:
            ExportError: the base model has no ONNX form.
        """
        for row in counts:
            if _key(row) not in self._times:
                with self._exported(row) as (_, file):
                    self._times[_key(row)] = round(time_call(file), 5)
            if stage is not None:
                stage.advance()
        self._write()
        return np.array([self._times[_key(row)] for row in counts])

    def achieved(self, counts: np.ndarray, figures: Collection[str]) -> Achieved:
        """Return what the network with counts `(G,)` costs; it is timed only if `latency_ms` is among the figures.

        Raises:
            ExportError: the base model has no ONNX form.
        """
        with self._exported(counts) as (model, file):
            if "latency_ms" in figures and _key(counts) not in self._times:
                self._times[_key(counts)] = round(time_call(file), 5)
                self._write()
            macs = count_macs(model, self.base.input_size)
            return Achieved(self._times.get(_key(counts)), macs, count_params(model), file.stat().st_size)

    @contextlib.contextmanager
    def _exported(self, counts: np.ndarray) -> Iterator[tuple[nn.Module, Path]]:
        plan = make_plan(
            self.table.widths, {g.name: range(int(c)) for g, c in zip(self.table.groups, counts, strict=True)}
        )
        model = sliced_copy(self.model, self.table, plan)
        set_head(model, nn.Linear(head_of(model).in_features, len(self.labels)))
        base = self.base
        with TemporaryDirectory() as scratch:
            file = Path(scratch) / "probe.onnx"
            export_onnx(
                model.eval(),
                file,
                input_size=base.input_size,
                mean=base.mean,
                std=base.std,
                labels=self.labels,
                metadata={},
                input_format=self.kind,
            )
            yield model, file

    def _read(self) -> dict[str, float]:
        try:
            value = json.loads(self.file.read_text(encoding="utf-8"))
            times = {str(k): float(v) for k, v in value["times_ms"].items()}
            return times if value["about"] == self.about and all(v > 0 for v in times.values()) else {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}  # none yet, or damaged: it is measured anew and written over

    def _write(self) -> None:
        value = {"about": self.about, "times_ms": {**self._read(), **self._times}}
        with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.file, json.dumps(value, indent=0).encode())


def _key(counts: np.ndarray) -> str:
    return ",".join(str(int(c)) for c in counts)


def time_call(file: Path) -> float:
    """Return the median time of a call with one image, in milliseconds: the figure that a report gives.

    Raises:
        ExportError: the file does not run.
    """
    return time_in_turns([Contender(file)], ROUNDS, RUNS_PER_ROUND, budget_s=ENOUGH_S)[0].latency().median_ms


@dataclass(frozen=True, eq=False)
class LatencyModel:
    """Predicts milliseconds.

    Attributes:
        fixed_ms: What the graph costs without work.
        parts: Milliseconds for multiply-adds, for padded multiply-adds, and for elements written.
        multiple: Channels that are computed together.
        error: Root mean square of the relative error on the networks it was fitted to.
    """

    fixed_ms: float
    parts: tuple[Products, ...]
    multiple: int
    error: float

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """Return milliseconds `(...)` for counts `(..., G)`."""
        return np.sum([part(counts) for part in self.parts], axis=0) + self.fixed_ms


def probe_counts(costs: Costs, unit_channels: np.ndarray) -> np.ndarray:
    """Return the counts `(PROBES, G)` of the networks that the latency model is fitted to; always the same.

    Widths are drawn evenly on a log scale, with independent variation for groups of each width and for each group, in
    multiples of 8 channels.
    """
    draw = rng(0, "latency probes")
    multiples = 8 // np.gcd(8, unit_channels)
    distinct, place = np.unique(costs.widths, return_inverse=True)
    low, high = np.log(PROBE_KEEP)
    rows = []
    for i in range(PROBES):
        spread = draw.uniform(-0.7, 0.7, len(distinct))[place] + draw.uniform(-0.3, 0.3, len(place)) * (i % 2)
        keep = np.exp(low + (high - low) * (i + draw.uniform()) / PROBES) * 2**spread
        wanted = np.round(keep * costs.widths / multiples) * multiples
        rows.append(np.clip(wanted, np.minimum(multiples, costs.widths), costs.widths))
    return np.array(rows, int)


def fit_latency(costs: Costs, counts: np.ndarray, times_ms: np.ndarray) -> LatencyModel:
    """Fit a model to timed networks, with the least relative error.

    Time is a constant, plus a cost for each element that a layer writes, plus one for each multiply-add that depends on
    the kind of layer (image size, grouped or not). Multiply-adds count twice: as they are, and with channels rounded up
    to a multiple, because the runtime pads in some layers and not in others. The multiple is the one that fits best.

    Args:
        costs: Of the base model.
        counts: Kept units of each network `(N, G)`.
        times_ms: What each took `(N,)`.
    """
    return min((_fit(costs, counts, times_ms, multiple) for multiple in MULTIPLES), key=lambda m: round(m.error, 4))


def _fit(costs: Costs, counts: np.ndarray, times_ms: np.ndarray, multiple: int) -> LatencyModel:
    from scipy.optimize import nnls  # imported here: it takes 0.3 s

    kinds = sorted(set(costs.kinds))
    members = np.array([[kind == own for own in costs.kinds] for kind in kinds], float)
    works = (costs.work, costs.work.padded(multiple))
    by_kind = [work.terms(counts) * work.weight @ members.T for work in works]
    features = np.column_stack([np.ones(len(counts)), costs.outputs(counts), *by_kind]) / times_ms[:, None]
    scale = np.maximum(features.max(0), 1e-300)
    found, residual = nnls(features / scale, np.ones(len(counts)))
    fixed, element, *rest = found / scale
    speeds = np.array(rest).reshape(len(works), -1) @ members  # (2, T)
    parts = [work.weighted(work.weight * speed) for work, speed in zip(works, speeds, strict=True)]
    written = costs.outputs.weighted(costs.outputs.weight * element)
    return LatencyModel(float(fixed), (*parts, written), multiple, residual / np.sqrt(len(counts)))


def raise_where_free(
    counts: np.ndarray,
    widths: np.ndarray,
    unit_channels: np.ndarray,
    time_ms: Callable[[np.ndarray], float],
    allowed: Callable[[np.ndarray], bool],
) -> np.ndarray:
    """Raise counts `(G,)` to multiples of channels wherever a timed network is no slower for it.

    Larger multiples are tried first; first in all groups together, then in the groups of each width (a stage of a
    network) by themselves.

    Args:
        counts: What was requested.
        widths: Units of the groups `(G,)`.
        unit_channels: Channels of one unit `(G,)`.
        time_ms: Times a network.
        allowed: Returns whether a network is within all other limits.

    Returns:
        Counts at least as large, of a network that takes at most 1 % longer, often less.
    """
    most = time_ms(counts) * (1 + NO_SLOWER)
    for chosen in _parts(widths):
        for multiple in MULTIPLES:
            units = multiple // np.gcd(multiple, unit_channels)
            larger = np.where(chosen, np.minimum(-(-counts // units) * units, widths), counts)
            if (larger == counts).all() or not allowed(larger):
                continue
            found = time_ms(larger)
            if found <= most:
                counts, most = larger, min(most, found * (1 + NO_SLOWER))
                break
    return counts


def _parts(widths: np.ndarray) -> Iterator[np.ndarray]:
    yield np.ones(len(widths), bool)
    distinct = np.unique(widths)
    if 1 < len(distinct) <= MOST_WIDTHS:
        for width in distinct:
            yield widths == width
