"""What the measurement scripts share: arguments, the zoo and images they name, and records."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import torch

from benchmarks import RESNET_ZOO, records
from benchmarks.setting import Setting, load, target_tasks
from mvp_edge.core.device import resolve_device
from mvp_edge.data import DataSource, open_source
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.names.tasks import Task
from mvp_edge.zoo.store import Zoo, open_zoo

log = logging.getLogger("benchmarks")
Argument = Literal["data", "zoo", "tasks", "split", "device", "seed"]


class Script:
    """A measurement's command line and records.

    Args:
        question: Name of the records, and of the command unless another is given.
        doc: Help.
        uses: Shared arguments; others are added to `parser`.
        command: Name of the command.
    """

    def __init__(self, question: str, doc: str | None, *uses: Argument, command: str = "") -> None:
        self.question = question
        self.parser = argparse.ArgumentParser(
            f"python -m benchmarks {command or question}", description=doc,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        self.add = self.parser.add_argument
        self.add("--allow-dirty", action="store_true", help="run uncommitted code; tables mark its records")
        shared: dict[Argument, dict[str, Any]] = {
            "data": {"required": True, "help": "an image folder, or the name of a data set"},
            "zoo": {"default": RESNET_ZOO, "help": "default: the ResNet-18 of CIFAR-100"},
            "tasks": {"type": int, "default": 20, "help": "class lists"},
            "split": {"choices": ["test", "held-out"], "default": "held-out"},
            "device": {"default": "auto"},
            "seed": {"type": int, "default": 0},
        }
        for name in uses:
            self.add(f"--{name}", **shared[name])

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Return the arguments.

        Raises:
            ConfigError: the code is not committed.
        """
        self.args = self.parser.parse_args(argv)
        records.require_clean(self.args.allow_dirty)
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        return self.args

    @cached_property
    def zoo(self) -> Zoo:
        """The zoo."""
        return open_zoo(self.args.zoo)

    @cached_property
    def prunable(self) -> PrunableModel:
        """Its base model."""
        return PrunableModel.of(self.zoo.base, self.zoo.load_base())

    @cached_property
    def source(self) -> DataSource:
        """The images."""
        return open_source(self.args.data)

    @cached_property
    def device(self) -> torch.device:
        """Where to compute."""
        return resolve_device(getattr(self.args, "device", "cpu"))

    def tasks(self, lists: str = "random", first: int = 0) -> list[Task]:
        """Return the target tasks: random class lists, or the superclasses of CIFAR-100."""
        return target_tasks(self.zoo, self.source.classes, 5, first + self.args.tasks, lists)[first:]

    def setting(self, task: Task) -> Setting:
        """Return what methods are given for a task."""
        train, test = load(self.source, task, self.zoo.base.input_size, self.args.split)
        return Setting(self.zoo, self.prunable, task, train, test, self.device, self.args.seed)

    def done(self) -> list[dict[str, Any]]:
        """Return the configurations that have a record."""
        return [r["config"] for r in records.read(self.question)]

    def record(self, config: dict[str, Any], result: dict[str, Any]) -> None:
        """Append a record and show what came out."""
        records.append(self.question, config, result, self.device)
        log.info("%s", result)
