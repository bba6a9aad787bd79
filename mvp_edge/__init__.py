"""Compact image classifiers for edge devices: earlier pruned models vote on what to keep of a base model.

Example:
    >>> from pathlib import Path
    >>> from mvp_edge import PruneConfig, compress
    >>> report = compress(PruneConfig(task=Path("classes.txt"), data="cifar100"))  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mvp_edge.config import Budget, FitConfig, FitOverrides, PruneConfig, VoteConfig
    from mvp_edge.core.errors import (
        BudgetError,
        ConfigError,
        DataError,
        ExportError,
        MvpEdgeError,
        PlanError,
        TaskError,
        ZooError,
    )
    from mvp_edge.export import OnnxClassifier
    from mvp_edge.models.bases import Base, load_base
    from mvp_edge.models.plan import KeepPlan
    from mvp_edge.names.tasks import Task, read_task
    from mvp_edge.prune.job import compress, compress_family
    from mvp_edge.report.record import FamilyReport, Report
    from mvp_edge.zoo.store import Zoo, open_zoo

__version__ = "0.1.0"

__all__ = [
    "Base",
    "Budget",
    "BudgetError",
    "ConfigError",
    "DataError",
    "ExportError",
    "FamilyReport",
    "FitConfig",
    "FitOverrides",
    "KeepPlan",
    "MvpEdgeError",
    "OnnxClassifier",
    "PlanError",
    "PruneConfig",
    "Report",
    "Task",
    "TaskError",
    "VoteConfig",
    "Zoo",
    "ZooError",
    "__version__",
    "compress",
    "compress_family",
    "load_base",
    "open_zoo",
    "read_task",
]

# Imported on first use: `import mvp_edge` must not cost the seconds that torch takes.
_HOMES = {
    "config": ("Budget", "FitConfig", "FitOverrides", "PruneConfig", "VoteConfig"),
    "core.errors": (
        "BudgetError",
        "ConfigError",
        "DataError",
        "ExportError",
        "MvpEdgeError",
        "PlanError",
        "TaskError",
        "ZooError",
    ),
    "export": ("OnnxClassifier",),
    "models.bases": ("Base", "load_base"),
    "prune.job": ("compress", "compress_family"),
    "report.record": ("FamilyReport", "Report"),
    "models.plan": ("KeepPlan",),
    "names.tasks": ("Task", "read_task"),
    "zoo.store": ("Zoo", "open_zoo"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
