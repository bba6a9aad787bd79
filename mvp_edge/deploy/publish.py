"""Publishing a result of `prune`: models, labels, `config.json` and a card, on the Hub or elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mvp_edge.core.environment import own_version
from mvp_edge.core.places import resolved
from mvp_edge.core.progress import Progress
from mvp_edge.core.templates import load_template
from mvp_edge.deploy.result import MODELS, Result, read_result
from mvp_edge.export.classifier import Interface, read_interface
from mvp_edge.zoo.publish import CARD, front_matter, result_of
from mvp_edge.zoo.remote import Address, destination, upload

CONFIG = "config.json"
WHAT = {
    MODELS["fp32"]: "the classifier",
    MODELS["fp16"]: "the same with weights in half precision",
    MODELS["int8"]: "the same in INT8",
    "labels.txt": "class names in the order of the logits",
    CONFIG: "classes by number, and how a picture becomes the model's input",
}


def publish_result(directory: Path, target: str, *, private: bool, progress: Progress) -> str:
    """Publish a result directory; return its address, with the commit if there is one.

    The report and the plan stay here: they name folders of this computer.

    Args:
        directory: A result of `prune`.
        target: An address that can be written (`hf://`, `s3://`, `gs://`), or a directory.
        private: Whether a new repository of the Hub is private.
        progress: Progress.

    Raises:
        ConfigError: the target cannot be written in this way.
        ExportError: the result is damaged.
        ZooError: it cannot be written there.
    """
    where = destination(target, private=private)
    result = read_result(directory)
    interface = read_interface(result.models["fp32"])
    name = where.place.rsplit("/", 1)[-1] if isinstance(where, Address) else resolved(where).name
    contents: dict[str, bytes | Path] = {file.name: file for file in result.models.values()}
    contents["labels.txt"] = result.path / "labels.txt"
    contents[CONFIG] = json.dumps(_config(result, interface), indent=2, ensure_ascii=False).encode()
    contents[CARD] = _card(result, interface, name, list(contents)).encode()
    with progress.stage("Publishing"):
        return upload(where, contents, private=private, message=f"{name}, mvp-edge {own_version()}")


def _config(result: Result, interface: Interface) -> dict[str, Any]:
    """Return `config.json`: `id2label` and `label2id` as other tools of the Hub read them, and the interface."""
    return {
        "model_type": "mvp-edge",
        "architecture": result.base.arch,
        "num_classes": len(result.labels),
        "id2label": {str(i): name for i, name in enumerate(result.labels)},
        "label2id": {name: i for i, name in enumerate(result.labels)},
        "interface": interface.to_json(),
    }


def _card(result: Result, interface: Interface, name: str, files: list[str]) -> str:
    report = result.report
    measured = report.accuracy.top1
    results = [] if measured is None else [result_of(report.accuracy.source, "top-1 (%)", measured)]
    if measured is None and report.estimate is not None:
        pictures = report.estimate.source.split(": ", 1)[-1]  # without "estimate" or "upper bound"
        results = [result_of(pictures, "top-1 (%), expected", report.estimate.top1)]
    text = load_template("deploy/readme", "card.md.j2").render(
        title=name,
        labels=result.labels,
        report=report,
        interface=interface,
        licence=result.base.licence,
        files=[(file, WHAT[file]) for file in files],
        version=own_version(),
    )
    return front_matter(name, result.base.licence, results) + text + "\n"
