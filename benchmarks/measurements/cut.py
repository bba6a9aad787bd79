"""What a network cut to a budget is worth with photographs, beside the best ready-made body within the budget.

    python -m benchmarks cut --data clothing=DIR --max-macs 22.8 --max-macs 45 [--shots 20] [--tasks 20]

Data and tasks are those of `own-photographs`. Where `prune` delivers a network that was cut, both learn from the same
photographs, and the test images only tell how good they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.command import Script, log
from benchmarks.measurements.own_photographs import random_tasks, trial
from mvp_edge.config import Budget, PruneConfig
from mvp_edge.core.errors import BudgetError, ConfigError
from mvp_edge.core.progress import SilentProgress
from mvp_edge.core.streams import rng
from mvp_edge.data import DataSource, ImageSet, open_source
from mvp_edge.names.base_classes import Resolution
from mvp_edge.prune.body_size import choose
from mvp_edge.prune.heads import Network
from mvp_edge.prune.learned_file import delivery_of
from mvp_edge.prune.network_size import CUTTING, TRIED, TRIED_EACH, request_of, within_budget
from mvp_edge.zoo.bodies import BodyZoo, open_bodies


def networks(
    zoo: BodyZoo, source: DataSource, resolution: Resolution, shots: int, config: PruneConfig
) -> dict[str, Network]:
    """Return what `prune` takes with so many photographs of each name, and the best body within the budget, if any."""
    names = resolution.task.names

    def some_at(pixels: int) -> ImageSet:
        images = source.load(names, "train", (pixels, pixels))
        return images.at_most(min(shots, max(TRIED_EACH, TRIED // len(names))), rng(config.seed, "shots"))

    assert config.budget is not None
    enough = some_at if sum(min(shots, source.count([n], "train")) for n in names) >= CUTTING else None
    found = {"taken": within_budget(config, config.budget, zoo, resolution, enough, SilentProgress())}
    try:
        ready = choose(request_of(zoo, resolution), config, delivery_of(zoo, resolution, config))[0]
        return found | {"ready": Network.of(zoo, ready)}
    except BudgetError:
        return found


def main(argv: Sequence[str]) -> None:
    """Compare on random tasks of each data set; append a record for each task and budget."""
    script = Script("cut", __doc__)
    script.add("--data", action="append", required=True, metavar="NAME=DIR")
    script.add("--max-macs", action="append", type=float, required=True, metavar="MILLIONS")
    script.add("--shots", default="20")
    script.add("--tasks", type=int, default=20)
    args = script.parse(argv)
    torch.set_num_threads(1)
    zoo = open_bodies(None)
    if zoo is None:
        raise ConfigError("the bundled zoo has no bodies")
    for text in args.data:
        name, _, directory = text.partition("=")
        source = open_source(directory)
        for task, resolution in enumerate(random_tasks(name, source.classes, zoo, args.tasks)):
            for macs in args.max_macs:
                for shots in map(int, args.shots.split(",")):
                    about = {
                        "data": name, "task": task, "names": list(resolution.task.names), "max_mmacs": macs,
                        "shots": shots,
                    }  # fmt: skip
                    if about in script.done():
                        continue
                    config = PruneConfig(Path("classes.txt"), source.name, budget=Budget(macs=1e6 * macs), seed=task)
                    found = dict[str, float | str]()
                    tried = networks(zoo, source, resolution, shots, config)
                    for role, network in tried.items():
                        if role == "ready" and tried["taken"].cut_on is None:
                            continue  # it is the one that is taken
                        *_, told = trial(zoo, network, source, resolution, shots, replace(config, budget=None))
                        found |= {role: network.body.id, f"{role}_keep": round(network.body.keep, 4)}
                        found |= {f"{role}_{k}": round(float(told[k]), 2) for k in ("head", "delivered", "seconds")}
                    script.record(about, found)
                    log.info("%s task %d, %g million: %s", name, task, macs, found)
