"""How long models take on this machine, compared fairly: in one process, in turns, on pinned threads."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mvp_edge.errors import ExportError
from mvp_edge.onnx_session import ImageSession, open_session

WARMUP_RUNS = 5
# Unrecorded runs at the start of each block: the model before has just filled the caches with its own weights.
BLOCK_WARMUP_RUNS = 2


@dataclass(frozen=True)
class Latency:
    """Wall-clock time of one call, in milliseconds.

    Attributes:
        median_ms: Median over `runs`.
        iqr_ms: Interquartile range.
        p95_ms: 95th percentile.
        runs: Number of recorded calls.
        threads: Threads that ONNX Runtime may use.
    """

    median_ms: float
    iqr_ms: float
    p95_ms: float
    runs: int
    threads: int

    def to_json(self) -> dict[str, float]:
        """Return the times as a JSON-ready value, in milliseconds."""
        return {
            "median": round(self.median_ms, 4),
            "iqr": round(self.iqr_ms, 4),
            "p95": round(self.p95_ms, 4),
        }


def compare_latency(
    paths: Sequence[Path],
    threads: int = 1,
    rounds: int = 8,
    runs_per_round: int = 20,
    batch: int = 1,
    budget_s: float = 2.5,
) -> list[Latency]:
    """Time ONNX image models against each other with ONNX Runtime on the CPU.

    After a warm-up the models take turns in blocks of `runs_per_round` calls, so that a change in clock speed or a
    burst of other work hits all of them alike. All models have the same number of calls.

    Args:
        paths: ONNX files, each with one `(N, C, H, W)` image input of float32 or uint8.
        threads: Threads within an operator; operators run one after the other.
        rounds: Blocks for each model at most.
        runs_per_round: Calls in a block.
        batch: Images in a call.
        budget_s: No further round is begun after this many seconds; the first one is always finished.

    Returns:
        One `Latency` for each path, in the order of `paths`.

    Raises:
        ExportError: a file is missing, is no ONNX model, or takes no such image or batch.
    """
    if min(rounds, runs_per_round, batch) < 1:
        raise ValueError("rounds, runs_per_round and batch must be at least 1")
    models = [open_session(Path(path), threads) for path in paths]
    feeds = [_feed(model, batch) for model in models]
    for model, images in zip(models, feeds, strict=True):
        _check_runs(model, images)
    times_ms: list[list[float]] = [[] for _ in models]
    started = time.perf_counter()
    for done in range(rounds):
        if done and time.perf_counter() - started > budget_s:
            break
        for model, images, times in zip(models, feeds, times_ms, strict=True):
            times.extend(_block_ms(model, images, runs_per_round))
    return [_summary(times, threads) for times in times_ms]


def _feed(model: ImageSession, batch: int) -> np.ndarray:
    if model.batch not in (None, batch):
        raise ExportError(f"{model.path} takes batches of {model.batch}, not {batch}; measure it with that batch size")
    pixels = np.random.default_rng(0).integers(0, 256, (batch, model.channels, *model.input_size), dtype=np.uint8)
    return pixels if model.dtype is np.uint8 else pixels.astype(np.float32) / np.float32(255)


def _check_runs(model: ImageSession, images: np.ndarray) -> None:
    try:
        for _ in range(WARMUP_RUNS):
            model.run(images)
    except Exception as e:  # ONNX Runtime's errors share no base class but this one
        raise ExportError(f"{model.path} loads but fails on an image {images.shape}: {e}") from e


def _block_ms(model: ImageSession, images: np.ndarray, runs: int) -> list[float]:
    # Straight to the runtime: each Python call around it would weigh on a model of a quarter of a millisecond.
    call, feed, clock = model.runner.run, {model.input_name: images}, time.perf_counter_ns
    for _ in range(BLOCK_WARMUP_RUNS):
        call(None, feed)
    marks = [clock()]
    for _ in range(runs):
        call(None, feed)
        marks.append(clock())
    return list(np.diff(marks) / 1e6)


def _summary(times_ms: list[float], threads: int) -> Latency:
    low, median, high, p95 = np.percentile(times_ms, [25, 50, 75, 95]).tolist()
    return Latency(median, high - low, p95, len(times_ms), threads)
