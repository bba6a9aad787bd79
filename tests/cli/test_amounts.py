from __future__ import annotations

import pytest
import typer

from cli.amounts import family, limit


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("latency_ms", "0.5", 0.5),
        ("latency_ms", "0.5ms", 0.5),
        ("latency_ms", " .5 MS ", 0.5),
        ("macs", "7500000", 7.5e6),
        ("macs", "7.5M", 7.5e6),
        ("macs", "7.5m", 7.5e6),
        ("macs", "7mmacs", 7e6),
        ("macs", "7 MMACs", 7e6),
        ("macs", "0.5G", 5e8),
        ("macs", "1e6", 1e6),
        ("params", "100K", 1e5),
        ("params", "100kparams", 1e5),
        ("size_kib", "300", 300),
        ("size_kib", "300KiB", 300),
        ("size_kib", "300kib", 300),
        ("size_kib", "2MiB", 2048),
    ],
)
def test_a_limit_takes_its_own_unit(name: str, text: str, expected: float) -> None:
    assert limit(name)(text) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [("latency_ms", "5M"), ("latency_ms", "1s"), ("macs", "1ms"), ("macs", "7T"), ("size_kib", "2M"), ("params", "x")],
)
def test_a_limit_refuses_what_it_is_not(name: str, text: str) -> None:
    with pytest.raises(typer.BadParameter, match=rf"'{text}' is not a limit; write it as \d"):
        limit(name)(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "0ms"])
def test_a_limit_is_above_zero(text: str) -> None:
    for read in (limit("latency_ms"), lambda text: family(text if text.endswith("ms") else "0ms", {})):
        with pytest.raises(typer.BadParameter, match="finite"):
            read(text)


def test_a_family_keeps_what_was_typed() -> None:
    budgets = family("2MiB, 300kib,0.2 ms,7mmacs", {"params": 1e5})
    assert [b.label for b in budgets] == [
        "100kparams-2MiB",
        "100kparams-300kib",
        "0.2ms-100kparams",
        "7mmacs-100kparams",
    ]
    assert [b.given for b in budgets][:2] == [{"params": 1e5, "size_kib": 2048}, {"params": 1e5, "size_kib": 300}]


@pytest.mark.parametrize("text", ["2MiB,2048KiB", "1ms,1.0MS", "7M", "1ms,", "300"])
def test_a_family_refuses_what_is_said_twice_or_has_no_unit(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        family(text, {})
