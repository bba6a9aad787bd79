"""`mvp-edge zoo`: inspect and extend a zoo of pruned models; its other commands are in `zoo_build` and `zoo_share`."""

from __future__ import annotations

from typing import Annotated

import typer

from mvp_edge.core.errors import ZooError

from . import zoo_build, zoo_share
from .options import WHICH, Json, Result, Threads, ZooArgument, ZooName, example, print_json

WAYS = 5  # classes of the lists for which `zoo show` shows what is expected of a body

zoo = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

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


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    app.add_typer(zoo, name="zoo", help="Make, extend and inspect a zoo of pruned models.")


zoo_build.register(zoo)
zoo_share.register(zoo)


@zoo.command("add", epilog=example("zoo add out/ --zoo animals/"))
def add(
    result: Result,
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


@zoo.command("list", epilog=example("zoo list --zoo animals/ --json"))
def list_zoos(
    extra: Annotated[
        list[str] | None,
        typer.Option("--zoo", metavar="DIR|ADDRESS", help="Also list this zoo; repeat for more."),
    ] = None,
    json: Json = False,
) -> None:
    """List the bundled zoos."""
    from mvp_edge.zoo.bodies import open_bodies
    from mvp_edge.zoo.catalogue import summary
    from mvp_edge.zoo.location import bundled_zoos

    zoos = [
        summary(name) | {"bodies": len(zoo.bodies) if (zoo := open_bodies(name)) else 0}
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
    from mvp_edge.zoo.catalogue import read_known_classes
    from mvp_edge.zoo.location import read_zoo_file

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
