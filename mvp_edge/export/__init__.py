"""Deployable files made from a model, and the way back to predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mvp_edge.export.classifier import OnnxClassifier
from mvp_edge.export.graph import Inventory, take_inventory

if TYPE_CHECKING:
    from mvp_edge.export.onnx import TOLERANCE, export_onnx, verify_onnx

__all__ = ["TOLERANCE", "Inventory", "OnnxClassifier", "export_onnx", "take_inventory", "verify_onnx"]


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is used: a class list without images works without."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mvp_edge.export import onnx

    return getattr(onnx, name)
