"""Settings of a run, checked when they are made."""

from mvp_edge.config.choices import (
    ChannelMultiple,
    Embedding,
    Importance,
    InputFormat,
    Launcher,
    Method,
    Optimizer,
    Packing,
    Parent,
    Precision,
    Pruner,
    Schedule,
    Similarity,
    Vote,
    Voters,
    check,
)
from mvp_edge.config.task import Budget, PruneConfig, VoteConfig
from mvp_edge.config.training import FitConfig, FitOverrides, PruneSchedule, ScoreSchedule
from mvp_edge.config.zoo import BuildConfig, PretrainConfig

__all__ = [
    "Budget",
    "BuildConfig",
    "ChannelMultiple",
    "Embedding",
    "FitConfig",
    "FitOverrides",
    "Importance",
    "InputFormat",
    "Launcher",
    "Method",
    "Optimizer",
    "Packing",
    "Parent",
    "Precision",
    "PretrainConfig",
    "PruneConfig",
    "PruneSchedule",
    "Pruner",
    "Schedule",
    "ScoreSchedule",
    "Similarity",
    "Vote",
    "VoteConfig",
    "Voters",
    "check",
]
