"""How long models take on this machine, compared fairly: in one process, in turns, on pinned threads.

A call on one thread is timed by the processor time of that thread, which is what it takes on an otherwise idle
machine. By the wall clock a long call is interrupted by other programs while a short one slips through between them:
on a busy machine a model of 12 ms came out 120 times as slow as one of 0.23 ms, instead of 52 times. Calls on several
threads can only be timed by the wall clock; how long they had to wait is told.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mvp_edge.timing.pinning import choose_cpus, pinned
from mvp_edge.timing.session import ImageSession, open_session, random_feed, warm_up

# Unrecorded runs at the start of each block: the model before has just filled the caches with its own weights.
BLOCK_WARMUP_RUNS = 2
# Threads of the model before spin for a while after its last call and would take part of the next one's time.
SETTLE_S = 0.005
# On some systems the clock of a thread ticks only every few milliseconds.
FINE_CLOCK_S = 1e-6
# Measurements of a model that seems to exceed its budget, and how long what disturbed one may take to pass.
ATTEMPTS = 3
# What all files of a result may take: a busy machine must not leave a single round to decide about one of them.
PATIENCE_S = 6.0
PAUSE_S = 1.0
# Share of the wall time that other programs may take before a comparison by the wall clock means nothing.
BUSY = 0.1

Clock = Literal["processor", "wall"]


@dataclass(frozen=True)
class Latency:
    """Time of one call, in milliseconds.

    Attributes:
        median_ms: Median over `runs`.
        iqr_ms: Interquartile range.
        p95_ms: 95th percentile.
        runs: Number of recorded calls.
        threads: Threads that ONNX Runtime may use.
        clock: `processor` time of the thread, or `wall` time where there are several.
        waited: Share of the wall time, in [0, 1], in which the calling thread did not run: how busy the machine was.
    """

    median_ms: float
    iqr_ms: float
    p95_ms: float
    runs: int
    threads: int
    clock: Clock = "wall"
    waited: float = 0.0

    def to_json(self) -> dict[str, float]:
        """Return the times as a JSON-ready value, in milliseconds."""
        return {
            "median": round(self.median_ms, 4),
            "iqr": round(self.iqr_ms, 4),
            "p95": round(self.p95_ms, 4),
        }


@dataclass(frozen=True)
class Ratio:
    """Time of one model by that of another, from the rounds in which both took their turns.

    Attributes:
        median: Median over the rounds of the ratio of the two medians within a round.
        low: Lower quartile over the rounds.
        high: Upper quartile over the rounds.
    """

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Contender:
    """A model to time: an ONNX file, and threads within an operator (operators run one after the other)."""

    path: Path
    threads: int = 1


@dataclass(frozen=True, eq=False)
class Timing:
    """What was measured for one contender.

    Attributes:
        contender: Which.
        times_ms: Time of each call, `(rounds, runs_per_round)`.
        cpus: Where its threads were pinned; empty if they were not.
        clock: What `times_ms` are of.
        waited: Share of the wall time in which the calling thread did not run.
    """

    contender: Contender
    times_ms: np.ndarray
    cpus: tuple[int, ...]
    clock: Clock
    waited: float

    def latency(self) -> Latency:
        """Return the summary over all rounds."""
        low, median, high, p95 = np.percentile(self.times_ms, [25, 50, 75, 95]).tolist()
        return Latency(median, high - low, p95, self.times_ms.size, self.contender.threads, self.clock, self.waited)

    def ratio_to(self, other: Timing) -> Ratio | None:
        """Return this one's time by the other's; both must come from the same call of `time_in_turns`.

        Load on the machine that lasts longer than a round hits both alike and cancels. None if they were timed by
        different clocks, or by the wall clock while other programs took more than `BUSY` of the time.
        """
        if self.clock != other.clock or (self.clock == "wall" and max(self.waited, other.waited) > BUSY):
            return None
        rounds = np.median(self.times_ms, axis=1) / np.median(other.times_ms, axis=1)
        low, median, high = np.percentile(rounds, [25, 50, 75]).tolist()
        return Ratio(median, low, high)


def time_within(limit_ms: float, paths: Sequence[Path]) -> list[Timing]:
    """Time files on one thread as `time_in_turns` does, again if the last one seems to take longer than `limit_ms`.

    Other programs and the processor's clock only ever slow a model down: of at most `ATTEMPTS` comparisons, the one is
    returned in which the last file was fastest.

    Raises:
        ExportError: as `time_in_turns`.
    """
    contenders = [Contender(path) for path in paths]
    best = time_in_turns(contenders, budget_s=PATIENCE_S)
    for _ in range(ATTEMPTS - 1):
        if best[-1].latency().median_ms <= limit_ms:
            break
        time.sleep(PAUSE_S)
        best = min(
            best, time_in_turns(contenders, budget_s=PATIENCE_S), key=lambda found: found[-1].latency().median_ms
        )
    return best


def time_in_turns(
    contenders: Sequence[Contender],
    rounds: int = 8,
    runs_per_round: int = 20,
    batch: int = 1,
    budget_s: float = 2.5,
) -> list[Timing]:
    """Time ONNX image models against each other with ONNX Runtime on the CPU.

    After a warm-up the contenders take turns in blocks of `runs_per_round` calls, so that a change in clock speed or a
    burst of other work hits all of them alike. All have the same number of calls. Threads are pinned to CPUs of their
    own where the system allows it.

    Args:
        contenders: Files, each with one `(N, C, H, W)` or `(N, H, W, C)` image input of float32 or uint8.
        rounds: Blocks for each contender at most.
        runs_per_round: Calls in a block.
        batch: Images in a call.
        budget_s: No further round is begun after this many seconds; the first one is always finished.

    Returns:
        One `Timing` for each contender, in their order.

    Raises:
        ExportError: a file is missing, is no ONNX model, or takes no such image or batch.
    """
    if min(rounds, runs_per_round, batch) < 1:
        raise ValueError("rounds, runs_per_round and batch must be at least 1")
    cpus = {threads: choose_cpus(threads) for threads in {c.threads for c in contenders}}
    models = [open_session(c.path, c.threads, cpus[c.threads]) for c in contenders]
    feeds = [random_feed(model, batch) for model in models]
    settle_s = SETTLE_S if any(c.threads > 1 for c in contenders) else 0.0
    clocks: list[Clock] = [_clock(c.threads) for c in contenders]
    blocks: list[list[_Block]] = [[] for _ in models]
    for model, images in zip(models, feeds, strict=True):
        warm_up(model, images)
    started = time.perf_counter()
    for done in range(rounds):
        if done and time.perf_counter() - started > budget_s:
            break
        for contender, model, images, clock, mine in zip(contenders, models, feeds, clocks, blocks, strict=True):
            time.sleep(settle_s)
            with pinned(cpus[contender.threads]):
                mine.append(_block(model, images, runs_per_round, clock))
    return [
        Timing(c, np.array([b.times_ms for b in mine]), cpus[c.threads], clock, _waited(mine))
        for c, mine, clock in zip(contenders, blocks, clocks, strict=True)
    ]


@dataclass(frozen=True)
class _Block:
    times_ms: list[float]
    wall_s: float
    processor_s: float


def _clock(threads: int) -> Clock:
    fine = time.get_clock_info("thread_time").resolution <= FINE_CLOCK_S
    return "processor" if threads == 1 and fine else "wall"


def _block(model: ImageSession, images: np.ndarray, runs: int, clock: Clock) -> _Block:
    # Straight to the runtime: each Python call around it would weigh on a model of a quarter of a millisecond.
    call, feed = model.runner.run, {model.input_name: images}
    now = time.thread_time_ns if clock == "processor" else time.perf_counter_ns
    for _ in range(BLOCK_WARMUP_RUNS):
        call(None, feed)
    wall, processor = time.perf_counter(), time.thread_time()
    marks = [now()]
    for _ in range(runs):
        call(None, feed)
        marks.append(now())
    wall, processor = time.perf_counter() - wall, time.thread_time() - processor
    return _Block(list(np.diff(marks) / 1e6), wall, processor)


def _waited(blocks: Sequence[_Block]) -> float:
    return max(0.0, 1 - sum(b.processor_s for b in blocks) / sum(b.wall_s for b in blocks))
