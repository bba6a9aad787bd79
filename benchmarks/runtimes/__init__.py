"""Runtimes other than ONNX Runtime on the CPU: browsers, OpenVINO, MNN, tract."""
