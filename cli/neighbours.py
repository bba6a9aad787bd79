"""`mvp-edge neighbours`: the zoo members nearest to a class list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mvp_edge.config import PruneConfig, VoteConfig
from mvp_edge.core.errors import ConfigError, ZooError

from .options import (
    NO_VOTE,
    Device,
    Json,
    OptionalData,
    Quiet,
    Seed,
    Similarity,
    Task,
    Threads,
    Voters,
    ZooName,
    checked,
    idle,
    print_json,
    typed,
    voting_option,
)
from .progress import STARTING, shown

if TYPE_CHECKING:
    import mvp_edge.names.tasks
    from mvp_edge.core.progress import Progress
    from mvp_edge.data import ImageSet
    from mvp_edge.models.prunable import PrunableModel
    from mvp_edge.voting.neighbours import Neighbour
    from mvp_edge.zoo.bodies import BodyZoo
    from mvp_edge.zoo.store import Zoo

DEFAULT = VoteConfig()

EPILOG = """
[bold]Examples[/]

mvp-edge neighbours --task classes.txt --zoo my-zoo/ --similarity wordnet

mvp-edge neighbours --task classes.txt --zoo my-zoo/ --data photos/ --top 3 --json
"""


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("neighbours", epilog=EPILOG)(neighbours)


def neighbours(
    context: typer.Context,
    task: Task,
    data: OptionalData = None,
    zoo: ZooName = None,
    similarity: Similarity = DEFAULT.similarity,
    voters: Voters = DEFAULT.voters,
    top: Annotated[
        int, voting_option("--top", min=1, help="Number of members to show; one that votes alone is always shown.")
    ] = 10,
    device: Device = "auto",
    threads: Threads = None,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show the zoo members nearest to a class list, by images (LEEP) or by names (WordNet)."""
    config = checked(lambda: replace(DEFAULT, similarity=similarity, voters=voters))
    if similarity == "leep" and data is None:
        raise ConfigError("--similarity leep needs images; add --data DIR, or use --similarity wordnet")
    from mvp_edge.names import wordnet
    from mvp_edge.names.tasks import read_task
    from mvp_edge.zoo.bodies import open_bodies

    given = read_task(task)  # before the slow import of torch
    if data is None and (ready := open_bodies(zoo)) is not None:
        flags = typed(context, "similarity", "voters", "top", "device", "threads", "seed")
        _show_bodies(PruneConfig(given, None, zoo=zoo), ready, [idle(NO_VOTE, flags)] if flags else [], json=json)
        return
    target = wordnet.resolve(given)
    with shown(quiet=quiet) as progress:
        with progress.stage(STARTING):
            from mvp_edge.core.device import resolve_device, use_threads
            from mvp_edge.models.prunable import PrunableModel
            from mvp_edge.prune.voted import far_warning
            from mvp_edge.voting.neighbours import PREFILTER, LeepInputs, rank, similarity_used
            from mvp_edge.zoo.store import open_zoo

        use_threads(threads)
        place = resolve_device(device)
        opened = open_zoo(zoo)
        if not opened.ids() and open_bodies(zoo) is not None:
            raise ZooError(f"zoo {opened.name} has bodies only, which do not vote; leave --data out to see them")
        images = None if similarity == "wordnet" or data is None else _images(data, target, opened, progress)
        prunable = PrunableModel.of(opened.base, opened.load_base())
        with progress.stage("Ranking the zoo", None) as stage:
            inputs = None if images is None else LeepInputs(prunable, images, place, seed)
            prefilter = PREFILTER if images is not None else max(PREFILTER, top)
            found = rank(opened, target, config, inputs, stage=stage, prefilter=prefilter)
    used = similarity_used(config, images)
    warnings = guesses(wordnet.ambiguous(given)) if used == "wordnet" else []
    if warning := far_warning(found, target, used):
        warnings.append(warning)
    voting, problems = _voters(found, prunable, target, config, data)
    alone = voting if len(voting) == 1 and voting[0] not in found[:top] else []  # decides alone, at any distance
    result: dict[str, Any] = {
        "task": {"classes": list(target.names), "synsets": [c.synset for c in target.classes], "id": target.id},
        "zoo": opened.name,
        "similarity": used,
        "neighbours": [_row(n, votes=n in voting) for n in [*alone, *found[:top]]],
        "voters": [n.info.id for n in voting],
        "warnings": [*warnings, *problems],
    }
    from .tables import show_neighbours, warn

    if json:
        print_json(result)
    else:
        show_neighbours(result)
    warn(result["warnings"])


def _row(neighbour: Neighbour, *, votes: bool) -> dict[str, Any]:
    from mvp_edge.prune.accuracy import selecting_keep

    info = neighbour.info
    return {
        "id": info.id,
        "classes": list(info.task.names),
        "similarity": round(neighbour.similarity, 4),
        "kind": info.kind,
        "keep": selecting_keep(info),
        "top1": info.top1,
        "votes": votes,
    }


def _show_bodies(config: PruneConfig, zoo: BodyZoo, notes: Sequence[str], *, json: bool) -> None:
    """Show what is expected of the ready-made bodies of a zoo, and which one is delivered."""
    from mvp_edge.prune.body_size import by_names, choose
    from mvp_edge.prune.expected import read_request

    from .tables import show_bodies, warn

    request = read_request(config, zoo)
    (chosen, expected), resolution = choose(request, config, by_names(request, config)), request.resolution
    bodies = [
        {"id": b.id, "pixels": b.pixels, "macs": b.macs, "params": b.params, "expected_top1": e.top1}
        for b, e in request.expected
    ]
    warnings = [*resolution.notes, *resolution.warnings, *notes]
    if json:
        synsets = [n.synset for n in resolution.named]
        named = {"classes": list(resolution.task.names), "synsets": synsets, "id": resolution.task.id}
        source = {"source": expected.source, "n": expected.n}
        result = {"task": named, "zoo": zoo.name, "bodies": bodies, "delivered": chosen.id, "estimate": source}
        print_json(result | {"warnings": warnings})
    else:
        show_bodies(bodies, "top-1", chosen.id)
        typer.echo(expected.source)
    warn(warnings)


def guesses(ambiguous: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a warning for each name with several meanings; the chosen one comes first."""
    warnings = []
    for name, senses in ambiguous.items():
        (taken, meaning), (other, another) = (sense.split(": ", 1) for sense in senses[:2])
        warnings.append(
            f"{name!r} is read as {taken} ({meaning}); for another meaning write, for example, "
            f"`{name} = {other}` ({another}) in the class list"
        )
    return warnings


def _voters(
    ranked: Sequence[Neighbour],
    prunable: PrunableModel,
    task: mvp_edge.names.tasks.Task,
    config: VoteConfig,
    data: str | None,
) -> tuple[list[Neighbour], list[str]]:
    """Return the members that vote in `prune` with these options at its default size, or a warning if none can."""
    from mvp_edge.voting.neighbours import ready_made, select_voters

    if data is not None:
        return select_voters(ranked, prunable, task, config), []
    try:
        return [ready_made(ranked, task, config.keep)], []
    except ZooError as e:
        return [], [f"no member can vote in `prune`: {e}"]


def _images(data: str, task: mvp_edge.names.tasks.Task, zoo: Zoo, progress: Progress) -> ImageSet:
    from mvp_edge.data import open_source

    source = open_source(data)
    with progress.stage("Reading images", source.count(task.names, "train")) as stage:
        return source.load(task.names, "train", zoo.base.input_size, stage.advance)
