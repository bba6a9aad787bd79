from __future__ import annotations

import os

import pytest

from mvp_edge.timing import pinning
from mvp_edge.timing.pinning import choose_cpus, pinned


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four CPUs of two hardware threads each may be used: 0 with 4, 1 with 5, 2 with 6, 3 with 7; 1 is busy."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(pinning, "_siblings", lambda cpu: {cpu % 4, cpu % 4 + 4})
    monkeypatch.setattr(pinning, "_busy_shares", lambda: {0: 0.05, 1: 0.9, 2: 0.0, 3: 0.0})


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(("threads", "cpus"), [(1, (0,)), (3, (0, 2, 3)), (4, (0, 2, 3, 1)), (5, ())])
def test_one_cpu_a_core_the_busy_one_last(threads: int, cpus: tuple[int, ...]) -> None:
    assert choose_cpus(threads) == cpus


@pytest.mark.usefixtures("machine")
def test_only_cpus_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 6, 2}, raising=False)
    assert choose_cpus(2) == (2, 5)


def test_a_system_that_cannot_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert choose_cpus(1) == ()
    with pinned(()):
        pass


def test_no_thread_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        choose_cpus(0)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="threads cannot be pinned here")
def test_the_thread_stays_and_is_set_free_again() -> None:
    before = os.sched_getaffinity(0)
    cpu = choose_cpus(1)[0]
    with pinned([cpu]):
        assert os.sched_getaffinity(0) == {cpu}
    assert os.sched_getaffinity(0) == before


def test_busy_shares_without_a_proc_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinning, "_ticks", dict)
    assert pinning._busy_shares() == {}


def test_busy_share_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([{0: (10, 100), 1: (5, 100)}, {0: (15, 120), 1: (5, 100), 2: (1, 1)}])
    monkeypatch.setattr(pinning, "_ticks", lambda: next(looks))
    monkeypatch.setattr(pinning, "SAMPLE_S", 0)
    assert pinning._busy_shares() == {0: 0.25, 1: 0.0, 2: 0.0}
