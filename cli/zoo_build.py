"""`mvp-edge zoo build`, `plan` and `make`: the members of a zoo, made here or on an engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mvp_edge.config import BuildConfig, Embedding, FitOverrides, Importance, Launcher, Parent, Pruner, VoteConfig
from mvp_edge.core.errors import ZooError
from mvp_edge.core.output import check_local
from mvp_edge.core.places import resolved
from mvp_edge.training.recipes import recipe

from .options import (
    BatchSize,
    Bf16,
    ChannelMultiple,
    Data,
    Device,
    Json,
    Keep,
    Optimizer,
    Quiet,
    Seed,
    Threads,
    Weights,
    checked,
    input_option,
    panel,
    print_json,
    rate,
    training_option,
)
from .progress import STARTING, shown

if TYPE_CHECKING:
    import torch

    from mvp_edge.build.jobs import Job
    from mvp_edge.build.launch import Resources
    from mvp_edge.core.progress import Progress
    from mvp_edge.data import DataSource
    from mvp_edge.models.prunable import PrunableModel
    from mvp_edge.zoo.store import Zoo

PLAN = "Write the jobs of a build as JSON Lines, for `zoo make` on any scheduler; the options are those of `build`."
DEFAULT = BuildConfig()
SPECIALISTS, GENERALIST = recipe("specialist", "sgd"), recipe("generalist", "sgd")
member_option, engine_option = panel("Members"), panel("Engine")

BUILD_EPILOG = """
[bold]Examples[/]

mvp-edge zoo build animals/ --base base.safetensors --data photos/ --members 100

mvp-edge zoo build mobile/ --base timm:mobilenetv2_100 --data photos/ --channel-multiple 1 --generalist 0.1

mvp-edge zoo build animals/ --base base.safetensors --data photos/ --launcher ray --cpus-per-member 2

Run the same command again after an interruption, or several times at once: finished members are kept.
"""
PLAN_EPILOG = """
[bold]Examples[/]

mvp-edge zoo plan animals/ --base base.safetensors --data photos/ --members 100 > jobs.jsonl

mvp-edge zoo make jobs.jsonl --job 7

Job N may start when those in its `after` are done. A job that is done already ends at once.
"""


def register(zoo: typer.Typer) -> None:
    """Add the commands to `mvp-edge zoo`."""
    zoo.command("build", epilog=BUILD_EPILOG)(build)
    zoo.command("plan", epilog=PLAN_EPILOG, help=PLAN)(build)  # the same options
    zoo.command("make", epilog=PLAN_EPILOG)(make)


def build(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the zoo, new or existing.")],
    data: Data,
    base: Annotated[
        str | None,
        input_option(
            "--base",
            metavar="NAME|FILE",
            help="timm:NAME, a .safetensors file, or another zoo, whose base is taken. Default: the zoo's own base.",
        ),
    ] = None,
    weights: Weights = None,
    embedding: Annotated[
        Embedding | None,
        input_option(
            "--embedding",
            help="For a new zoo of transformers: whole = prune heads and hidden nodes; pruned = also the shared width.",
            show_default="whole",
        ),
    ] = None,
    members: Annotated[
        int,
        member_option("--members", help="Number of specialists (members for a few classes), existing ones included."),
    ] = DEFAULT.members,
    ways: Annotated[int, member_option("--ways", help="Classes per specialist.")] = DEFAULT.ways,
    keep: Keep = DEFAULT.schedule.keep,
    channel_multiple: ChannelMultiple = DEFAULT.schedule.channel_multiple,
    method: Annotated[
        Pruner,
        member_option(
            "--method",
            help="How to prune. ifp: filters, step by step. ahnp: attention heads and nodes. auto: by the base.",
        ),
    ] = DEFAULT.method,
    importance: Annotated[
        Importance, member_option("--importance", help="ifp: score of the units.")
    ] = DEFAULT.schedule.importance,
    every: Annotated[
        int, member_option("--every", help="ifp: steps between two pruning events; 0 = a hundredth of all steps.")
    ] = DEFAULT.schedule.every,
    sparsity: Annotated[
        float, member_option("--sparsity", help="ahnp: weight of the scores' L1 norm.")
    ] = DEFAULT.scores.sparsity,
    threshold: Annotated[
        float, member_option("--threshold", help="ahnp: units with a lower score are pruned.")
    ] = DEFAULT.scores.threshold,
    generalist: Annotated[
        list[float] | None,
        member_option(
            "--generalist",
            metavar="KEEP",
            help="First add a generalist (a member for all classes) that keeps this fraction; repeat for more.",
        ),
    ] = None,
    parent: Annotated[
        Parent,
        member_option("--parent", help="What members are pruned from: the next larger generalist, or always the base."),
    ] = DEFAULT.parent,
    iterations: Annotated[
        int, training_option("--iterations", help="Training steps of a specialist.")
    ] = SPECIALISTS.iterations,
    optimizer: Optimizer = None,
    batch_size: BatchSize = SPECIALISTS.batch_size,
    lr: Annotated[float | None, rate("specialist", " of specialists")] = None,
    distill: Annotated[
        float, training_option("--distill", help="Weight of distillation for specialists, in [0, 1].")
    ] = SPECIALISTS.distill,
    generalist_iterations: Annotated[
        int, training_option("--generalist-iterations", help="Training steps of a generalist.")
    ] = GENERALIST.iterations,
    device: Device = "auto",
    threads: Threads = None,
    bf16: Bf16 = "auto",
    launcher: Annotated[
        Launcher,
        engine_option(
            "--launcher",
            help="What runs the jobs. ray, slurm: all machines must have this package, and see DIR and the images "
            "under the same paths, on shared storage.",
        ),
    ] = "local",
    cpus_per_member: Annotated[
        int | None,
        engine_option(
            "--cpus-per-member",
            min=1,
            help="CPU cores, and threads, of a job. local: as many processes as cores allow, not one job at a time.",
            show_default="1 on ray and slurm",
        ),
    ] = None,
    members_per_job: Annotated[
        int | None,
        engine_option(
            "--members-per-job",
            min=1,
            help="Members that a job makes one after the other: it starts, and looks at the images, once for all.",
            show_default="1",
        ),
    ] = None,
    gpus_per_member: Annotated[
        float | None, engine_option("--gpus-per-member", min=0, help="ray, slurm: GPUs of a job.")
    ] = None,
    ray_address: Annotated[
        str | None,
        engine_option("--ray-address", metavar="ADDRESS", help="ray: an existing cluster, such as auto or HOST:6379."),
    ] = None,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Prune the base model for random class lists until the zoo has the requested members."""
    check_local(directory, "DIR")
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
    planned = context.info_name == "plan"
    engine = _engine(launcher, cpus_per_member, gpus_per_member, members_per_job, ray_address, threads, planned=planned)
    from mvp_edge.build.members import specialist_tasks, untaught
    from mvp_edge.core.device import Machine
    from mvp_edge.data import open_source
    from mvp_edge.models.prunable import PrunableModel

    from .tables import warn

    place = Machine(device, threads, bf16).take()
    source = open_source(data)
    try:
        with shown(quiet=quiet) as progress:
            opened, notes = _open_or_create(directory, base, weights, embedding, source, place, progress)
            prunable = PrunableModel.of(opened.base, opened.load_base())
            specialist_tasks(prunable, source, config)  # impossible settings fail before hours of training
            notes = [*notes, *untaught(["specialist", *(["generalist"] if generalist else [])], config, prunable)]
            if planned or engine is not None:
                from mvp_edge.build import jobs

                machine = Machine(device, engine.cpus if engine else threads, bf16)
                listed = jobs.plan_jobs(opened.path, _absolute(data), source, generalist or [], config, machine)
            if planned:
                made = []
            elif engine is not None:
                made = _launched(opened, listed, launcher, engine, members_per_job or 1, progress)
            else:
                made = _made_here(opened, prunable, source, generalist or [], config, place, progress)
    except KeyboardInterrupt as e:
        raise KeyboardInterrupt("finished members are kept; run the same command again for the others") from e
    warn(notes)
    if planned:
        typer.echo(jobs.write_jobs(listed), nl=False)
        return
    summary = opened.summary()
    if json:
        print_json({"zoo": summary, "made": made})
    else:
        typer.echo(f"{len(made)} members made; zoo {opened.name} in {opened.path} has {summary['members']}")


def make(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `zoo plan` wrote.")],
    job: Annotated[int, typer.Option("--job", metavar="N", help="Number of the job, from 0.")],
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Do one job of a build that `zoo plan` wrote."""
    with shown(quiet=quiet) as progress:
        with progress.stage(STARTING):
            from mvp_edge.build import jobs
        made = [m.id for m in jobs.make([jobs.read_job(file, job)], progress)]
    print_json({"made": made}) if json else typer.echo(f"job {job}: {made[0] if made else 'done before'}")


def _engine(
    launcher: Launcher,
    cpus: int | None,
    gpus: float | None,
    at_once: int | None,
    ray_address: str | None,
    threads: int | None,
    *,
    planned: bool,
) -> Resources | None:
    """Return what a job takes on an engine; None if members are made one after the other in this process."""
    if planned and (launcher != "local" or (cpus, gpus, at_once, ray_address) != (None,) * 4):
        raise typer.BadParameter("zoo plan runs nothing, so options of the engine have no effect; leave them out")
    if ray_address is not None and launcher != "ray":
        raise typer.BadParameter("--ray-address needs --launcher ray")
    if gpus is not None and launcher == "local":
        raise typer.BadParameter("--gpus-per-member needs --launcher ray or slurm")
    if launcher == "slurm" and gpus is not None and gpus != int(gpus):
        raise typer.BadParameter(f"--gpus-per-member is {gpus:g}; Slurm gives whole GPUs")
    if planned or (launcher == "local" and cpus is None):
        if at_once is not None:
            raise typer.BadParameter("--members-per-job needs --launcher ray or slurm, or --cpus-per-member")
        return None
    if threads is not None:
        raise typer.BadParameter("on an engine the threads of a job are --cpus-per-member; leave --threads out")
    from mvp_edge.build.launch import Resources

    return Resources(cpus or 1, gpus or 0, ray_address)


def _made_here(
    zoo: Zoo, prunable: PrunableModel, source: DataSource, keeps: Sequence[float], config: BuildConfig,
    device: torch.device, progress: Progress,
) -> list[str]:  # fmt: skip
    """Make members one after the other in this process and return which are new."""
    from mvp_edge.build.members import build_generalists, build_specialists

    made = build_generalists(zoo, prunable, source, keeps, config, device=device, progress=progress) if keeps else []
    made += build_specialists(zoo, prunable, source, config, device=device, progress=progress)
    return [m.id for m in made]


def _launched(
    zoo: Zoo, listed: Sequence[Job], launcher: Launcher, resources: Resources, at_once: int, progress: Progress
) -> list[str]:
    """Run jobs on an engine and return which members are new."""
    from mvp_edge.build.launch import drive, engine

    zoo.require_writable()
    before = set(zoo.ids())
    zoo.remove_leftovers()
    with engine(launcher, resources, zoo.path / ".jobs") as submit, progress.stage("Members", len(listed)) as stage:
        drive(listed, submit, stage, at_once)
    return sorted(set(zoo.ids()) - before)


def _absolute(data: str) -> str:
    """Return images as any process finds them: a directory by its whole path."""
    return str(Path(data).resolve()) if Path(data).exists() else data


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

    whole = resolved(directory)
    exists = (whole / "zoo.json").exists()
    if exists and open_bodies(str(whole)) is not None:
        raise ZooError(
            f"{directory} is a zoo of ready-made bodies, which is not built by pruning; choose another directory, and "
            f"take its base with --base {directory}"
        )
    if base is None and weights is None and exists:
        opened = open_zoo(str(whole))
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
    return prepare_zoo(whole, found, model, source, device=device, progress=progress)
