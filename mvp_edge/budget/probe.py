"""Timing sliced networks on this machine, and remembering the times.

A network of one shape takes as long whatever its weights are, so the base's own are sliced to the first units of every
group. What is timed is one call on one thread, as in the report.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

from mvp_edge.budget.costs import Costs
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
FORMAT = 1


@dataclass(frozen=True)
class Achieved:
    """What one network costs: milliseconds of a call, if it was timed, and exact counts."""

    latency_ms: float | None
    macs: int
    params: int
    size_bytes: int


def probe_counts(costs: Costs, unit_channels: np.ndarray) -> np.ndarray:
    """Return the counts `(PROBES, G)` of the networks that the latency model is fitted to; always the same.

    Widths are drawn evenly on a log scale, with independent variation for groups of each width and for each group, in
    lanes of 8 channels.
    """
    draw = rng(0, "latency probes")
    lanes = 8 // np.gcd(8, unit_channels)
    distinct, place = np.unique(costs.widths, return_inverse=True)
    low, high = np.log(PROBE_KEEP)
    rows = []
    for i in range(PROBES):
        spread = draw.uniform(-0.7, 0.7, len(distinct))[place] + draw.uniform(-0.3, 0.3, len(place)) * (i % 2)
        keep = np.exp(low + (high - low) * (i + draw.uniform()) / PROBES) * 2**spread
        rows.append(
            np.clip(np.round(keep * costs.widths / lanes) * lanes, np.minimum(lanes, costs.widths), costs.widths)
        )
    return np.array(rows, int)


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
    """Return the time of one call with one image, in milliseconds: the median of the quietest round of calls.

    Processor time does not count waiting, but a cache that others have emptied meanwhile makes calls slower; such
    bursts rarely last over several rounds.

    Raises:
        ExportError: the file does not run.
    """
    timing = time_in_turns([Contender(file)], ROUNDS, RUNS_PER_ROUND, budget_s=ENOUGH_S)[0]
    return float(np.median(timing.times_ms, axis=1).min())
