"""Labelled images: where they come from, how they become tensors, and how a batch is drawn and augmented."""

from __future__ import annotations

from mvp_edge.data.augment import augment, normalise, scaled_down
from mvp_edge.data.batches import batches, forward_batch
from mvp_edge.data.images import ImageSet, skipped_warnings
from mvp_edge.data.named import NAMES
from mvp_edge.data.source import DataSource, open_source

__all__ = [
    "NAMES",
    "DataSource",
    "ImageSet",
    "augment",
    "batches",
    "forward_batch",
    "normalise",
    "open_source",
    "scaled_down",
    "skipped_warnings",
]
