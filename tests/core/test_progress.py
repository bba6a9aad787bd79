import time

from mvp_edge.core.progress import Stopwatch


def test_the_stopwatch_adds_up() -> None:
    clock = Stopwatch()
    for _ in range(2):
        with clock.time("x"):
            pass
    assert 0 <= clock.seconds["x"] <= clock.total


def test_the_stopwatch_counts_what_was_before_it() -> None:
    clock = Stopwatch(time.perf_counter() - 5)
    assert 5 <= clock.seconds["start"] <= clock.total < 60
    assert Stopwatch().seconds == {} and Stopwatch().total < 5
