"""What is said of measured costs."""

from __future__ import annotations

import pytest

from mvp_edge.prune.measuring import Costs, slower
from mvp_edge.report.record import BytesRecord, LatenciesRecord, LatencyRecord


def costs(ms: float, dense_ms: float = 5.0) -> Costs:
    slow, fast = (LatencyRecord(median=value, iqr=0.1, p95=value) for value in (dense_ms, ms))
    return Costs(
        params=100,
        base_params=1000,
        macs=1000,
        base_macs=10000,
        unprunable_macs=1,
        bytes=BytesRecord(onnx=1536, parameters=1024, dense_onnx=4096),
        latency_ms=LatenciesRecord(dense=slow, pruned=fast, threads=1, runs=1, clock="wall"),
    )


@pytest.mark.parametrize(("ms", "said"), [(5.0, 0), (5.1, 1)])
def test_a_model_that_takes_longer_than_the_base_is_said(ms: float, said: int) -> None:
    assert len(slower(costs(ms))) == said


def test_a_budget_limits_the_delivered_file() -> None:
    assert costs(2.0).limited == {"latency_ms": 2.0, "macs": 1000, "params": 100, "size_kib": 1.5}
