from pathlib import Path
from typing import Any, cast

import pytest

from mvp_edge.config import (
    Budget,
    BuildConfig,
    FitConfig,
    PretrainConfig,
    PruneConfig,
    PruneSchedule,
    ScoreSchedule,
    VoteConfig,
)
from mvp_edge.core.errors import ConfigError


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


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("temperature", (0, -1.0, float("inf"), float("nan")), (0.5, 4.0)),
        ("warmup", (-0.1, 1.1, float("nan")), (0, 1)),
        ("momentum", (-0.1, 1.0, float("nan")), (0, 0.95)),
        ("label_smoothing", (-0.1, 1.0), (0, 0.1)),
        ("weight_decay", (-1e-4, float("inf")), (0, 0.05)),
        ("crop", (-1,), (0, 4)),
        ("cutout", (-1,), (0, 8)),
    ],
)
def test_settings_of_a_training_are_in_range(name: str, wrong: tuple[Any, ...], right: tuple[Any, ...]) -> None:
    for value in wrong:
        with pytest.raises(ConfigError, match=f"{name.replace('_', ' ')} is {value}; it must be"):
            FitConfig(**{name: value})
    for value in right:
        assert getattr(FitConfig(**{name: value}), name) == value


@pytest.mark.parametrize("name", ["schedule", "input", "precision"])
def test_words_of_a_run_are_known(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is 'automatic'"):
        PruneConfig(Path("classes.txt"), None, **cast(Any, {name: "automatic"}))


def test_defaults_are_those_that_were_measured() -> None:
    """A default that changes changes every result: the paper's, ours where it gives none."""
    assert PruneSchedule() == PruneSchedule(0.1, channel_multiple=8, every=0, drop=0.2, importance="activation")
    assert ScoreSchedule() == ScoreSchedule(sparsity=0.01, threshold=0.5, lr=0.05, share=0.1)
    assert FitConfig() == FitConfig(
        iterations=100, batch_size=128, lr=0.01, momentum=0.9, weight_decay=5e-4, warmup=0, label_smoothing=0, crop=4,
        cutout=0, distill=0, temperature=2, optimizer="sgd", norms="batch",
    )  # fmt: skip
    assert VoteConfig() == VoteConfig(
        keep=0.1, channel_multiple=8, method="mvp", neighbours=5, similarity="auto", voters="auto", vote="top",
        temperature=0.5,
    )  # fmt: skip
    assert BuildConfig() == BuildConfig(members=60, ways=5, parent="generalist", seed=0, method="auto")
    made = PretrainConfig("resnet18-cifar", "data", Path("base.safetensors"))
    assert (made.epochs, made.save_every, made.small_size, made.small_epochs) == (30, 200, 0, 0)
    run = PruneConfig(Path("classes.txt"), None)
    assert (run.schedule, run.precision, run.input, run.max_drop) == ("auto", "auto", "float32-nchw", 1)
    assert (run.seed, run.unknown, run.thumbnails, run.force, run.add_to_zoo) == (0, True, True, False, False)


def test_steps_between_prunings_are_not_negative() -> None:
    assert PruneSchedule(every=0).every == 0
    with pytest.raises(ConfigError, match="every is -5"):
        PruneSchedule(every=-5)


def test_lanes_are_a_number_or_auto() -> None:
    assert VoteConfig(channel_multiple="auto").channel_multiple == "auto"
    with pytest.raises(ConfigError, match="channel multiple is 0"):
        VoteConfig(channel_multiple=0)
    with pytest.raises(ConfigError, match="'luck'.*mvp, smsp"):
        VoteConfig(method=cast(Any, "luck"))
