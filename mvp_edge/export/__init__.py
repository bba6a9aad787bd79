"""Deployable files made from a model, and the way back to predictions."""

from mvp_edge.export.classifier import OnnxClassifier
from mvp_edge.export.graph import Inventory, take_inventory
from mvp_edge.export.onnx import TOLERANCE, export_onnx, verify_onnx

__all__ = ["TOLERANCE", "Inventory", "OnnxClassifier", "export_onnx", "take_inventory", "verify_onnx"]
