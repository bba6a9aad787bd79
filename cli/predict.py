"""`mvp-edge predict`: what a delivered model sees in photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .options import Json, Quiet, Threads, print_json
from .progress import STARTING, shown

EPILOG = """
[bold]Examples[/]

mvp-edge predict out/ photo.jpg

mvp-edge predict out/model-int8.onnx photos/*.jpg --json
"""
MODEL = "model.onnx"


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("predict", epilog=EPILOG)(predict)


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A directory that `prune` made, or an ONNX file.")],
    photos: Annotated[list[str], typer.Argument(metavar="PHOTO...", help="Pictures to classify.")],
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Classify pictures with a model that `prune` or `export` made."""
    with shown(quiet=quiet) as progress:
        with progress.stage(STARTING):
            import numpy as np
            import torch

            from mvp_edge.core.device import use_threads
            from mvp_edge.core.errors import DataError, ExportError
            from mvp_edge.data.formats import sniff
            from mvp_edge.data.images import decode_all
            from mvp_edge.export import OnnxClassifier

        use_threads(threads)
        if model.is_file() and sniff(model):
            raise ExportError(f"{model} is a picture; give the model first: mvp-edge predict MODEL {model}")
        file = model / MODEL
        classifier = OnnxClassifier(file if file.is_file() else model, torch.get_num_threads())
        with progress.stage("Reading pictures", len(photos)) as stage:
            pixels = decode_all(photos, range(len(photos)), classifier.input_size, stage.advance)
        if not len(pixels.images):
            none = f"; none of {len(photos)} pictures can be read" if len(photos) > 1 else ""
            raise DataError(f"{_unread(*pixels.failures[0])}{none}")
        with progress.stage("Classifying", None):
            logits, scores = classifier.outputs(pixels.images)
            probabilities = torch.as_tensor(logits / classifier.temperature).softmax(1).numpy()
    best = probabilities.argmax(1)
    predictions = [
        {
            "file": photos[position],
            "class": classifier.labels[best[row]],
            "probability": round(float(probabilities[row, best[row]]), 4),
            "known": None if scores is None else bool(scores[row] >= (classifier.known_threshold or 0.0)),
            "probabilities": {
                name: round(float(p), 4) for name, p in zip(classifier.labels, probabilities[row], strict=True)
            },
        }
        for row, position in enumerate(np.asarray(pixels.labels))
    ]
    warnings = [_unread(path, reason) for path, reason in pixels.failures]
    result: dict[str, Any] = {"model": str(model), "predictions": predictions, "warnings": warnings}
    if json:
        print_json(result)
    else:
        from .tables import show_predictions

        show_predictions(result)


def _unread(path: str, reason: str) -> str:
    if "://" in path:
        return f"{path} is an address; download the picture, and give the file"
    if Path(path).is_dir():
        return f"{path} is a directory; give the pictures in it: {Path(path) / '*'}"
    return f"{path} cannot be read: {reason}"
