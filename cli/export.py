"""`mvp-edge export`: a folder for an app, made from a result of `prune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer

from mvp_edge.deploy.targets import Target

from .options import Force, Json, Quiet, Result, input_option, output_option, print_json
from .progress import STARTING, shown

TARGETS: tuple[Target, ...] = get_args(Target)
EPILOG = """
[bold]Examples[/]

mvp-edge export out/ --target android

mvp-edge export out/ --target web --with-dense --out page/

mvp-edge export out/ --target web --ort-web node_modules/onnxruntime-web/dist
"""


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("export", epilog=EPILOG)(export)


def target_name(value: str) -> Target:
    """Read a target."""
    if value not in TARGETS:
        raise typer.BadParameter(
            f"{value!r} must be one of {', '.join(TARGETS)}; android and ios use ONNX Runtime, litert and coreml do not"
        )
    return cast(Target, value)


def export(
    result: Result,
    target: Annotated[
        Any,
        output_option(
            "--target",
            metavar="|".join(TARGETS),
            parser=target_name,
            help="Target; ort is any ONNX Runtime. litert, coreml and ncnn need the extra of that name.",
        ),
    ],
    out: Annotated[
        Path | None, output_option("--out", metavar="DIR", help="Folder to write. Default: RESULT_DIR/TARGET.")
    ] = None,
    force: Force = False,
    with_dense: Annotated[bool, output_option("--with-dense", help="web: add the dense model, to compare.")] = False,
    ort_web: Annotated[
        Path | None,
        input_option("--ort-web", metavar="DIR", help="web: directory with onnxruntime-web, instead of npm."),
    ] = None,
    zoo: Annotated[
        str | None, input_option("--zoo", metavar="NAME|DIR|ADDRESS", help="Zoo with the base for --with-dense.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a folder for Android, iOS, the web or ONNX Runtime: models, labels, preprocessing and code."""
    if target != "web" and (ort_web is not None or with_dense):
        raise typer.BadParameter("--ort-web and --with-dense need --target web")
    if zoo is not None and not with_dense:
        raise typer.BadParameter("--zoo needs --with-dense")
    with shown(quiet=quiet) as progress:
        with progress.stage(STARTING):
            from mvp_edge.deploy.folder import ExportConfig, export_result

        config = ExportConfig(result, target, out, force, ort_web, with_dense, zoo)
        made = export_result(config, progress)
    if json:
        print_json(made)
    else:
        from .tables import show_export

        show_export(made)
