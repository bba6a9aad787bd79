"""`mvp-edge eval`: accuracy of an ONNX model on images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .options import Data, GroupBy, Json, Quiet, Threads, print_json
from .progress import STARTING, shown

EPILOG = """
[bold]Examples[/]

mvp-edge eval out/model.onnx --data photos/

mvp-edge eval out/model.onnx --data cifar100 --json
"""


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("eval", epilog=EPILOG)(evaluate)


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="A model made by `prune`.")],
    data: Data,
    group_by: GroupBy = None,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure the top-1 accuracy of a model on the test images of its classes."""
    with shown(quiet=quiet) as progress:
        with progress.stage(STARTING):
            import torch

            from mvp_edge.core.device import use_threads
            from mvp_edge.core.errors import DataError
            from mvp_edge.core.words import in_short
            from mvp_edge.data import open_source, skipped_warnings
            from mvp_edge.data.listing import SPLITS
            from mvp_edge.data.splits import load_test
            from mvp_edge.export import OnnxClassifier
            from mvp_edge.training.loop import accuracy

        use_threads(threads)
        classifier = OnnxClassifier(model, torch.get_num_threads())
        source = open_source(data, group_by)
        shown_of = {name for split in SPLITS for name in source.covered(classifier.labels, split)}
        if missing := [name for name in classifier.labels if name not in shown_of]:
            raise DataError(
                f"{source.place} has no images of {in_short(missing)}, which {model} tells apart; add some, or "
                f"give other images (these are of {in_short(source.classes)})"
            )
        images, copies = load_test(source, classifier.labels, classifier.input_size, progress)
        with progress.stage("Evaluating", None):
            score = accuracy(torch.as_tensor(classifier.predict(images.images)), images)
    result: dict[str, Any] = {
        "model": str(model),
        "accuracy": {**score.to_json(), "source": f"test images of {source.name}"},
        "warnings": [*source.notes, *skipped_warnings(images)],
    }
    if copies:
        result["warnings"].append(f"{copies} test images are copies of images of other splits, and are not counted")
    if json:
        print_json(result)
    else:
        from .tables import show_accuracy

        show_accuracy(result)
