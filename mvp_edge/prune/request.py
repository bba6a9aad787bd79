"""The request to `prune`: checked as far as possible without torch, and the command that repeats it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mvp_edge.config import FitOverrides, PruneConfig
from mvp_edge.core.errors import ConfigError, TaskError
from mvp_edge.core.output import check_output
from mvp_edge.core.places import resolved
from mvp_edge.core.words import in_short
from mvp_edge.names import wordnet
from mvp_edge.names.base_classes import Resolution, resolve_to_base
from mvp_edge.names.tasks import ONE_A_LINE, STANDARD_INPUT, Task, TaskClass, read_task, separated
from mvp_edge.training.recipes import recipe
from mvp_edge.zoo.bodies import BodyZoo
from mvp_edge.zoo.catalogue import read_known_classes
from mvp_edge.zoo.location import read_base_classes


def check_place(config: PruneConfig) -> None:
    """Refuse a place for the result that cannot be written, that holds what the result is made from, or is in the data.

    Raises:
        ConfigError: see `check_output`; or the place is in the folder of the data, which is read again next time.
    """
    if config.data and resolved(config.out).is_relative_to(folder := resolved(Path(config.data))) and folder.is_dir():
        raise inside_data(config)
    listed = None if isinstance(config.task, Task) else config.task
    check_output(config.out, force=config.force, inputs=(listed, config.data, config.zoo, config.base, config.weights))


def inside_data(config: PruneConfig) -> ConfigError:
    """Return the error that the place for the result is in the data."""
    return ConfigError(f"{config.out} is inside the data {config.data}; choose another directory with --out")


def requested_task(config: PruneConfig) -> Task:
    """Return the classes with their synsets; without images, only if the base knows them and no setting needs images.

    Raises:
        TaskError: the class list cannot be used, or there are neither images nor a base that knows a class.
        ConfigError: a setting needs images.
        ZooError: there is no such zoo.
    """
    task = wordnet.resolve(_listed(config))
    _, classes = read_base_classes(config.zoo)
    if config.data is None:
        _check_votes_without_images(config)
        _check_none(config)
        if config.precision == "int8":
            raise ConfigError(
                "--precision int8 needs images to calibrate with; add --data DIR, or choose another precision"
            )
        if task.unknown_to(wordnet.resolve_names(classes)):  # members need not be read to find that none is
            require_known(task, *read_known_classes(config.zoo), config.zoo)
    return task


def requested_names(config: PruneConfig, zoo: BodyZoo) -> Resolution:
    """Return what stands for each name of the class list among the classes of a zoo's ready-made bodies.

    Raises:
        TaskError: the class list cannot be used, or the base does not know a name.
        ConfigError: a setting needs images, or members.
    """
    _check_bodies(config, zoo)
    _check_none(config)
    resolution = resolve_to_base(_listed(config), zoo.classes)
    resolution.require_known(zoo.base, _listing_command(config.zoo))
    return resolution


def requested_with_photographs(config: PruneConfig, zoo: BodyZoo) -> Resolution:
    """Return what stands for each name of the class list; with photographs the base need not tell names apart.

    Raises:
        TaskError: the class list cannot be used.
        ConfigError: the result is to be added to the zoo.
    """
    _check_bodies(config, zoo)
    return resolve_to_base(_listed(config), zoo.classes, pictured=True)


def require_known(task: Task, base: str, classes: Sequence[str], zoo: str | None) -> None:
    """Refuse a task without images with classes that are not among the known ones, or not in the sense that is meant.

    Raises:
        TaskError: a class is unknown; the message names those that may be meant, for all such classes, and what lists
            the known ones of the zoo.
    """
    known = wordnet.resolve_names(classes)
    if missing := task.unknown_to(known):
        lines = [_unknown(c, base, known) for c in missing]
        lines += [ONE_A_LINE] if separated(c.name for c in missing) else []
        raise TaskError(
            in_short(lines, separator="; ") + f"; write known classes (all of them: {_listing_command(zoo)}), or add "
            "images of them with --data DIR"
        )


def prune_command(config: PruneConfig) -> str:
    """Return the command that repeats a run: options that affect the model and are not the default, and the seed.

    Not options of the machine (`--device`, `--threads`, `--bf16`): the report has what was used in `environment`.
    A class list that came from no file is read from the standard input again.

    Example:
        >>> from pathlib import Path
        >>> prune_command(PruneConfig(Path("my classes.txt"), "photos", precision="fp32"))
        "mvp-edge prune --task 'my classes.txt' --data photos --precision fp32 --seed 0"
    """
    usual, fit = PruneConfig(config.task, config.data), recipe("prune", "sgd")
    listed = STANDARD_INPUT if isinstance(config.task, Task) else config.task
    given: dict[str, Any] = {"task": listed, "data": config.data}
    # The zoo of a base is made again.
    given |= {"zoo": config.zoo} if config.base is None else {"base": config.base, "weights": config.weights}
    given |= {f"max_{name}": f"{value:.12g}" for name, value in (config.budget.given if config.budget else {}).items()}
    given |= {name: value for name, value in asdict(config.vote).items() if value != getattr(usual.vote, name)}
    # The default rate and optimiser depend on the network, the rest does not.
    given |= {"lr": config.fit.lr, "optimizer": config.fit.optimizer}
    for name in ("iterations", "batch_size"):
        usual_value = None if isinstance(config.fit, FitOverrides) else getattr(fit, name)
        given[name] = None if getattr(config.fit, name) == usual_value else getattr(config.fit, name)
    for name in ("schedule", "precision", "input", "max_drop"):
        given[name] = None if getattr(config, name) == getattr(usual, name) else getattr(config, name)
    given |= {"none": config.none, "group_by": config.group_by, "seed": config.seed}
    flags = [(f"--{name.replace('_', '-')}", str(value)) for name, value in given.items() if value is not None]
    flags += [] if config.unknown else [("--no-unknown",)]
    return shlex.join(["mvp-edge", "prune", *(word for flag in flags for word in flag)])


def _listed(config: PruneConfig) -> Task:
    return config.task if isinstance(config.task, Task) else read_task(config.task)


def _listing_command(zoo: str | None) -> str:
    return shlex.join(["mvp-edge", "zoo", "classes", *([] if zoo is None else [zoo])])


def _check_bodies(config: PruneConfig, zoo: BodyZoo) -> None:
    if config.add_to_zoo:
        raise ConfigError(f"--add-to-zoo needs a zoo whose members vote, and {zoo.name} has none; leave it out")


def _check_none(config: PruneConfig) -> None:
    if config.none is not None:
        raise ConfigError("--none needs images of the classes to compare with; add --data DIR, or leave it out")


def _check_votes_without_images(config: PruneConfig) -> None:
    if config.vote.similarity == "leep":
        raise ConfigError(
            "--similarity leep compares images; add --data DIR, or compare names with --similarity wordnet"
        )
    if config.vote.method == "smsp":
        raise ConfigError("--method smsp needs images to train on; add --data DIR, or leave the option out")
    if config.vote.voters == "specialist":
        raise ConfigError("--voters specialist needs images to train on; add --data DIR, or leave the option out")
    if config.add_to_zoo:
        raise ConfigError(
            "--add-to-zoo needs images: without them the model is a member of the zoo already; add --data DIR"
        )


def _unknown(wanted: TaskClass, base: str, known: Task) -> str:
    namesake = known.called(wanted.name)
    if namesake is not None and wanted.synset is not None and namesake.synset is not None:
        return (
            f"class {wanted.name!r} is {wordnet.describe(wanted.synset)} in the class list, but {wanted.name!r} of "
            f"{base} is {wordnet.describe(namesake.synset)}"
        )
    near = wordnet.nearest_classes(wanted, known, 3)
    return f"class {wanted.name!r} is unknown to {base}" + (f" (nearest: {', '.join(near)})" if near else "")
