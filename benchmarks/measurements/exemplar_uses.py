"""Are generated images good for anything where there are no real ones?

    python -m benchmarks exemplar-uses --data DIR [--zoo DIR] [--tasks 5]

Two uses on lists that are not in the zoo. Norm statistics: the mean of five specialists, its norms re-estimated on
exemplars or on real images; its head is fitted to real images, so that only the norms differ, or to exemplars, so that
no real image is used but for ranking. Fine-tuning: the generalist as it is, and trained on exemplars alone, distilled
from the restricted base model. Scores are on the test split and on a fifth of the training split; the latter is what
choices are made by, though the zoo has seen it.
"""

from __future__ import annotations

import argparse
import copy
import logging
from dataclasses import replace

import torch
from torch import nn

from benchmarks import records
from benchmarks.methods import SPECIALISTS
from benchmarks.setting import load, target_tasks
from mvp_edge.config import FitConfig, VoteConfig
from mvp_edge.core.device import on_device, resolve_device
from mvp_edge.core.progress import SilentProgress
from mvp_edge.core.streams import rng
from mvp_edge.data import ImageSet, open_source
from mvp_edge.models.architectures import set_head
from mvp_edge.models.heads import ridge_head
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.models.slicing import sliced_copy
from mvp_edge.names.tasks import Task
from mvp_edge.prune.cascade import ask
from mvp_edge.pruners import target_counts
from mvp_edge.training.loop import BatchSource, accuracy, fit, make_optimizer, predict, reestimate_norms
from mvp_edge.voting.assembly import assemble, vote
from mvp_edge.voting.averaging import Voter, average
from mvp_edge.voting.neighbours import rank
from mvp_edge.voting.voters import select_voters
from mvp_edge.zoo.exemplars import Exemplars
from mvp_edge.zoo.store import Zoo, open_zoo

log = logging.getLogger("benchmarks.measurements.exemplar_uses")
GENERALIST = VoteConfig(similarity="wordnet")  # `auto` takes the generalist of the size asked for
TUNING = FitConfig(batch_size=64, warmup=0.1, distill=0.9)
RATES = (0.001, 0.003, 0.01)

Scores = dict[str, dict[str, float]]


class Judge:
    """Scores networks of one task on real images."""

    def __init__(self, prunable: PrunableModel, sets: dict[str, ImageSet], device: torch.device) -> None:
        self._prunable, self._sets, self._device = prunable, sets, device

    def __call__(self, model: nn.Module) -> dict[str, float]:
        return {
            name: round(accuracy(predict(model, data.images, self._prunable.base, self._device), data).top1, 2)
            for name, data in self._sets.items()
        }


def norm_scores(
    zoo: Zoo, prunable: PrunableModel, task: Task, real: ImageSet, made: Exemplars, judge: Judge, device: torch.device
) -> Scores:
    """Score the mean of the specialist voters by what its norms are re-estimated on and its head is fitted to."""
    ranked = rank(zoo, prunable, task, real, SPECIALISTS, device=device, seed=0, exclude=frozenset([task.id]))
    plan, voters = vote(
        zoo,
        prunable,
        select_voters(ranked, prunable, task, SPECIALISTS),
        SPECIALISTS,
        _counts(prunable, SPECIALISTS),
        0,
    )
    mean = sliced_copy(prunable.model, prunable.table, plan)
    ballots = [Voter(v.info.plan, prunable.headless(v.state)) for v in voters]
    mean.load_state_dict(average(prunable.table, plan, mean.state_dict(), ballots))
    mean = on_device(mean, device).eval()
    own = made.load(task.names)
    few = real.at_most(len(own) // len(task.names), rng(0, "few"))
    statistics = {
        "voters' mean": None,
        "exemplars of the task": own.images,
        "exemplars of all classes": made.images,
        "as many real images": few.images,
        "all real images": real.images,
    }
    scores: Scores = {}
    for name, images in statistics.items():
        model = copy.deepcopy(mean)
        if images is not None:
            reestimate_norms(model, images, prunable.base, device)
        for source, data in {"real": real, "exemplars": own}.items():
            set_head(model, ridge_head(model, data, prunable.base, device).to(device))
            scores[f"norms: {name}, head: {source}"] = judge(model)
    return scores


def tuning_scores(
    zoo: Zoo, prunable: PrunableModel, task: Task, real: ImageSet, made: Exemplars, judge: Judge, device: torch.device
) -> Scores:
    """Score the generalist as it is and fine-tuned on exemplars of the task alone."""
    ranked = rank(zoo, None, task, None, GENERALIST, device=device, seed=0)
    plan, voters = vote(
        zoo, prunable, select_voters(ranked, prunable, task, GENERALIST), GENERALIST, _counts(prunable, GENERALIST), 0
    )
    own = made.load(task.names)
    start = assemble(prunable, plan, voters, task, None, device=device)
    scores: Scores = {"generalist as it is": judge(start)}
    told = ask(prunable, task, own, device, SilentProgress())
    teacher = None if told is None else told[0]
    for rate in RATES:
        model, config = copy.deepcopy(start), replace(TUNING, lr=rate)
        source = BatchSource(own, prunable.base, config, device, 0, teacher)
        fit(model, source, config, optimizer=make_optimizer(model, config))
        scores[f"fine-tuned on exemplars, rate {rate}"] = judge(model)
    return scores


def _counts(prunable: PrunableModel, config: VoteConfig) -> dict[str, int]:
    return target_counts(prunable.table, config.keep, config.channel_multiple)


def main() -> None:
    """Append a record for each task that has none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--zoo")
    parser.add_argument("--exemplars-of", help="zoo that the exemplars are taken from, if it is not the same")
    parser.add_argument("--tasks", type=int, default=5)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    device = resolve_device(args.device)
    zoo, source = open_zoo(args.zoo), open_source(args.data)
    made = open_zoo(args.exemplars_of or args.zoo).exemplars()
    if made is None:
        raise SystemExit(f"zoo {zoo.name} has no exemplars; make them with: mvp-edge zoo exemplars {zoo.name}")
    prunable = PrunableModel.of(zoo.base, zoo.load_base())
    done = {(r["config"]["task"], str(r["config"]["recipe"])) for r in records.read("exemplar-uses")}
    for task in target_tasks(zoo, source.classes, 5, args.tasks):
        if (task.id, str(made.recipe)) in done:
            continue
        real, held_out = load(source, task, zoo.base.input_size, "held-out")
        test = source.load(task.names, "test", zoo.base.input_size)
        judge = Judge(prunable, {"test": test, "held-out": held_out}, device)
        given = (zoo, prunable, task, real, made, judge, device)
        result = norm_scores(*given) | tuning_scores(*given)
        config = {
            "task": task.id, "classes": task.names, "base_sha256": zoo.base.sha256,
            "exemplars_base_sha256": made.base_sha256, "members": len(zoo.ids()),
            "recipe": made.recipe,
        }  # fmt: skip
        records.append("exemplar-uses", config, result, device)
        for name, scores in result.items():
            log.info("%s: %s %s", ",".join(task.names), name, scores)


if __name__ == "__main__":
    main()
