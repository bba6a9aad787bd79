"""`mvp-edge zoo push`, `fetch`, `merge` and `trim`: zoos that are shared, and zoos made of zoos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Json, Quiet, Seed, ZooArgument, example, output_option, print_json
from .progress import STARTING, shown
from .push import ZOO_EPILOG, push_zoo

Out = Annotated[Path, output_option("--out", metavar="DIR", help="Directory of the new zoo.")]


def register(zoo: typer.Typer) -> None:
    """Add the commands to `mvp-edge zoo`."""
    zoo.command("push", epilog=ZOO_EPILOG)(push_zoo)
    zoo.command("fetch", epilog=example("zoo fetch hf://ORG/NAME"))(fetch)
    zoo.command("merge", epilog=example("zoo merge animals/ hf://ORG/NAME --out all/"))(merge)
    zoo.command("trim", epilog=example("zoo trim animals/ --members 20 --out few/"))(trim)


def fetch(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Address of a published zoo.")],
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fetch all files of a published zoo in its newest version, for work without a network."""
    from mvp_edge.zoo.mirror import fetch_all, file_count, mirror, origin

    with shown(quiet=quiet) as progress:
        path = mirror(address, newest=True)
        with progress.stage("Fetching", file_count(path)) as stage:
            fetch_all(path, stage)
    value = {"zoo": origin(path), "path": str(path), "files": file_count(path)}
    print_json(value) if json else typer.echo(f"{value['zoo']} is in {value['path']}")


def merge(
    zoos: Annotated[list[str], typer.Argument(metavar="ZOO ZOO ...", help="Zoos of one base, as for --zoo.")],
    out: Out,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a zoo with the members of several zoos of one base."""
    if len(zoos) < 2:
        raise typer.BadParameter("give two zoos or more")
    with shown(quiet=quiet) as progress:
        with progress.stage(STARTING):
            from mvp_edge.build import curation
            from mvp_edge.zoo.store import open_zoo
        made = curation.merge([open_zoo(name) for name in zoos], out, progress)
    if json:
        print_json({"zoo": made.summary()})
    else:
        typer.echo(f"zoo {made.name} in {made.path} has {len(made.ids())} members")


def trim(
    name: ZooArgument,
    members: Annotated[int, typer.Option("--members", min=0, help="How many members to keep.")],
    out: Out,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a zoo with the generalists of another, and the specialists that ranking chooses most for random lists."""
    with shown(quiet=quiet) as progress:
        with progress.stage(STARTING):
            from mvp_edge.build import curation
            from mvp_edge.zoo.store import open_zoo
        made = curation.trim(open_zoo(name), members, out, seed, progress)
    before, after = made.similarity
    if json:
        similarity = {"before": round(before, 4), "after": round(after, 4)}
        print_json({"zoo": made.zoo.summary(), "dropped": list(made.dropped), "similarity": similarity})
    else:
        typer.echo(
            f"zoo {made.zoo.name} in {made.zoo.path} has {members} members, {len(made.dropped)} fewer; the nearest "
            f"members are now {after:.3f} similar to random lists, before {before:.3f} (WordNet, at most 1)"
        )
