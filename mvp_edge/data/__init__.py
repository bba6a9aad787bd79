"""Labelled images: their sources, their tensors, and batches."""

from __future__ import annotations

from mvp_edge.data.batches import augment, batches, evened, forward_batch, normalise, scaled_down
from mvp_edge.data.images import ImageSet, skipped_warnings
from mvp_edge.data.named import NAMES
from mvp_edge.data.source import DataSource, open_source

__all__ = [
    "NAMES",
    "DataSource",
    "ImageSet",
    "augment",
    "batches",
    "evened",
    "forward_batch",
    "normalise",
    "open_source",
    "scaled_down",
    "skipped_warnings",
]
