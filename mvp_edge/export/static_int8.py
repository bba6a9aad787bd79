"""A network in 8-bit integers made from stored ranges of its activations: neither pictures nor torch are needed.

In ONNX's QDQ form. Weights are int8 with one scale per output channel, activations uint8 with one scale per tensor. The
rounding of weights moves the mean of a channel; stored corrections of biases move it back (Nagel et al., 2019).

Processors with AVX2 but without VNNI add pairs of products in 16 bits (`VPMADDUBSW`), which two large weights side by
side overflow. The scale of a channel is such that no pair can. That keeps nearly 8 bits, where halving all weights
(`reduce_range`) would keep 7. Depthwise convolutions are computed otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

LEVELS = 255  # of an activation above its lowest
LARGEST = 127  # level of a weight, and sum of two neighbours of the same sign
ROUNDED = ("Conv", "Add")


def quantise(
    model: onnx.ModelProto, ranges: Mapping[str, Sequence[float]], shifts: Mapping[str, np.ndarray]
) -> onnx.ModelProto:
    """Return a copy of a network whose convolutions and sums compute in 8-bit integers.

    Args:
        model: Float32; its convolutions have stored weights and biases.
        ranges: The least and the greatest value of every tensor that a convolution or a sum reads or gives; of what a
            Clip gives instead of what it reads.
        shifts: What is added to biases, by their names; absent ones stay as they are.

    Raises:
        KeyError: A range is missing.
        ValueError: A shift has another shape than its bias.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in made.graph.node]
    rounding = _Rounding(made.graph, ranges)
    # A range from 0 up to a Clip's limit does what the Clip does.
    gives = {n.output[0] for n in nodes if n.op_type in ROUNDED}
    clips = {n.input[0]: n.output[0] for n in nodes if n.op_type == "Clip" and n.input[0] in gives}
    del made.graph.node[:]
    for node in nodes:
        if node.op_type == "Clip" and node.input[0] in clips:
            continue
        if node.op_type == "Conv":
            node.input[:] = rounding.convolution(node.input, shifts)
        elif node.op_type == "Add":
            node.input[:] = [rounding.activation(name) for name in node.input]
        else:
            node.input[:] = [rounding.known.get(name, name) for name in node.input]
        made.graph.node.append(node)
        if node.op_type in ROUNDED:
            source = node.output[0]
            rounding.activation(clips.get(source, source), source)
    used = {name for n in made.graph.node for name in n.input}
    for tensor in [t for t in made.graph.initializer if t.name not in used]:
        made.graph.initializer.remove(tensor)
    return made


@dataclass
class _Rounding:
    """Adds what rounds tensors to a graph, each once; `known` are the names of rounded activations."""

    graph: onnx.GraphProto
    ranges: Mapping[str, Sequence[float]]
    known: dict[str, str] = field(default_factory=dict)
    stored: dict[str, onnx.TensorProto] = field(init=False)

    def __post_init__(self) -> None:
        self.stored = {t.name: t for t in self.graph.initializer}

    def activation(self, name: str, source: str = "") -> str:
        """Return the rounded form of an activation, which is made from `source` if it is not made yet."""
        if name not in self.known:
            scale, zero = self._grid(name)
            names = [self._store(f"{name}.s", scale), self._store(f"zero.{zero}", zero)]
            self._node("QuantizeLinear", [source or name, *names], f"{name}.q")
            self.known[name] = self._node("DequantizeLinear", [f"{name}.q", *names], f"{name}.dq")
        return self.known[name]

    def convolution(self, inputs: Sequence[str], shifts: Mapping[str, np.ndarray]) -> list[str]:
        """Return the rounded inputs of a convolution: image, weight and bias."""
        image, weight, bias = inputs
        levels, scale = weight_levels(numpy_helper.to_array(self.stored[weight]))
        step = scale * self._grid(image)[0]
        offsets = numpy_helper.to_array(self.stored[bias])
        if bias in shifts:
            if shifts[bias].shape != offsets.shape:
                raise ValueError(f"a shift {shifts[bias].shape} of {bias}, which is {offsets.shape}")
            offsets = offsets + shifts[bias]
        whole = np.rint(offsets / step.astype(np.float64)).clip(-(2**31), 2**31 - 1).astype(np.int32)
        return [
            self.activation(image),
            self._constant(weight, levels, scale),
            self._constant(f"{weight.removesuffix('weight')}{bias}", whole, step),
        ]

    def _constant(self, name: str, levels: np.ndarray, scale: np.ndarray) -> str:
        # Zero points could be left out, but converters to other formats want them.
        zeros = self._store(f"zeros.{levels.dtype}.{scale.size}", np.zeros(scale.shape, levels.dtype))
        names = [self._store(f"{name}.int", levels), self._store(f"{name}.s", scale), zeros]
        return self._node("DequantizeLinear", names, f"{name}.dq", axis=0)

    def _grid(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return scale and zero point; 0 has a level of its own, for the padding."""
        low, high = min(0.0, self.ranges[name][0]), max(0.0, self.ranges[name][1])
        scale = np.array(max(high - low, 1e-6) / LEVELS, np.float32)
        return scale, np.array(np.clip(np.rint(-low / scale), 0, LEVELS), np.uint8)

    def _store(self, name: str, values: np.ndarray) -> str:
        if name not in self.stored:
            self.stored[name] = numpy_helper.from_array(values, name)
            self.graph.initializer.append(self.stored[name])
        return name

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.graph.node.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output


def weight_levels(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return int8 levels and scales `(out,)` of the weight `(out, in, H, W)` of a convolution."""
    rows = weight.reshape(len(weight), -1)
    step = np.abs(rows).max(1) / LARGEST
    if weight.shape[1] > 1:
        pairs = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2))).reshape(len(rows), -1, 2)
        if weight.shape[2:] != (1, 1):  # the order of places and channels is the runtime's: any two may be a pair
            order = np.sort(rows, axis=1)
            pairs = np.stack([order[:, :2], order[:, -2:]], 1)
        same = np.maximum(pairs.clip(0).sum(2), (-pairs).clip(0).sum(2))  # a negative one's product lessens the sum
        step = np.maximum(step, same.max(1) / LARGEST)
    scale = np.maximum(step, 1e-12).astype(np.float32)
    return np.rint(weight / scale.reshape(-1, 1, 1, 1)).astype(np.int8), scale
