"""Keeping measured threads where they are: one CPU each, on cores of their own, the quietest first."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

SAMPLE_S = 0.1
# Shares of busy time are compared in fifths: a core that is hardly used must not lose against an idle slower one.
BUSY_STEPS = 5


def choose_cpus(threads: int) -> tuple[int, ...]:
    """Return one CPU for each thread, or none where this cannot be done.

    Two hardware threads of one core share its arithmetic, so only the first of each core is taken. CPUs that are busy
    now come last; among the others the order of the system holds, which puts fast cores first.

    Returns:
        CPU numbers, the one of the calling thread first; empty if the system cannot pin threads or has too few cores.
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
    """Return the share of time, in [0, 1], that each CPU worked during a short look."""
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
