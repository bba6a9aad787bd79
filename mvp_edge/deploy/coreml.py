"""Core ML packages (`.mlpackage`), built from a delivered ONNX file with the package coremltools.

The network is written in Core ML's own intermediate language, operator by operator, as coremltools reads no ONNX. The
input is an image, the output a class label with probabilities. Core ML runs on Apple's systems only; elsewhere the
specification is read again and checked, and nothing is predicted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import redirect_stderr
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from mvp_edge.core.errors import ExportError
from mvp_edge.deploy.plain import Plain, attribute, integers, read_plain, refuse, rounds_up
from mvp_edge.export.classifier import Interface

TARGET = "Core ML"
LABELLED = ("label", "label_probs")  # the likeliest class, and all probabilities by class, as coremltools calls them
NEEDED = "Core ML packages need coremltools; install it with: pip install 'mvp-edge[coreml]'"
# Exponentials, their sums and logarithms leave the range of half precision.
HALF = frozenset(
    {"conv", "clip", "relu", "add", "linear", "matmul", "gelu", "layer_norm", "softmax", "max_pool", "avg_pool"}
)
BINARY = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "real_div", "Max": "maximum"}
UNARY = {"Exp": "exp", "Log": "log", "Relu": "relu", "Sqrt": "sqrt"}
REDUCE = {"ReduceMax": "reduce_max", "ReduceMean": "reduce_mean", "ReduceSum": "reduce_sum"}


def convert(source: Path, target: Path, interface: Interface) -> None:
    """Write an ONNX file whose batch is one image as a Core ML package, its weights in half precision.

    Raises:
        ExportError: coremltools is not installed, the file takes bytes, or an operator has no counterpart.
    """
    if find_spec("coremltools") is None:
        raise ExportError(NEEDED)
    if interface.dtype != "float32":
        raise ExportError("Core ML takes images itself; make the result again without --input uint8-nhwc")
    logging.getLogger("coremltools").setLevel(logging.ERROR)  # it warns of any torch newer than itself
    import coremltools as ct  # pyright: ignore[reportMissingImports]
    from coremltools.converters.mil import Builder  # pyright: ignore[reportMissingImports]

    plain = read_plain(source)
    height, width = interface.size

    mb: Any = Builder

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 3, height, width))], opset_version=ct.target.iOS16)
    def program(image: Any) -> tuple[Any, ...]:
        found = {plain.inputs[0]: image}
        for node in plain.nodes:
            found[node.output[0]] = _translated(node, plain, found, mb)
        logits = found[interface.output_name]
        scaled = mb.mul(x=logits, y=np.float32(1 / interface.temperature))
        probabilities = mb.softmax(x=scaled, axis=-1, name="probabilities")
        return (probabilities, *(mb.identity(x=found[name], name=name) for name in plain.outputs))

    function = program.functions["main"]
    name = next(iter(function.inputs))
    picture = ct.ImageType(name=name, shape=(1, 3, height, width), scale=1 / 255, color_layout=ct.colorlayout.RGB)
    with redirect_stderr(StringIO()):  # bars
        model: Any = ct.convert(
        program, inputs=[picture], convert_to="mlprogram", minimum_deployment_target=ct.target.iOS16,
        classifier_config=ct.ClassifierConfig(list(interface.labels), LABELLED[0], "probabilities"),
        compute_precision=ct.transform.FP16ComputePrecision(lambda op: op.op_type in HALF), skip_model_load=True,
    )  # fmt: skip
    model.short_description = f"{len(interface.labels)} classes, by mvp-edge"
    if interface.known_threshold is not None:
        model.user_defined_metadata["mvp_edge.known_threshold"] = repr(interface.known_threshold)
    model.save(str(target))
    _check(target, interface, ct)


def _check(path: Path, interface: Interface, ct: Any) -> None:
    """Read the specification again.

    Raises:
        ExportError: inputs, outputs or classes are not those of the ONNX file.
    """
    spec = ct.utils.load_spec(str(path))
    (image,) = spec.description.input
    outputs = {o.name for o in spec.description.output}
    wanted = {*LABELLED, interface.output_name} | (set() if interface.known_threshold is None else {"known"})
    main = spec.mlProgram.functions["main"]
    *_, last = main.block_specializations[main.opset].operations
    (classes,) = last.inputs["classes"].arguments
    labels = [v.immediateValue.tensor.strings.values[0] for v in classes.value.immediateValue.list.values]
    size = (image.type.imageType.height, image.type.imageType.width)
    if size != interface.size or outputs != wanted or labels != list(interface.labels):
        raise ExportError(
            f"{path.name} has an image {size}, outputs {sorted(outputs)} and {len(labels)} classes; an image "
            f"{interface.size}, {sorted(wanted)} and {len(interface.labels)} classes are required; report this as a bug"
        )


def _translated(node: onnx.NodeProto, plain: Plain, found: dict[str, Any], mb: Any) -> Any:
    """Return what a node gives, in Core ML's intermediate language."""
    kind, stored = node.op_type, plain.stored

    def value(place: int) -> Any:
        name = node.input[place]
        return found[name] if name in found else np.asarray(stored[name])

    def real(name: str, default: Any) -> Any:
        return attribute(node, name, default)

    pads = real("pads", [0] * 4)
    if kind == "Conv":
        return mb.conv(
            x=value(0), weight=stored[node.input[1]], strides=real("strides", [1, 1]), pad_type="custom",
            pad=[pads[0], pads[2], pads[1], pads[3]], dilations=real("dilations", [1, 1]), groups=real("group", 1),
            **({"bias": stored[node.input[2]]} if len(node.input) > 2 else {}),
        )  # fmt: skip
    if kind in BINARY:
        return getattr(mb, BINARY[kind])(x=value(0), y=value(1))
    if kind in UNARY:
        return getattr(mb, UNARY[kind])(x=value(0))
    if kind in REDUCE:
        axes = integers(stored, node, 1, "axes")
        return getattr(mb, REDUCE[kind])(x=value(0), axes=axes, keep_dims=bool(real("keepdims", 1)))
    simple: dict[str, Callable[[], Any]] = {
        "Clip": lambda: mb.clip(x=value(0), alpha=float(value(1)), beta=float(value(2))),
        "Gelu": lambda: mb.gelu(x=value(0), mode="EXACT"),
        "GlobalAveragePool": lambda: mb.reduce_mean(x=value(0), axes=[2, 3], keep_dims=True),
        "Flatten": lambda: mb.reshape(x=value(0), shape=plain.shapes[node.output[0]]),
        "Reshape": lambda: mb.reshape(x=value(0), shape=plain.shapes[node.output[0]]),
        "Transpose": lambda: mb.transpose(x=value(0), perm=real("perm", [])),
        "Softmax": lambda: mb.softmax(x=value(0), axis=real("axis", -1)),
        "MatMul": lambda: mb.matmul(x=value(0), y=value(1)),
        "LayerNormalization": lambda: mb.layer_norm(
            x=value(0), axes=[-1], gamma=value(1), beta=value(2), epsilon=np.float32(real("epsilon", 1e-5))
        ),
    }
    if kind in simple and (kind != "LayerNormalization" or real("axis", -1) == -1):
        return simple[kind]()
    if kind == "Gemm" and real("alpha", 1) == real("beta", 1) == 1 and not real("transA", 0):
        weight = value(1) if real("transB", 0) else value(1).T
        bias = np.broadcast_to(value(2), len(weight)) if len(node.input) > 2 else np.zeros(len(weight), np.float32)
        return mb.linear(x=value(0), weight=np.ascontiguousarray(weight), bias=np.ascontiguousarray(bias))
    if kind in ("MaxPool", "AveragePool") and not (rounds_up(plain, node) or (kind == "AveragePool" and any(pads))):
        return getattr(mb, "max_pool" if kind == "MaxPool" else "avg_pool")(
            x=value(0), kernel_sizes=real("kernel_shape", []), strides=real("strides", [1, 1]), pad_type="custom",
            pad=[pads[0], pads[2], pads[1], pads[3]],
        )  # fmt: skip
    raise refuse(node, TARGET)
