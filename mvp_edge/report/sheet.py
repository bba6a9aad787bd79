"""A contact sheet: some images of each class of a data set on one page."""

from __future__ import annotations

from pathlib import Path

from mvp_edge.data.images import decode_all
from mvp_edge.data.look import SIDE, Look
from mvp_edge.report.page import image_uri, render

OF_CLASS, IN_ALL = 12, 2000  # images


def render_sheet(name: str, found: Look, path: Path) -> None:
    """Write the contact sheet of a data set as one page that needs no network.

    Args:
        name: Of the data.
        found: What it holds.
        path: File to write; it appears complete or not at all.

    Raises:
        ExportError: the file cannot be written.
    """
    shown = min(OF_CLASS, max(1, IN_ALL // len(found.classes)))
    classes = [
        {
            "name": each,
            "counts": ", ".join(f"{count:,} {split}" for split, count in counts.items()) or "no images",
            "images": [image_uri(image, "JPEG") for image in found.samples[each][:shown]],
        }
        for each, counts in found.classes.items()
    ]
    both = [file for pair in found.copied for file in pair]
    pixels = decode_all(both, range(len(both)), (SIDE, SIDE))
    images = {int(i): image_uri(image, "JPEG") for i, image in zip(pixels.labels.tolist(), pixels.images, strict=True)}
    pairs = [
        {"files": pair, "images": (images[2 * i], images[2 * i + 1])}
        for i, pair in enumerate(found.copied)
        if {2 * i, 2 * i + 1} <= images.keys()
    ]
    render("sheet.html.j2", path, name=name, found=found, classes=classes, pairs=pairs)
