"""`mvp-edge zoo`: make, grow and inspect a zoo of pruned models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mvp_edge.config import BuildConfig, Embedding, FitOverrides, Importance, Parent, Pruner, VoteConfig
from mvp_edge.core.errors import ZooError
from mvp_edge.training.recipes import recipe

from .options import (
    INPUT,
    TRAINING,
    BatchSize,
    Bf16,
    ChannelMultiple,
    Data,
    Device,
    Json,
    Keep,
    Optimizer,
    Private,
    Quiet,
    Seed,
    Target,
    Threads,
    ZooName,
    checked,
    print_json,
    rate,
)
from .progress import STARTING, shown

if TYPE_CHECKING:
    import torch

    from mvp_edge.core.progress import Progress
    from mvp_edge.data import DataSource
    from mvp_edge.zoo.store import Zoo

DEFAULT = BuildConfig()
SPECIALISTS, GENERALIST = recipe("specialist", "sgd"), recipe("generalist", "sgd")
MEMBERS = "Members"
WAYS = 5  # classes of the lists for which `zoo show` shows what is expected of a body

zoo = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

WHICH = "A bundled zoo, a directory, or the address of a published one."
ZooArgument = Annotated[str, typer.Argument(metavar="NAME|DIR|ADDRESS", help=WHICH)]

CLASSES_EPILOG = """
[bold]Examples[/]

mvp-edge zoo classes

mvp-edge zoo classes animals/ --json
"""
SHOW_EPILOG = """
[bold]Examples[/]

mvp-edge zoo show animals/

mvp-edge zoo show animals/ 3f2a91c0b7de-51c4e0
"""
PUSH_EPILOG = """
[bold]Examples[/]

mvp-edge zoo push animals/ hf://ORG/NAME

mvp-edge zoo push animals/ s3://BUCKET/animals

mvp-edge zoo push animals/ public/animals

The token of `hf auth login`, and your credentials for the store, are used.
"""
BUILD_EPILOG = """
[bold]Examples[/]

mvp-edge zoo build animals/ --base base.safetensors --data photos/ --members 100

mvp-edge zoo build mobile/ --base timm:mobilenetv2_100 --data photos/ --channel-multiple 1 --generalist 0.1

Run the same command again after an interruption, or several times at once: finished members are kept.
"""


def example(words: str) -> str:
    """Return an epilog with an example."""
    return f"[bold]Example[/]\n\nmvp-edge {words}"


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    app.add_typer(zoo, name="zoo", help="Make, extend and inspect a zoo of pruned models.")


@zoo.command("build", epilog=BUILD_EPILOG)
def build(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the zoo, new or existing.")],
    data: Data,
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="NAME|FILE",
            help="timm:NAME, a .safetensors file, or another zoo, whose base is taken. Default: the zoo's own base.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", metavar="FILE", help="Local file with the weights of --base.", rich_help_panel=INPUT),
    ] = None,
    embedding: Annotated[
        Embedding | None,
        typer.Option(
            "--embedding",
            help="For a new zoo of transformers: whole = prune heads and hidden nodes; pruned = also the shared width.",
            show_default="whole",
            rich_help_panel=INPUT,
        ),
    ] = None,
    members: Annotated[
        int,
        typer.Option(
            "--members",
            help="Number of specialists (members for a few classes), existing ones included.",
            rich_help_panel=MEMBERS,
        ),
    ] = DEFAULT.members,
    ways: Annotated[
        int, typer.Option("--ways", help="Classes per specialist.", rich_help_panel=MEMBERS)
    ] = DEFAULT.ways,
    keep: Keep = DEFAULT.schedule.keep,
    channel_multiple: ChannelMultiple = DEFAULT.schedule.channel_multiple,
    method: Annotated[
        Pruner,
        typer.Option(
            "--method",
            help="How to prune. ifp: filters, step by step. ahnp: attention heads and nodes. auto: by the base.",
            rich_help_panel=MEMBERS,
        ),
    ] = DEFAULT.method,
    importance: Annotated[
        Importance, typer.Option("--importance", help="ifp: score of the units.", rich_help_panel=MEMBERS)
    ] = DEFAULT.schedule.importance,
    every: Annotated[
        int,
        typer.Option(
            "--every",
            help="ifp: steps between two pruning events; 0 = a hundredth of all steps.",
            rich_help_panel=MEMBERS,
        ),
    ] = DEFAULT.schedule.every,
    sparsity: Annotated[
        float, typer.Option("--sparsity", help="ahnp: weight of the scores' L1 norm.", rich_help_panel=MEMBERS)
    ] = DEFAULT.scores.sparsity,
    threshold: Annotated[
        float, typer.Option("--threshold", help="ahnp: units with a lower score are pruned.", rich_help_panel=MEMBERS)
    ] = DEFAULT.scores.threshold,
    generalist: Annotated[
        list[float] | None,
        typer.Option(
            "--generalist",
            metavar="KEEP",
            help="First add a generalist (a member for all classes) that keeps this fraction; repeat for more.",
            rich_help_panel=MEMBERS,
        ),
    ] = None,
    parent: Annotated[
        Parent,
        typer.Option(
            "--parent",
            help="What members are pruned from: the next larger generalist, or always the base.",
            rich_help_panel=MEMBERS,
        ),
    ] = DEFAULT.parent,
    iterations: Annotated[
        int, typer.Option("--iterations", help="Training steps of a specialist.", rich_help_panel=TRAINING)
    ] = SPECIALISTS.iterations,
    optimizer: Optimizer = None,
    batch_size: BatchSize = SPECIALISTS.batch_size,
    lr: Annotated[float | None, rate("specialist", " of specialists")] = None,
    distill: Annotated[
        float,
        typer.Option("--distill", help="Weight of distillation for specialists, in [0, 1].", rich_help_panel=TRAINING),
    ] = SPECIALISTS.distill,
    generalist_iterations: Annotated[
        int, typer.Option("--generalist-iterations", help="Training steps of a generalist.", rich_help_panel=TRAINING)
    ] = GENERALIST.iterations,
    device: Device = "auto",
    threads: Threads = None,
    bf16: Bf16 = "auto",
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Prune the base model for random class lists until the zoo has the requested members."""
    checked(lambda: [VoteConfig(keep=each, channel_multiple=channel_multiple) for each in generalist or []])
    schedule = checked(
        lambda: replace(
            DEFAULT.schedule, keep=keep, channel_multiple=channel_multiple, importance=importance, every=every
        )
    )
    fit = checked(
        lambda: FitOverrides(iterations=iterations, batch_size=batch_size, lr=lr, distill=distill, optimizer=optimizer)
    )
    generalist_fit = checked(
        lambda: FitOverrides(iterations=generalist_iterations, batch_size=batch_size, optimizer=optimizer)
    )
    scores = checked(lambda: replace(DEFAULT.scores, sparsity=sparsity, threshold=threshold))
    config = checked(lambda: BuildConfig(members, ways, schedule, fit, generalist_fit, parent, seed, method, scores))
    from mvp_edge.build.members import build_generalists, build_specialists, specialist_tasks, untaught
    from mvp_edge.core.device import resolve_device, use_bf16, use_threads
    from mvp_edge.data import open_source
    from mvp_edge.models.prunable import PrunableModel

    from .tables import warn

    use_threads(threads)
    use_bf16(bf16)
    place = resolve_device(device)
    source = open_source(data)
    try:
        with shown(quiet=quiet) as progress:
            opened, notes = _open_or_create(directory, base, weights, embedding, source, place, progress)
            prunable = PrunableModel.of(opened.base, opened.load_base())
            specialist_tasks(prunable, source, config)  # impossible settings fail before hours of training
            notes = [*notes, *untaught(["specialist", *(["generalist"] if generalist else [])], config, prunable)]
            made = (
                build_generalists(opened, prunable, source, generalist, config, device=place, progress=progress)
                if generalist
                else []
            )
            made += build_specialists(opened, prunable, source, config, device=place, progress=progress)
    except KeyboardInterrupt as e:
        raise KeyboardInterrupt("finished members are kept; run the same command again for the others") from e
    warn(notes)
    summary = opened.summary()
    if json:
        print_json({"zoo": summary, "made": [m.id for m in made]})
    else:
        typer.echo(f"{len(made)} members made; zoo {opened.name} in {opened.path} has {summary['members']}")


def _open_or_create(
    directory: Path,
    base: str | None,
    weights: Path | None,
    embedding: Embedding | None,
    source: DataSource,
    device: torch.device,
    progress: Progress,
) -> tuple[Zoo, list[str]]:
    from mvp_edge.build.members import prepare_zoo
    from mvp_edge.models.bases import load_base
    from mvp_edge.zoo.bodies import open_bodies
    from mvp_edge.zoo.remote import is_address
    from mvp_edge.zoo.store import open_zoo

    exists = (directory / "zoo.json").exists()
    if exists and open_bodies(str(directory.resolve())) is not None:
        raise ZooError(
            f"{directory} is a zoo of ready-made bodies, which is not built by pruning; choose another directory, and "
            f"take its base with --base {directory}"
        )
    if base is None and weights is None and exists:
        opened = open_zoo(str(directory.resolve()))
        if embedding not in (None, opened.base.embedding):
            raise ZooError(
                f"{directory} was built with --embedding {opened.base.embedding}; use that, or choose another directory"
            )
        return opened, []
    if base is None and weights is None:
        raise ZooError(f"{directory} is a new zoo, so it needs a base; name one with --base, such as timm:resnet18")
    if base is not None and is_address(base):
        if weights is not None:
            raise ZooError(f"{base} has its own weights, and --weights names others ({weights}); leave --weights out")
        theirs = open_zoo(base)
        found, model = theirs.base, theirs.load_base()
    else:
        found, model = load_base(str(weights)) if base is None else load_base(base, weights)
    found = replace(found, embedding=embedding or found.embedding)
    return prepare_zoo(directory.resolve(), found, model, source, device=device, progress=progress)


@zoo.command("add", epilog=example("zoo add out/ --zoo animals/"))
def add(
    result: Annotated[Path, typer.Argument(metavar="RESULT_DIR", help="A result of `mvp-edge prune`.")],
    name: ZooName = None,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Add a result of `prune` to a zoo."""
    from mvp_edge.build.adding import add_result
    from mvp_edge.core.device import use_threads
    from mvp_edge.zoo.store import open_zoo

    use_threads(threads)
    opened = open_zoo(name)
    info, added = add_result(opened, result)
    if json:
        print_json({"zoo": opened.name, "id": info.id, "added": added})
    else:
        typer.echo(f"member {info.id} {'added to' if added else 'is in'} zoo {opened.name}")


@zoo.command("push", epilog=PUSH_EPILOG)
def push(
    name: ZooArgument,
    target: Target,
    private: Private = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Publish a zoo with a card, for others to use by its address."""
    with shown(quiet=quiet) as progress:
        with progress.stage(STARTING):
            from mvp_edge.zoo.bodies import open_bodies
            from mvp_edge.zoo.publish import publish_zoo
            from mvp_edge.zoo.store import open_zoo
        address = publish_zoo(open_zoo(name), open_bodies(name), target, private=private, progress=progress)
    print_json({"published": address}) if json else typer.echo(f"published: {address}")


@zoo.command("fetch", epilog=example("zoo fetch hf://ORG/NAME"))
def fetch(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Address of a published zoo.")],
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fetch all files of a published zoo in its newest version, for work without a network."""
    from mvp_edge.zoo.remote import fetch_all, file_count, mirror, origin

    with shown(quiet=quiet) as progress:
        path = mirror(address, newest=True)
        with progress.stage("Fetching", file_count(path)) as stage:
            fetch_all(path, stage)
    value = {"zoo": origin(path), "path": str(path), "files": file_count(path)}
    print_json(value) if json else typer.echo(f"{value['zoo']} is in {value['path']}")


@zoo.command("list", epilog=example("zoo list --zoo animals/ --json"))
def list_zoos(
    extra: Annotated[
        list[str] | None,
        typer.Option("--zoo", metavar="DIR", help="Also list the zoo in this directory; repeat for more."),
    ] = None,
    json: Json = False,
) -> None:
    """List the bundled zoos."""
    from mvp_edge.zoo.bodies import open_bodies
    from mvp_edge.zoo.location import bundled_zoos
    from mvp_edge.zoo.store import open_zoo

    zoos = [
        open_zoo(name).summary() | {"bodies": len(zoo.bodies) if (zoo := open_bodies(name)) else 0}
        for name in [*bundled_zoos(), *(extra or [])]
    ]
    if json:
        print_json({"zoos": zoos})
    else:
        from .tables import show_zoos

        show_zoos(zoos)


@zoo.command("classes", epilog=CLASSES_EPILOG)
def classes(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME|DIR|ADDRESS", help=f"{WHICH} Default: the bundled zoo.")
    ] = None,
    json: Json = False,
) -> None:
    """List the classes of a zoo's base and generalists, one name per line, as in a class list."""
    from mvp_edge.names.wordnet import resolve_names
    from mvp_edge.zoo.location import read_known_classes, read_zoo_file

    base, known = read_known_classes(name)
    known = resolve_names(known).names  # words for the numbers of ImageNet's classes
    if json:
        print_json({"zoo": read_zoo_file(name)[1]["name"], "base": base, "classes": list(known)})
    else:
        for each in known:
            typer.echo(each)


@zoo.command("show", epilog=SHOW_EPILOG)
def show(
    name: ZooArgument,
    member: Annotated[str | None, typer.Argument(metavar="MEMBER|BODY", help="Show this member or body only.")] = None,
    json: Json = False,
) -> None:
    """Show the members and ready-made bodies of a zoo, or one of them."""
    from mvp_edge.zoo.bodies import open_bodies
    from mvp_edge.zoo.store import open_zoo

    from .tables import show_bodies, show_body, show_member, show_members, show_zoos

    opened, ready = open_zoo(name), open_bodies(name)
    if ready is not None and member is not None and (body := ready.body(member)) is not None:
        return print_json(body.to_json()) if json else show_body(body.to_json())
    if member is not None:
        value = opened.info(member).to_json()
        return print_json(value) if json else show_member(value)
    members = [
        {
            "id": i.id,
            "classes": list(i.task.names),
            "kind": i.kind,
            "top1": i.top1,
            "achieved_keep": round(i.plan.achieved, 4),
            "method": i.recipe.get("method"),
        }
        for i in opened.infos()
    ]
    bodies = [
        {"id": b.id, "pixels": b.pixels, "macs": b.macs, "params": b.params, "expected_top1": b.expected_top1(WAYS)}
        for b in ((*ready.bodies, *ready.forms) if ready else ())
    ]
    # In `zoo list`, "members" and "bodies" are their numbers.
    summary = opened.summary()
    if json:
        return print_json({**summary, "members": members, "bodies": bodies})
    show_zoos([{**summary, "bodies": len(ready.bodies) if ready else 0}])
    if bodies:
        show_bodies(bodies, f"top-1 of {WAYS}")
    return show_members(members) if members or not bodies else None


@zoo.command("verify", epilog=example("zoo verify animals/"))
def verify(name: ZooArgument, json: Json = False) -> None:
    """Check every file of a zoo against its checksum."""
    from mvp_edge.zoo.bodies import open_bodies
    from mvp_edge.zoo.store import open_zoo

    opened, ready = open_zoo(name), open_bodies(name)
    problems = opened.verify() + (ready.verify() if ready else [])
    members, bodies = len(opened.ids()), len(ready.bodies) if ready else 0
    if json:
        print_json({"zoo": opened.name, "members": members, "bodies": bodies, "problems": problems})
    else:
        checked = f"{members} members" + (f", {bodies} bodies" if bodies else "")
        for problem in problems or [f"zoo {opened.name}: {checked} and the base model are sound"]:
            typer.echo(problem)
    if problems:
        found = "1 problem was" if len(problems) == 1 else f"{len(problems)} problems were"
        raise ZooError(f"{found} found in zoo {opened.name} ({opened.path}); see above")
