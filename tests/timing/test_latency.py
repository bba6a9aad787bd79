"""Latency in turns, on pinned threads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from mvp_edge.core.errors import ExportError
from mvp_edge.timing import latency
from mvp_edge.timing.latency import (
    Clock,
    Contender,
    Latency,
    Timing,
    choose_cpus,
    pinned,
    time_in_turns,
)
from mvp_edge.timing.session import open_session
from tests.onnx_files import Dim, save_pool


def latencies(paths: Sequence[Path], threads: int = 1, **more: Any) -> list[Latency]:
    return [t.latency() for t in time_in_turns([Contender(path, threads) for path in paths], **more)]


def test_models_take_turns_and_have_the_same_number_of_runs(tmp_path: Path) -> None:
    small, large = save_pool(tmp_path / "a.onnx"), save_pool(tmp_path / "b.onnx", ("batch", 3, 600, 600))
    fast, slow = latencies([small, large], threads=1, rounds=2, runs_per_round=5)
    assert (fast.runs, slow.runs, fast.threads) == (10, 10, 1)
    assert 0 < fast.median_ms < slow.median_ms
    assert fast.iqr_ms >= 0
    assert fast.p95_ms >= fast.median_ms


def test_the_cpus_for_a_number_of_threads_are_chosen_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("mvp_edge.timing.latency.choose_cpus", lambda threads: asked.append(threads) or ())
    path = save_pool(tmp_path / "a.onnx")
    time_in_turns([Contender(path, threads) for threads in (1, 2, 1, 1)], rounds=1, runs_per_round=1)
    assert sorted(asked) == [1, 2]


def test_budget_ends_after_a_whole_round(tmp_path: Path) -> None:
    path = save_pool(tmp_path / "a.onnx")
    assert latencies([path], rounds=100, runs_per_round=3, budget_s=0)[0].runs == 3


@pytest.mark.parametrize(
    ("shape", "dtype", "metadata"),
    [
        (("batch", 3, 8, 6), TensorProto.FLOAT, {}),
        ((2, 3, 8, 6), TensorProto.UINT8, {}),
        (("n", 1, "h", "w"), TensorProto.FLOAT, {"input_size": "[8, 6]"}),
    ],
)
def test_any_image_model(tmp_path: Path, shape: tuple[Dim, ...], dtype: int, metadata: dict[str, str]) -> None:
    path = save_pool(tmp_path / "a.onnx", shape, dtype, metadata)
    session = open_session(path)
    assert session.input_size == (8, 6)
    assert session.dtype is (np.float32 if dtype == TensorProto.FLOAT else np.uint8)
    assert latencies([path], rounds=1, runs_per_round=2, batch=2)[0].runs == 2


@pytest.mark.parametrize("content", [b"hello, I am text", b""])
def test_a_file_that_is_no_onnx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ExportError, match=r"model\.onnx cannot be loaded .*\(.+\).*mvp-edge prune"):
        latencies([path])


def test_a_truncated_file(tmp_path: Path) -> None:
    path = save_pool(tmp_path / "model.onnx")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ExportError, match="cannot be loaded"):
        open_session(path)


@pytest.mark.parametrize("name", ["none.onnx", "."])
def test_missing_file_or_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(ExportError, match="not a file"):
        open_session(tmp_path / name)


@pytest.mark.parametrize(
    ("shape", "dtype", "inputs"),
    [
        (("batch", 3, 8), TensorProto.FLOAT, 1),
        (("batch", 3, 8, 8), TensorProto.INT64, 1),
        (("batch", 3, 8, 8), TensorProto.FLOAT, 2),
    ],
)
def test_another_signature(tmp_path: Path, shape: tuple[Dim, ...], dtype: int, inputs: int) -> None:
    path = save_pool(tmp_path / "a.onnx", shape, dtype, inputs=inputs)
    with pytest.raises(ExportError, match=r"inputs .*image0"):
        open_session(path)


@pytest.mark.parametrize("stored", [None, "[8]", "[0, 8]", '["8", 8]', "8", "no json"])
def test_open_size_without_usable_metadata(tmp_path: Path, stored: str | None) -> None:
    path = save_pool(tmp_path / "a.onnx", ("n", 3, "h", "w"), metadata={"input_size": stored} if stored else {})
    with pytest.raises(ExportError, match="`input_size`"):
        open_session(path)


def test_open_channels(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="fixed channels"):
        open_session(save_pool(tmp_path / "a.onnx", ("n", "c", 8, 8)))


def test_fixed_batch_of_another_size(tmp_path: Path) -> None:
    path = save_pool(tmp_path / "a.onnx", (4, 3, 8, 8))
    with pytest.raises(ExportError, match="--batch 4"):
        latencies([path])


def test_loads_but_does_not_run(tmp_path: Path) -> None:
    path = save_pool(tmp_path / "a.onnx", ("n", 3, "h", "w"), metadata={"input_size": "[8, 8]"})
    import onnx
    from onnx import helper

    model = onnx.load(path)
    shape = helper.make_tensor("to", TensorProto.INT64, [2], [1, 7])
    model.graph.initializer.append(shape)
    model.graph.node[-1].output[0] = "pooled"
    model.graph.node.append(helper.make_node("Reshape", ["pooled", "to"], ["logits"]))
    onnx.save(model, path)
    with pytest.raises(ExportError, match="fails on an image"):
        latencies([path])


@pytest.mark.parametrize("wrong", [{"threads": 0}, {"rounds": 0}, {"batch": 0}])
def test_programmer_mistakes(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        latencies([save_pool(tmp_path / "a.onnx")], **wrong)


def timing(rounds: list[list[float]], clock: Clock = "processor", waited: float = 0.0) -> Timing:
    return Timing(Contender(Path("a.onnx")), np.array(rounds), (), clock, waited)


def test_ratio_by_hand() -> None:
    """Load in the second round slows both and cancels; one slow call in the third does not count."""
    one = timing([[2, 2, 2], [8, 8, 8], [2, 2, 90], [2, 2, 2]])
    other = timing([[1, 1, 1], [4, 4, 4], [1, 1, 1], [1, 1, 1]])
    ratio = one.ratio_to(other)
    assert ratio is not None
    assert (ratio.median, ratio.quartiles) == (2, (2, 2))
    assert one.latency().median_ms == 2
    assert one.latency().runs == 12


@pytest.mark.parametrize(("rounds", "quartiles"), [(1, None), (3, None), (4, (1.75, 3.25)), (5, (2, 4))])
def test_quartiles_need_a_round_on_each_side(rounds: int, quartiles: tuple[float, float] | None) -> None:
    ratio = timing([[i + 1.0] for i in range(rounds)]).ratio_to(timing([[1.0]] * rounds))
    assert ratio is not None and ratio.quartiles == quartiles


def test_clocks_that_cannot_be_compared() -> None:
    quiet, loud = timing([[1.0]], "wall", 0.05), timing([[1.0]], "wall", 0.5)
    assert timing([[1.0]]).ratio_to(quiet) is None
    assert quiet.ratio_to(loud) is None
    assert quiet.ratio_to(quiet) is not None
    assert timing([[1.0]], waited=0.9).ratio_to(timing([[1.0]], waited=0.9)) is not None


def test_several_thread_counts_take_turns(tmp_path: Path) -> None:
    path = save_pool(tmp_path / "a.onnx")
    one, two = time_in_turns([Contender(path, 1), Contender(path, 2)], rounds=2, runs_per_round=3)
    assert one.times_ms.shape == two.times_ms.shape == (2, 3)
    assert (one.latency().threads, two.latency().threads) == (1, 2)
    assert two.clock == "wall"
    assert 0 <= one.waited < 1


@pytest.mark.parametrize(("threads", "settled"), [([1], 0.0), ([2], 0.01), ([1, 2], 0.01)])
def test_only_several_threads_have_to_settle(
    threads: list[int], settled: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("mvp_edge.timing.latency.SETTLE_S", 0.01)
    monkeypatch.setattr("mvp_edge.timing.latency.time.sleep", slept.append)
    path = save_pool(tmp_path / "a.onnx")
    time_in_turns([Contender(path, n) for n in threads], rounds=1, runs_per_round=1)
    assert slept[-len(threads) :] == [settled] * len(threads)  # before these, CPUs are chosen


def test_a_coarse_clock_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvp_edge.timing.latency.FINE_CLOCK_S", 0.0)
    (found,) = time_in_turns([Contender(save_pool(tmp_path / "a.onnx"))], rounds=1, runs_per_round=2)
    assert found.clock == "wall"


@pytest.mark.parametrize(
    ("shape", "layout"), [(("n", 8, 6, 3), "nhwc"), (("n", 3, 8, 6), "nchw"), (("n", 3, 8, 3), "nchw")]
)
def test_layout(tmp_path: Path, shape: tuple[Dim, ...], layout: str) -> None:
    session = open_session(save_pool(tmp_path / "a.onnx", shape, TensorProto.UINT8))
    assert (session.layout, session.channels) == (layout, 3)
    assert latencies([session.path], rounds=1, runs_per_round=2)[0].runs == 2


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four CPUs of two hardware threads each may be used: 0 with 4, 1 with 5, 2 with 6, 3 with 7; 1 is busy."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(latency, "_siblings", lambda cpu: {cpu % 4, cpu % 4 + 4})
    monkeypatch.setattr(latency, "_busy_shares", lambda: {0: 0.05, 1: 0.9, 2: 0.0, 3: 0.0})


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
    monkeypatch.setattr(latency, "_ticks", dict)
    assert latency._busy_shares() == {}


def test_busy_share_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([{0: (10, 100), 1: (5, 100)}, {0: (15, 120), 1: (5, 100), 2: (1, 1)}])
    monkeypatch.setattr(latency, "_ticks", lambda: next(looks))
    monkeypatch.setattr(latency, "SAMPLE_S", 0)
    assert latency._busy_shares() == {0: 0.25, 1: 0.0, 2: 0.0}
