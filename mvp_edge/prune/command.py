"""The command line that repeats a run."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import Any

from mvp_edge.config import PruneConfig
from mvp_edge.names.tasks import STANDARD_INPUT, Task
from mvp_edge.training.recipes import recipe


def prune_command(config: PruneConfig) -> str:
    """Return what to type for the same model again: all that decides on it and is not the default, and the seed.

    A class list that came from no file is to come from the standard input again.

    Example:
        >>> from pathlib import Path
        >>> prune_command(PruneConfig(Path("my classes.txt"), "photos", precision="fp32"))
        "mvp-edge prune --task 'my classes.txt' --data photos --precision fp32 --seed 0"
    """
    usual, fit = PruneConfig(config.task, config.data), recipe("prune", "sgd")
    listed = STANDARD_INPUT if isinstance(config.task, Task) else config.task
    given: dict[str, Any] = {"task": listed, "data": config.data, "zoo": config.zoo}
    given |= {f"max_{name}": f"{value:.12g}" for name, value in (config.budget.given if config.budget else {}).items()}
    given |= {name: value for name, value in asdict(config.vote).items() if value != getattr(usual.vote, name)}
    # The usual rate and optimiser depend on the network, the rest does not.
    given |= {"lr": config.fit.lr, "optimizer": config.fit.optimizer}
    for name in ("iterations", "batch_size"):
        given[name] = None if getattr(config.fit, name) == getattr(fit, name) else getattr(config.fit, name)
    for name in ("schedule", "precision", "input"):
        given[name] = None if getattr(config, name) == getattr(usual, name) else getattr(config, name)
    given["seed"] = config.seed
    flags = [(f"--{name.replace('_', '-')}", str(value)) for name, value in given.items() if value is not None]
    return shlex.join(["mvp-edge", "prune", *(word for flag in flags for word in flag)])
