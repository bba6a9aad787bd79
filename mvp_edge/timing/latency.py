"""Latency of ONNX models on this machine: in one process, in turns, on pinned threads.

A call on one thread is timed by the processor time of that thread: what it would take on an idle machine. Wall-clock
time is unfair on a busy machine, where long calls are interrupted and short ones are not: a model of 12 ms came out 120
times as slow as one of 0.23 ms, instead of 52 times. Calls on several threads can only be timed by the wall clock; the
share of time that they had to wait is reported.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mvp_edge.timing.session import ImageSession, open_session, random_feed, warm_up

SAMPLE_S = 0.1
# Busy shares are compared in fifths, so that a hardly used fast core is still preferred to an idle slow one.
BUSY_STEPS = 5


def choose_cpus(threads: int) -> tuple[int, ...]:
    """Return one CPU for each thread, or none where this cannot be done.

    Hardware threads of one core share its arithmetic units, so only the first of each core is used. Busy CPUs come
    last; the others keep the system's order, which puts fast cores first.

    Returns:
        CPU numbers, that of the calling thread first; empty if the system cannot pin threads or has too few cores.
    """
    if threads < 1:
        raise ValueError(f"threads is {threads}; it must be at least 1")
    if not hasattr(os, "sched_getaffinity"):
        return ()
    allowed = sorted(os.sched_getaffinity(0))
    cores = [cpu for cpu in allowed if min(_siblings(cpu) & set(allowed)) == cpu]
    if threads > len(cores):
        return ()
    busy = _busy_shares()
    return tuple(sorted(cores, key=lambda cpu: (round(BUSY_STEPS * busy.get(cpu, 0.0)), cpu))[:threads])


@contextmanager
def pinned(cpus: Sequence[int]) -> Iterator[None]:
    """Keep the calling thread on the first of `cpus` while the block runs; without any, change nothing."""
    if not cpus:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpus[0]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _siblings(cpu: int) -> set[int]:
    """Return the hardware threads of the core that `cpu` belongs to."""
    found: set[int] = set()
    with suppress(OSError, ValueError):
        text = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text(encoding="ascii")
        for part in text.strip().split(","):
            first, _, last = part.partition("-")
            found.update(range(int(first), int(last or first) + 1))
    return found | {cpu}


def _busy_shares() -> dict[int, float]:
    """Return the share of time, in [0, 1], that each CPU worked during a short sample."""
    before = _ticks()
    if not before:
        return {}
    time.sleep(SAMPLE_S)
    shares = {}
    for cpu, (work, whole) in _ticks().items():
        old_work, old_whole = before.get(cpu, (work, whole))
        shares[cpu] = (work - old_work) / (whole - old_whole) if whole > old_whole else 0.0
    return shares


def _ticks() -> dict[int, tuple[int, int]]:
    """Return the clock ticks that each CPU worked, and all its ticks, since the system started."""
    found = {}
    with suppress(OSError, ValueError):
        for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
            name, *ticks = line.split()
            if name.startswith("cpu") and name[3:].isdigit():
                values = [int(t) for t in ticks[:8]]  # later columns are contained in these
                found[int(name[3:])] = (sum(values) - values[3] - values[4], sum(values))
    return found


# Unrecorded runs at the start of each block, because the previous model has filled the caches with its weights.
BLOCK_WARMUP_RUNS = 2
# Threads of the previous model spin for a while after its last call and would slow down the next one.
SETTLE_S = 0.005
# On some systems the clock of a thread ticks only every few milliseconds.
FINE_CLOCK_S = 1e-6
# Time for measuring all files of a result: long enough for several rounds on a busy machine.
PATIENCE_S = 6.0
# Rounds below which a quartile would not have a round on each side.
QUARTERS = 4
# Share of wall time taken by other programs above which a comparison by the wall clock is void.
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
        waited: Share of the wall time, in [0, 1], in which the calling thread did not run.
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
    """Time of one model divided by that of another, round by round.

    Attributes:
        median: Median over the rounds of the ratio of the two medians of a round.
        quartiles: Lower and upper quartile over the rounds; None if there are fewer than `QUARTERS`.
    """

    median: float
    quartiles: tuple[float, float] | None


@dataclass(frozen=True)
class Contender:
    """A model to time: an ONNX file, and the number of threads within an operator (operators run in sequence)."""

    path: Path
    threads: int = 1


@dataclass(frozen=True, eq=False)
class Timing:
    """Measured times of one contender.

    Attributes:
        times_ms: Time of each call, `(rounds, runs_per_round)`.
        cpus: CPUs of its threads; empty if they were not pinned.
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
        """Return this time divided by the other's; both must come from the same call of `time_in_turns`.

        Load that lasts longer than a round affects both alike and cancels. None if the clocks differ, or if wall-clock
        time was measured while other programs took more than `BUSY` of it.
        """
        if self.clock != other.clock or (self.clock == "wall" and max(self.waited, other.waited) > BUSY):
            return None
        rounds = np.median(self.times_ms, axis=1) / np.median(other.times_ms, axis=1)
        low, median, high = np.percentile(rounds, [25, 50, 75]).tolist()
        return Ratio(median, (low, high) if len(rounds) >= QUARTERS else None)


def time_files(paths: Sequence[Path]) -> list[Timing]:
    """Time the files of a result on one thread, as `time_in_turns` does; a report gives the medians.

    Raises:
        ExportError: as `time_in_turns`.
    """
    return time_in_turns([Contender(path) for path in paths], budget_s=PATIENCE_S)


def time_in_turns(
    contenders: Sequence[Contender],
    rounds: int = 8,
    runs_per_round: int = 20,
    batch: int = 1,
    budget_s: float = 2.5,
) -> list[Timing]:
    """Time ONNX image models against each other with ONNX Runtime on the CPU.

    After a warm-up the contenders take turns in blocks of `runs_per_round` calls, so that a change in clock speed or a
    burst of other work affects all of them alike. All get the same number of calls. Each thread is pinned to a CPU of
    its own where the system allows it.

    Args:
        contenders: Files, each with one `(N, C, H, W)` or `(N, H, W, C)` image input of float32 or uint8.
        rounds: Maximum number of blocks per contender.
        runs_per_round: Calls in a block.
        batch: Images in a call.
        budget_s: No new round starts after this many seconds; the first one always finishes.

    Returns:
        One `Timing` for each contender, in their order.

    Raises:
        ExportError: a file is missing, is not an ONNX model, or does not accept such an image or batch.
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
    # Calls the runtime directly: a Python wrapper would add measurably to a model of a quarter of a millisecond.
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
