"""LiteRT files (`.tflite`), written from a delivered ONNX file, in float32 and INT8.

The graph is translated operator by operator into the flatbuffer that the package `ai-edge-litert` describes; neither
TensorFlow nor torch is needed. Maps lie with colours last. Integers are those of the ONNX file: uint8 activations
become int8 with a zero point 128 lower, which is the same number. What is not a convolution or a sum computes in
float32, as do networks with attention.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from mvp_edge.core.errors import ExportError
from mvp_edge.deploy.plain import Plain, attribute, integers, read_plain, refuse, rounds_up
from mvp_edge.export.classifier import Interface

TARGET, SIGNATURE, METADATA = "LiteRT", "serving_default", "mvp_edge.preprocessing"
NEEDED = "LiteRT files need the package ai-edge-litert; install it with: pip install 'mvp-edge[litert]'"
BINARY = {"Add": "ADD", "Sub": "SUB", "Mul": "MUL", "Div": "DIV", "Max": "MAXIMUM"}
UNARY = {"Exp": "EXP", "Log": "LOG", "Relu": "RELU", "Gelu": "GELU", "Sqrt": "SQRT"}
REDUCE = {"ReduceMax": "REDUCE_MAX", "ReduceMean": "MEAN", "ReduceSum": "SUM"}
LAST = (0, 2, 3, 1)  # from colours first to colours last


def convert(source: Path, target: Path, interface: Interface) -> None:
    """Write an ONNX file whose batch is one image as a LiteRT file, with its preprocessing as metadata.

    Raises:
        ExportError: ai-edge-litert is not installed, or an operator has no counterpart.
    """
    try:
        import flatbuffers
        from ai_edge_litert import schema_py_generated as schema  # pyright: ignore[reportMissingImports]
    except ImportError as e:
        raise ExportError(NEEDED) from e
    writer = _Writer(read_plain(source), schema)
    model = writer.model(json.dumps(interface.to_json()).encode())
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    target.write_bytes(bytes(builder.Output()))


def outputs(path: Path, images: np.ndarray, interface: Interface) -> list[np.ndarray]:
    """Return logits `(N, classes)`, and `known` `(N,)` if the file has it, of uint8 RGB images `(N, 3, H, W)`.

    Raises:
        ExportError: ai-edge-litert is not installed, or cannot load the file.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter  # pyright: ignore[reportMissingImports]
    except ImportError as e:
        raise ExportError(NEEDED) from e
    try:
        interpreter = Interpreter(str(path), num_threads=1)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as e:
        raise ExportError(f"LiteRT cannot load {path.name} ({str(e).splitlines()[0]})") from e
    run = interpreter.get_signature_runner(SIGNATURE)
    found = []
    for image in images.transpose(0, 2, 3, 1)[:, None]:
        given = image if interface.dtype == "uint8" else image.astype(np.float32) / np.float32(255)
        found.append(run(**{interface.input_name: given}))
    return [np.concatenate([f[name] for f in found]) for name in (interface.output_name, "known") if name in found[0]]


class _Writer:
    """Translates a network; `known` holds where a tensor lies, by its name and whether colours are last."""

    def __init__(self, plain: Plain, schema: Any) -> None:
        self.plain, self.schema = plain, schema
        self.buffers, self.tensors, self.operators = [schema.BufferT()], [], []
        self.codes: dict[int, int] = {}
        self.known: dict[tuple[str, bool], int] = {}
        self.integers: dict[str, int] = {}  # int8 tensors by the name of what DequantizeLinear gives
        self.weights: dict[str, tuple[np.ndarray, np.ndarray, int]] = {}  # levels, scales, axis
        self.done: set[str] = set()  # outputs of nodes that an earlier operator computes too

    def model(self, metadata: bytes) -> Any:
        """Return the flatbuffer's object."""
        schema, plain = self.schema, self.plain
        (image,) = plain.inputs
        shape, last = plain.shapes[image], plain.shapes[image][-1] == 3
        kind = np.dtype(np.uint8) if plain.next(image, "Transpose") and last else np.dtype(np.float32)
        first = shape if last else tuple(shape[i] for i in LAST)
        given = self._tensor(image, first, kind)
        self.known[(image, not last)] = given
        for node in plain.nodes:
            if node.output[0] not in self.done:
                self._translate(node)
        ends = [self._at(name, last=False) for name in plain.outputs]
        graph = schema.SubGraphT()
        graph.tensors, graph.operators, graph.inputs, graph.outputs = self.tensors, self.operators, [given], ends
        graph.name = "main"
        for name, index in zip(plain.outputs, ends, strict=True):
            self.tensors[index].name = name
        model = schema.ModelT()
        model.version, model.description, model.subgraphs = 3, "mvp-edge", [graph]
        model.signatureDefs = [self._signature(image, given, ends)]
        entry = schema.MetadataT()
        entry.name, entry.buffer = METADATA, self._buffer(metadata)
        model.metadata, model.buffers = [entry], self.buffers
        model.operatorCodes = []
        for number in self.codes:
            code = schema.OperatorCodeT()
            code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), _version(number)
            model.operatorCodes.append(code)
        return model

    def _signature(self, image: str, given: int, ends: list[int]) -> Any:
        signature = self.schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
        signature.inputs, signature.outputs = (
            [self._named(image, given)],
            list(map(self._named, self.plain.outputs, ends)),
        )
        return signature

    def _named(self, name: str, index: int) -> Any:
        found = self.schema.TensorMapT()
        found.name, found.tensorIndex = name, index
        return found

    # What tensors are.

    def _buffer(self, data: bytes) -> int:
        buffer = self.schema.BufferT()
        buffer.data = np.frombuffer(data, np.uint8)
        self.buffers.append(buffer)
        return len(self.buffers) - 1

    def _tensor(
        self, name: str, shape: Sequence[int], dtype: np.dtype, data: np.ndarray | None = None,
        scale: np.ndarray | None = None, zero: int = 0, axis: int = 0,
    ) -> int:  # fmt: skip
        tensor = self.schema.TensorT()
        tensor.name, tensor.shape = name, [int(n) for n in shape]
        kinds = {"float32": "FLOAT32", "int8": "INT8", "uint8": "UINT8", "int32": "INT32"}
        tensor.type = getattr(self.schema.TensorType, kinds[dtype.name])
        tensor.buffer = 0 if data is None else self._buffer(np.ascontiguousarray(data, dtype).tobytes())
        if scale is not None:
            quantised = self.schema.QuantizationParametersT()
            quantised.scale, quantised.quantizedDimension = scale.astype(np.float32).ravel(), axis
            quantised.zeroPoint = np.full(scale.size, zero, np.int64)
            tensor.quantization = quantised
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def _constant(self, values: np.ndarray, name: str = "constant") -> int:
        dtype = np.dtype(np.int32 if values.dtype.kind == "i" else np.float32)
        return self._tensor(name, values.shape, dtype, values.astype(dtype))

    def _at(self, name: str, *, last: bool) -> int:
        """Return where a tensor lies in float32, its colours last or as in ONNX."""
        plain = self.plain
        shape = plain.shapes[name]
        last = last and len(shape) == 4
        if (name, last) in self.known:
            return self.known[(name, last)]
        if name in plain.stored or name in self.weights:
            found = self._constant(_spread(self._values(name), last), name)
        elif name in self.integers and (name, not last) not in self.known:  # maps in integers have colours last
            found = self._tensor(name, self.tensors[self.integers[name]].shape, np.dtype(np.float32))
            self._operator("DEQUANTIZE", [self.integers[name]], found)
            if not last and len(shape) == 4:
                self.known[(name, True)] = found
                return self._at(name, last=False)
        else:
            other = self.known[(name, not last)]
            order = LAST if last else (0, 3, 1, 2)
            found = self._tensor(name, [self.tensors[other].shape[i] for i in order], np.dtype(np.float32))
            self._operator("TRANSPOSE", [other, self._constant(np.array(order))], found)
        self.known[(name, last)] = found
        return found

    def _values(self, name: str) -> np.ndarray:
        """Return a constant in float32."""
        if name not in self.weights:
            return self.plain.stored[name]
        levels, scale, axis = self.weights[name]
        return levels.astype(np.float32) * (
            scale if scale.size == 1 else scale.reshape([-1 if d == axis else 1 for d in range(levels.ndim)])
        )

    def _make(self, name: str, *, last: bool) -> int:
        """Return a new float32 tensor."""
        shape = self.plain.shapes[name]
        last = last and len(shape) == 4
        self.known[(name, last)] = self._tensor(name, [shape[i] for i in LAST] if last else shape, np.dtype(np.float32))
        return self.known[(name, last)]

    def _is_last(self, *names: str) -> bool:
        """Whether the colours of one of these are last."""
        return any((n, True) in self.known or (n in self.integers and len(self.plain.shapes[n]) == 4) for n in names)

    def _operator(self, kind: str, inputs: Sequence[int], output: int, **options: Any) -> None:
        schema = self.schema
        number = getattr(schema.BuiltinOperator, kind)
        operator = schema.OperatorT()
        operator.opcodeIndex = self.codes.setdefault(number, len(self.codes))
        operator.inputs, operator.outputs = list(inputs), [output]
        name = _options(kind)
        if name:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            operator.builtinOptions = getattr(schema, f"{name}T")()
            for key, value in options.items():
                setattr(operator.builtinOptions, key, value)
        self.operators.append(operator)

    # What nodes become.

    def _translate(self, node: onnx.NodeProto) -> None:
        kind = node.op_type
        if kind == "DequantizeLinear":
            self._dequantise(node)
        elif kind == "QuantizeLinear":
            self._operator("QUANTIZE", [self._at(node.input[0], last=True)], self._int8(node))
        elif kind == "Conv":
            self._convolve(node)
        elif kind in BINARY:
            self._binary(node)
        elif kind in UNARY:
            last = self._is_last(node.input[0])
            self._operator(UNARY[kind], [self._at(node.input[0], last=last)], self._make(node.output[0], last=last))
        elif kind == "Clip":
            self._clip(node)
        elif kind in ("MatMul", "Gemm"):
            self._multiply(node)
        elif kind == "GlobalAveragePool":
            axes = self._constant(np.array([1, 2]))
            made = self._make(node.output[0], last=True)
            self._operator("MEAN", [self._at(node.input[0], last=True), axes], made, keepDims=True)
        elif kind in REDUCE:
            axes = integers(self.plain.stored, node, 1, "axes")
            given = self._at(node.input[0], last=False)
            self._operator(
                REDUCE[kind], [given, self._constant(np.array(axes))], self._make(node.output[0], last=False),
                keepDims=bool(attribute(node, "keepdims", 1)),
            )  # fmt: skip
        elif kind in ("Flatten", "Reshape"):
            self._reshape(node.input[0], node.output[0])
        elif kind == "Transpose":
            self._transpose(node)
        elif kind == "Cast":
            given = self._at(node.input[0], last=True)
            self._operator("CAST", [given], self._make(node.output[0], last=self._is_last(node.input[0])))
        elif kind == "Softmax":
            self._softmax(node)
        elif kind == "LayerNormalization":
            self._normalise(node)
        elif kind in ("MaxPool", "AveragePool"):
            self._pool(node)
        else:
            raise refuse(node, TARGET)

    def _int8(self, node: onnx.NodeProto) -> int:
        """Return a new int8 tensor for what QuantizeLinear gives, which DequantizeLinear's result is known by, too."""
        scale, zero = (self.plain.stored[name] for name in node.input[1:3])
        shape = self.plain.shapes[node.input[0]]
        found = self._tensor(
            node.output[0], [shape[i] for i in LAST] if len(shape) == 4 else shape, np.dtype(np.int8), None, scale,
            int(zero) - (128 if zero.dtype == np.uint8 else 0),
        )  # fmt: skip
        self.integers[node.output[0]] = found
        return found

    def _dequantise(self, node: onnx.NodeProto) -> None:
        source, stored = node.input[0], self.plain.stored
        if source in stored:
            self.weights[node.output[0]] = stored[source], stored[node.input[1]], attribute(node, "axis", 1)
        else:
            self.integers[node.output[0]] = self.integers[source]

    def _rounded(self, name: str) -> onnx.NodeProto | None:
        """Return the QuantizeLinear that alone reads a tensor."""
        return self.plain.next(name, "QuantizeLinear")

    def _activation(self, node: onnx.NodeProto) -> tuple[str, int]:
        """Return the name of what a node gives, with the Relu or Clip that alone reads it, and its number."""
        after, kinds = self.plain.next(node.output[0], "Relu", "Clip"), self.schema.ActivationFunctionType
        if after is None or (after.op_type == "Clip" and self._limits(after) != (0, 6)):
            return node.output[0], kinds.NONE
        self.done.add(after.output[0])
        return after.output[0], kinds.RELU if after.op_type == "Relu" else kinds.RELU6

    def _limits(self, node: onnx.NodeProto) -> tuple[float, float]:
        stored = self.plain.stored
        low, high = ([stored[n] for n in node.input[1:3]] + [None, None])[:2]
        return (-np.inf if low is None else float(low)), (np.inf if high is None else float(high))

    def _clip(self, node: onnx.NodeProto) -> None:
        last, (low, high) = self._is_last(node.input[0]), self._limits(node)
        given = self._at(node.input[0], last=last)
        for kind, limit in (("MAXIMUM", low), ("MINIMUM", high)):
            made = self._tensor(node.output[0], self.tensors[given].shape, np.dtype(np.float32))
            self._operator(kind, [given, self._constant(np.array([limit], np.float32))], made)
            given = made
        self.known[(node.output[0], last)] = given

    def _convolve(self, node: onnx.NodeProto) -> None:
        plain = self.plain
        name, rounded = node.input[0], self._rounded(node.output[0])
        whole = name in self.integers and node.input[1] in self.weights and rounded is not None
        given = self.integers[name] if whole else self._at(name, last=True)
        weight = self.weights[node.input[1]][0] if node.input[1] in self.weights else plain.stored[node.input[1]]
        group, channels = attribute(node, "group", 1), plain.shapes[name][1]
        if attribute(node, "auto_pad", b"NOTSET") != b"NOTSET" or group not in (1, channels):
            raise refuse(node, TARGET, f"{group} groups" if group not in (1, channels) else "padding by name")
        strides, dilations = attribute(node, "strides", [1, 1]), attribute(node, "dilations", [1, 1])
        order, axis = ((1, 2, 3, 0), 3) if group > 1 else ((0, 2, 3, 1), 0)
        given, padding = self._pad(given, attribute(node, "pads", [0] * 4), weight.shape[2:], strides, dilations)
        options: dict[str, Any] = {
            "padding": padding, "strideH": strides[0], "strideW": strides[1], "dilationHFactor": dilations[0],
            "dilationWFactor": dilations[1],
        }  # fmt: skip
        kind = "CONV_2D" if group == 1 else "DEPTHWISE_CONV_2D"
        options |= {} if group == 1 else {"depthMultiplier": weight.shape[0] // group}
        if whole and rounded is not None:
            levels, scale, _ = self.weights[node.input[1]]
            offsets, step, _ = self.weights[node.input[2]]
            parts = [
                self._tensor(
                    node.input[1], [levels.shape[i] for i in order], np.dtype(np.int8), levels.transpose(order),
                    np.broadcast_to(scale, len(levels)), 0, axis,
                ),
                self._tensor(
                    node.input[2], offsets.shape, np.dtype(np.int32), offsets, np.broadcast_to(step, len(levels))
                ),
            ]  # fmt: skip
            self.done.add(rounded.output[0])
            return self._operator(kind, [given, *parts], self._int8(rounded), **options)
        weight = self._values(node.input[1])
        bias = self._values(node.input[2]) if len(node.input) > 2 else np.zeros(len(weight), np.float32)
        made, activation = self._activation(node)
        parts = [self._constant(weight.transpose(order), node.input[1]), self._constant(bias, f"{node.name}.bias")]
        options["fusedActivationFunction"] = activation
        return self._operator(kind, [given, *parts], self._make(made, last=True), **options)

    def _pad(
        self, given: int, pads: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
    ) -> tuple[int, int]:
        """Return the padded input and the padding that is left to the operator."""
        kinds, tensor = self.schema.Padding, self.tensors[given]
        if not any(pads):
            return given, kinds.VALID
        sides, wanted = tensor.shape[1:3], [(pads[0], pads[2]), (pads[1], pads[3])]
        same = []
        for side, size, stride, dilation in zip(sides, kernel, strides, dilations, strict=True):
            extra = max((-(-side // stride) - 1) * stride + (size - 1) * dilation + 1 - side, 0)
            same.append((extra // 2, extra - extra // 2))
        if same == wanted:
            return given, kinds.SAME
        around = np.array([(0, 0), *wanted, (0, 0)])
        shape = [n + int(sum(a)) for n, a in zip(tensor.shape, around, strict=True)]
        padded = self._tensor(
            "padded", shape, np.dtype(np.int8 if tensor.quantization else np.float32), None,
            None if tensor.quantization is None else tensor.quantization.scale,
            0 if tensor.quantization is None else int(tensor.quantization.zeroPoint[0]),
        )  # fmt: skip
        self._operator("PAD", [given, self._constant(around)], padded)
        return padded, kinds.VALID

    def _binary(self, node: onnx.NodeProto) -> None:
        rounded = self._rounded(node.output[0])
        if node.op_type == "Add" and rounded is not None and all(name in self.integers for name in node.input):
            self.done.add(rounded.output[0])
            self._operator("ADD", [self.integers[n] for n in node.input], self._int8(rounded))
            return
        last = self._is_last(*node.input) and len(self.plain.shapes[node.output[0]]) == 4
        given = [self._at(name, last=last) for name in node.input]
        made, options = node.output[0], {}
        if node.op_type == "Add":
            made, options["fusedActivationFunction"] = self._activation(node)
        self._operator(BINARY[node.op_type], given, self._make(made, last=last), **options)

    def _multiply(self, node: onnx.NodeProto) -> None:
        plain = self.plain
        first, second = node.input[:2]
        given = self._at(first, last=False)
        made = self._make(node.output[0], last=False)
        if second not in plain.stored and second not in self.weights:
            return self._operator("BATCH_MATMUL", [given, self._at(second, last=False)], made)
        if attribute(node, "alpha", 1) != 1 or attribute(node, "beta", 1) != 1 or attribute(node, "transA", 0):
            raise refuse(node, TARGET, "scaled or turned")
        weight = self._values(second) if attribute(node, "transB", 0) else self._values(second).T
        bias = self._values(node.input[2]) if len(node.input) > 2 else np.zeros(len(weight), np.float32)
        parts = [
            self._constant(weight, second),
            self._constant(np.broadcast_to(bias, len(weight)), f"{node.name}.bias"),
        ]
        return self._operator("FULLY_CONNECTED", [given, *parts], made, keepNumDims=len(plain.shapes[first]) > 2)

    def _reshape(self, source: str, made: str) -> None:
        shape = self.plain.shapes[made]
        given = self._at(source, last=False)
        self._operator("RESHAPE", [given, self._constant(np.array(shape))], self._make(made, last=False))

    def _transpose(self, node: onnx.NodeProto) -> None:
        order, source = attribute(node, "perm", []), node.input[0]
        if list(order) == [0, 3, 1, 2] and (source, False) in self.known:
            self.known[(node.output[0], True)] = self.known[(source, False)]
            return
        given = self._at(source, last=False)
        self._operator("TRANSPOSE", [given, self._constant(np.array(order))], self._make(node.output[0], last=False))

    def _softmax(self, node: onnx.NodeProto) -> None:
        rank = len(self.plain.shapes[node.input[0]])
        if attribute(node, "axis", -1) not in (-1, rank - 1):
            raise refuse(node, TARGET, "not over the last axis")
        given = self._at(node.input[0], last=False)
        self._operator("SOFTMAX", [given], self._make(node.output[0], last=False), beta=1.0)

    def _normalise(self, node: onnx.NodeProto) -> None:
        """Translate a norm over the last axis into means and products."""
        source, (scale, bias) = self._at(node.input[0], last=False), node.input[1:3]
        shape = list(self.plain.shapes[node.input[0]])
        if attribute(node, "axis", -1) not in (-1, len(shape) - 1):
            raise refuse(node, TARGET, "not over the last axis")

        def step(kind: str, given: Sequence[int], size: Sequence[int], **options: Any) -> int:
            made = self._tensor(node.name, size, np.dtype(np.float32))
            self._operator(kind, given, made, **options)
            return made

        one, axis = [*shape[:-1], 1], self._constant(np.array([len(shape) - 1]))
        centred = step("SUB", [source, step("MEAN", [source, axis], one, keepDims=True)], shape)
        variance = step("MEAN", [step("MUL", [centred, centred], shape), axis], one, keepDims=True)
        tiny = self._constant(np.array([attribute(node, "epsilon", 1e-5)], np.float32))
        factor = step("RSQRT", [step("ADD", [variance, tiny], one)], one)
        normal = step("MUL", [step("MUL", [centred, factor], shape), self._at(scale, last=False)], shape)
        self._operator("ADD", [normal, self._at(bias, last=False)], self._make(node.output[0], last=False))

    def _pool(self, node: onnx.NodeProto) -> None:
        size, strides = attribute(node, "kernel_shape", []), attribute(node, "strides", [1, 1])
        pads, sides = attribute(node, "pads", [0] * 4), self.plain.shapes[node.input[0]][2:]
        if rounds_up(self.plain, node) or (node.op_type == "AveragePool" and any(pads)):
            raise refuse(node, TARGET, "sizes or padding")
        kind = "MAX_POOL_2D" if node.op_type == "MaxPool" else "AVERAGE_POOL_2D"
        given = self._at(node.input[0], last=True)
        if any(pads):
            around = np.array([(0, 0), (pads[0], pads[2]), (pads[1], pads[3]), (0, 0)])
            shape = [1, sides[0] + pads[0] + pads[2], sides[1] + pads[1] + pads[3], self.tensors[given].shape[3]]
            padded = self._tensor(f"{node.name}.padded", shape, np.dtype(np.float32))
            lowest = self._constant(np.array([np.finfo(np.float32).min], np.float32))
            self._operator("PADV2", [given, self._constant(around), lowest], padded)
            given = padded
        self._operator(
            kind, [given], self._make(node.output[0], last=True), padding=self.schema.Padding.VALID,
            strideH=strides[0], strideW=strides[1], filterHeight=size[0], filterWidth=size[1],
        )  # fmt: skip


def _spread(values: np.ndarray, last: bool) -> np.ndarray:
    """Return a constant so that it multiplies a map whose colours are last, or as it is."""
    if not last or values.size == 1:
        return values.reshape(-1) if values.size == 1 else values
    return values.reshape((1,) * (4 - values.ndim) + values.shape).transpose(LAST)


def _options(kind: str) -> str:
    named = {
        "CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions", "ADD": "AddOptions",
        "SUB": "SubOptions", "MUL": "MulOptions", "DIV": "DivOptions", "MEAN": "ReducerOptions",
        "REDUCE_MAX": "ReducerOptions", "SUM": "ReducerOptions",
        "FULLY_CONNECTED": "FullyConnectedOptions", "SOFTMAX": "SoftmaxOptions",
        "BATCH_MATMUL": "BatchMatMulOptions", "MAX_POOL_2D": "Pool2DOptions", "AVERAGE_POOL_2D": "Pool2DOptions",
        "RESHAPE": "ReshapeOptions",
        "TRANSPOSE": "TransposeOptions", "PAD": "PadOptions", "PADV2": "PadV2Options", "GELU": "GeluOptions",
        "EXP": "ExpOptions", "MAXIMUM": "MaximumMinimumOptions", "MINIMUM": "MaximumMinimumOptions",
        "QUANTIZE": "QuantizeOptions", "DEQUANTIZE": "DequantizeOptions", "CAST": "CastOptions",
    }  # fmt: skip
    return named.get(kind, "")


def _version(number: int) -> int:
    """Return the version of an operator, for interpreters that check it: that of int8 where there is one."""
    return {0: 2, 3: 5, 4: 6, 6: 2, 9: 5, 114: 1}.get(number, 2 if number in (40, 55, 57, 39, 34) else 1)
