import pytest

from mvp_edge.config import Budget, VoteConfig
from mvp_edge.errors import ConfigError


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_a_limit_is_positive_and_finite(value: float) -> None:
    with pytest.raises(ConfigError, match="latency_ms is .*macs is"):
        Budget(latency_ms=value, macs=value, params=5)


def test_a_budget_has_a_limit_and_a_name() -> None:
    with pytest.raises(ConfigError, match="at least one limit"):
        Budget()
    assert Budget(latency_ms=0.25, size_kib=300).label == "0.25ms-300KiB"
    assert Budget(macs=7.5e6, params=2_500).label == "7.5MMACs-2.5kparams"
    assert Budget(macs=7.5e6).given == {"macs": 7.5e6}
    typed = Budget(latency_ms=0.25, size_kib=2048, typed={"size_kib": "2MiB"})
    assert typed.label == "0.25ms-2MiB" and typed == Budget(latency_ms=0.25, size_kib=2048)
    assert typed.given == {"latency_ms": 0.25, "size_kib": 2048}


def test_lanes_are_a_number_or_auto() -> None:
    assert VoteConfig(align="auto").align == "auto"
    with pytest.raises(ConfigError, match="align is 0"):
        VoteConfig(align=0)
    with pytest.raises(ConfigError, match="'luck' is none of mvp, smsp"):
        VoteConfig(method="luck")  # pyright: ignore
