"""`mvp-edge pretrain`: train a base model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mvp_edge.config import FitOverrides, PretrainConfig
from mvp_edge.core.errors import ConfigError
from mvp_edge.core.output import check_local
from mvp_edge.core.places import resolved
from mvp_edge.training.recipes import recipe

from .options import (
    BatchSize,
    Bf16,
    Data,
    Device,
    Force,
    Json,
    Optimizer,
    Quiet,
    Seed,
    Threads,
    checked,
    input_option,
    output_option,
    print_json,
    rate,
    training_option,
)
from .progress import shown

DEFAULT = PretrainConfig("resnet18-cifar100", "", Path("base.safetensors"))
RECIPE = recipe("pretrain", "sgd")

EPILOG = """
[bold]Examples[/]

mvp-edge pretrain --data cifar100 --out base.safetensors

mvp-edge pretrain --data cifar100 --init earlier.safetensors --epochs 7 --small-size 24 --small-epochs 2.5

mvp-edge pretrain --base vit-cifar100 --data cifar100 --teacher my-zoo/

mvp-edge pretrain --base timm:mobilenetv2_100 --data photos/ --init weights.safetensors --epochs 10 --lr 0.02

mvp-edge pretrain --base timm:vit_tiny_patch16_224 --data photos/

Run the same command again after an interruption: it continues.
"""


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("pretrain", epilog=EPILOG)(pretrain)


def pretrain(
    data: Data,
    base: Annotated[str, input_option("--base", metavar="NAME", help="A registered base or timm:NAME.")] = DEFAULT.base,
    init: Annotated[
        Path | None, input_option("--init", metavar="FILE", help="Weights to start from, instead of random ones.")
    ] = None,
    out: Annotated[Path, output_option("--out", metavar="FILE", help="File to write.")] = DEFAULT.out,
    force: Force = False,
    epochs: Annotated[float, training_option("--epochs", help="Passes over the training images.")] = DEFAULT.epochs,
    small_size: Annotated[
        int,
        training_option(
            "--small-size", metavar="PIXELS", help="Image side in pixels in the first epochs; 0 = full size."
        ),
    ] = DEFAULT.small_size,
    small_epochs: Annotated[
        float, training_option("--small-epochs", help="Number of epochs with small images.")
    ] = DEFAULT.small_epochs,
    teacher: Annotated[
        str | None,
        training_option(
            "--teacher", metavar="BASE|ZOO", help="Distil from a base model, or from a zoo's best generalist."
        ),
    ] = None,
    distill: Annotated[
        float, training_option("--distill", help="Weight of the loss against --teacher, in [0, 1].")
    ] = 0.9,
    optimizer: Optimizer = None,
    batch_size: BatchSize = RECIPE.batch_size,
    lr: Annotated[float | None, rate("pretrain")] = None,
    cutout: Annotated[
        int, training_option("--cutout", min=0, help="Side in pixels of the Cutout square; 0 = off.")
    ] = RECIPE.cutout,
    device: Device = "auto",
    threads: Threads = None,
    bf16: Bf16 = "auto",
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a base model: one safetensors file with metadata."""
    config = checked(
        lambda: PretrainConfig(
            base=base,
            data=data,
            out=out,
            epochs=epochs,
            fit=FitOverrides(
                batch_size=batch_size, lr=lr, cutout=cutout, optimizer=optimizer, distill=distill if teacher else None
            ),
            init=init,
            device=device,
            seed=seed,
            small_size=small_size,
            small_epochs=small_epochs,
            teacher=teacher,
        )
    )
    if out.suffix != ".safetensors":
        raise typer.BadParameter(f"{out} must end in .safetensors", param_hint="--out")
    if out.exists() and not force:
        raise ConfigError(f"{out} exists; replace it with --force, or choose another file with --out")
    check_local(out)
    if not resolved(out).parent.is_dir():
        raise ConfigError(f"{out.parent} is not a directory; make it with: mkdir -p {out.parent}")
    from mvp_edge.build.pretrain import pretrain as train
    from mvp_edge.core.device import use_bf16, use_threads

    use_threads(threads)
    use_bf16(bf16)
    try:
        with shown(quiet=quiet) as progress:
            result = train(config, progress)
    except KeyboardInterrupt as e:
        raise KeyboardInterrupt("run the same command again to continue from the last checkpoint") from e
    from .tables import warn

    warn(result["warnings"])
    if json:
        print_json(result)
    else:
        typer.echo(f"{result['out']}: top-1 {result['top1']:.2f} % of {result['n']} test images")
