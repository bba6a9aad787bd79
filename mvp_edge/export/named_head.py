"""The head of a class list on a ready-made body: a logit for each name, and whether any of them is shown.

Without photographs the latter is computed from how near the features are to rows of listed and unlisted classes of the
base, with photographs from how near they are to those of the nearest class (cosine with the mean).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mvp_edge.core.errors import ExportError
from mvp_edge.core.packed import Packed, Stored
from mvp_edge.names.known import GAIN, LEAST_NORM, UNLISTED, FewRows, Split, norms

LOGITS, KNOWN = "logits", "known"
HEAD = "mvp_edge."  # how names begin of what is added to a body, whose own are those of its modules
THRESHOLD, TEMPERATURE = "mvp_edge.known_threshold", "mvp_edge.temperature"
# Sums of exponentials are kept from 0, whose logarithm is infinite: no name's logit is more than 69 below the best one.
LEAST = 1e-30


def attach_head(
    body: onnx.ModelProto,
    split: Split,
    labels: Sequence[str],
    *,
    known_threshold: float | None,
    temperature: float = 1.0,
    few: FewRows | None = None,
    means: np.ndarray | None = None,
) -> onnx.ModelProto:
    """Return a copy of a body with the head of a class list in place of its own outputs.

    Output `logits`, float32 `(N, names)`: `names.known.listed_logits`. Output `known`, float32 `(N,)`:
    `names.known.known_score` of exact cosines for listed classes and of `few` for unlisted ones, or with `means` the
    greatest cosine with one of them. Where the body ends with a Gemm, only its rows of listed classes remain. The head
    is made of Gemm or Gather, ReduceMax, ReduceSum, Sub, Exp, MatMul, Max, Log, Add, Mul, Div, Sqrt and Reshape.

    Args:
        body: Its first output are logits `(N, C)` of all classes of the base.
        split: Which of these are listed and which are not.
        labels: Names in the order of `split.groups`, for the metadata `labels`.
        known_threshold: Least score of a picture that shows a listed class, for the metadata; None leaves out `known`.
        temperature: What logits are divided by before the softmax, above 0, for the metadata.
        few: What unlisted classes are computed by.
        means: Mean features `(names, D)` of pictures of each name.

    Raises:
        ExportError: The body has no output `(N, C)` of floats that has all classes of the split; or `known` is wanted,
            and it does not end with a Gemm with stored weights.
        ValueError: There is not one label for each group, the temperature is not above 0, or there is a threshold and
            nothing to compute `known` by.
    """
    if len(labels) != len(split.groups):
        raise ValueError(f"{len(labels)} labels for {len(split.groups)} names")
    if not temperature > 0 or not np.isfinite([temperature, known_threshold or 0]).all():
        raise ValueError(
            f"temperature {temperature}, threshold {known_threshold}: finite numbers are required, above 0"
        )
    if known_threshold is not None and few is None and means is None:
        raise ValueError("a threshold of `known`, and nothing to compute it by: rows in few dimensions or means")
    model = onnx.ModelProto()
    model.CopyFrom(body)
    graph = model.graph
    batch = _check_output(graph, 1 + max(*split.listed, *split.neutral, *split.unlisted))
    order = [i for group in split.groups for i in group]
    head = _Nodes(graph, next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1))
    single = len(order) == len(split.groups)
    listed = head.classes(order, LOGITS if single else "listed")
    graph.ClearField("output")
    if not single:
        top, below = head.exponentials(listed, "listed")
        members = np.repeat(np.eye(len(split.groups)), [len(g) for g in split.groups], axis=0)
        sums = head.add("MatMul", [below, head.store("names.members", members)], "names.sums")
        least = head.add("Max", [sums, head.store("names.floor", np.array([LEAST]))], "names.least")
        head.add("Add", [head.add("Log", [least], "names.log"), top], LOGITS)
    graph.output.append(helper.make_tensor_value_info(LOGITS, onnx.TensorProto.FLOAT, [batch, len(split.groups)]))
    about = {"labels": json.dumps(list(labels)), TEMPERATURE: repr(float(temperature))}
    if known_threshold is not None and means is not None:
        head.nearest(means)
    elif known_threshold is not None and few is not None:
        head.score(listed, order, split.unlisted, few)
    if known_threshold is not None:
        graph.output.append(helper.make_tensor_value_info(KNOWN, onnx.TensorProto.FLOAT, [batch]))
        about[THRESHOLD] = repr(known_threshold)
    head.drop_unused()
    _describe(model, about)
    onnx.checker.check_model(model)
    return model


def _check_output(graph: onnx.GraphProto, classes: int) -> str | int:
    """Return the batch dimension of the logits, as a name or a number."""
    shape = graph.output[0].type.tensor_type.shape.dim if graph.output else []
    found = [d.dim_param or d.dim_value for d in shape]
    is_float = bool(graph.output) and graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    if not is_float or len(found) != 2 or (isinstance(found[1], int) and found[1] < classes):
        raise ExportError(
            f"the body gives {found or 'no output'}; float32 logits (N, C) of {classes} or more classes are required"
        )
    return found[0] or "batch"


def stored_head(split: Split, classifier: Stored, basis: Stored, rows: Stored) -> dict[str, Stored]:
    """Return the stored forms of the weights of a head of `attach_head`, by their names.

    Args:
        split: As for `attach_head`.
        classifier: Weight `(C, D)` of the body's last layer as it is stored.
        basis: That of `FewRows`.
        rows: That of `FewRows`.
    """
    order, others = [i for group in split.groups for i in group], list(split.unlisted)
    listed = LOGITS if len(order) == len(split.groups) else "listed"
    few = rows.rows(others) if isinstance(rows, Packed) else rows[others]
    own = classifier.rows(order) if isinstance(classifier, Packed) else classifier[order]
    return {f"{HEAD}{listed}.weight": own, f"{HEAD}few.weight": basis, f"{HEAD}unlisted.weight": few}


class _Nodes:
    """Appends nodes to a graph; if its own have the names of the outputs to come, they get others."""

    def __init__(self, graph: onnx.GraphProto, opset: int) -> None:
        self.graph, self.opset = graph, opset
        self.source = graph.output[0].name
        self.gemm = next((n for n in graph.node if self.source in n.output and n.op_type == "Gemm"), None)
        self.taken = {name for n in graph.node for name in (*n.input, *n.output, n.name)}
        self.taken |= {t.name for t in graph.initializer} | {i.name for i in graph.input}
        for name in (LOGITS, KNOWN):  # names of the outputs to come
            if name in self.taken:
                self._rename(name, f"body.{name}")

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        output = output if output in (LOGITS, KNOWN) else HEAD + output
        self.graph.node.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def store(self, name: str, values: np.ndarray, dtype: type = np.float32) -> str:
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype), HEAD + name))
        return HEAD + name

    def classes(self, order: Sequence[int], output: str) -> str:
        """Add what gives the logits of some classes: a Gemm of their rows, or a choice from all logits."""
        rows = self._rows()
        if rows is None:
            return self.add(
                "Gather", [self.source, self.store(f"{output}.order", np.array(order), np.int64)], output, axis=1
            )
        features, weight, bias = rows
        return self.linear(features, weight[list(order)], bias[list(order)], output)

    def reduce(self, operator: str, values: str, part: str, since: int = 18) -> str:
        """Add a reduction of the values of each image, `(N, 1)`; its axes are an input since some opset."""
        axes: list[str] = [self.store(f"{part}.axes", np.array([1]), np.int64)] if self.opset >= since else []
        old: dict[str, Any] = {} if axes else {"axes": [1]}
        return self.add(operator, [values, *axes], f"{part}.{operator}", keepdims=1, **old)

    def exponentials(self, logits: str, part: str) -> tuple[str, str]:
        """Add the greatest logit, and the exponentials of all relative to it."""
        top = self.reduce("ReduceMax", logits, part)
        return top, self.add("Exp", [self.add("Sub", [logits, top], f"{part}.below")], f"{part}.exp")

    def nearest(self, means: np.ndarray) -> None:
        """Add the greatest cosine of the features with one of the means."""
        features, _, _ = self._needed_rows()
        units = means / norms(means)
        cosines = self.linear(features, units, np.zeros(len(means)), "means")
        self.known("Div", self.reduce("ReduceMax", cosines, "cosines"), self.norm(features))

    def score(self, listed: str, order: Sequence[int], others: Sequence[int], few: FewRows) -> None:
        """Add the score of `names.known.known_score`, of listed logits and of the features."""
        features, weight, bias = self._needed_rows()
        mean_row = weight.mean(axis=0)
        lengths = norms(weight - mean_row)[list(order), 0]
        apart = self.add("Sub", [features, self.store("mean", few.mean)], "apart")
        shared = self.linear(apart, mean_row[None], np.zeros(1), "shared")
        usual = self.store("usual", (weight @ few.mean + bias)[list(order)])
        own = self.add("Sub", [self.add("Sub", [listed, usual], "unusual"), shared], "own")
        narrow = self.linear(features, few.basis, np.zeros(len(few.basis)), "few")
        other = self.linear(narrow, few.rows[list(others)], few.bias[list(others)], "unlisted")
        parts = {
            "listed": self.add("Mul", [own, self.store("lengths", 1 / lengths)], "listed.part"),
            "unlisted": other,
        }
        share = self.add("Mul", [self.norm(apart), self.store("gain", np.array([1 / GAIN]))], "share")
        any_listed, any_other = (
            self.any_of(self.add("Div", [values, share], f"{part}.cosines"), part) for part, values in parts.items()
        )
        half = self.add("Mul", [any_other, self.store("half", np.array([UNLISTED]))], "unlisted.half")
        self.known("Sub", any_listed, half)

    def known(self, operator: str, one: str, other: str) -> None:
        """Add the output `known` from two values `(N, 1)`."""
        flat = self.store("known.shape", np.array([-1]), np.int64)
        self.add("Reshape", [self.add(operator, [one, other], "score"), flat], KNOWN)

    def linear(self, values: str, weight: np.ndarray, bias: np.ndarray, name: str) -> str:
        """Add `values @ weight.T + bias`."""
        parts = [self.store(f"{name}.weight", weight), self.store(f"{name}.bias", bias)]
        return self.add("Gemm", [values, *parts], name, transB=1)

    def norm(self, values: str) -> str:
        """Add the Euclidean norm of the values of each image, `(N, 1)`, never 0."""
        total = self.reduce("ReduceSum", self.add("Mul", [values, values], "squares"), "squares", since=13)
        return self.add(
            "Sqrt", [self.add("Add", [total, self.store("floor", np.array([LEAST_NORM**2]))], "positive")], "norm"
        )

    def any_of(self, values: str, part: str) -> str:
        """Add the log-sum-exp of all; the sum is 1 at least."""
        top, below = self.exponentials(values, f"{part}.any")
        total = self.reduce("ReduceSum", below, f"{part}.sum", since=13)
        return self.add("Add", [self.add("Log", [total], f"{part}.log"), top], f"{part}.any")

    def drop_unused(self) -> None:
        """Remove nodes and tensors that nothing reads any more: the body's own head."""
        read = {name for node in self.graph.node for name in node.input} | {o.name for o in self.graph.output}
        if self.gemm is not None and self.source not in read:
            self.graph.node.remove(self.gemm)
            read = {name for node in self.graph.node for name in node.input}
        for tensor in [t for t in self.graph.initializer if t.name not in read]:
            self.graph.initializer.remove(tensor)

    def _rows(self) -> tuple[str, np.ndarray, np.ndarray] | None:
        """Return features, weight `(C, D)` and bias `(C,)` of a final Gemm with stored weights, if there is one."""
        if self.gemm is None:
            return None
        tensors = {t.name: t for t in self.graph.initializer}
        own = {a.name: helper.get_attribute_value(a) for a in self.gemm.attribute}
        plain = own.get("alpha", 1) == own.get("beta", 1) == 1 and not own.get("transA", 0)
        features, *stored = self.gemm.input
        if not plain or len(stored) != 2 or any(name not in tensors for name in stored):
            return None
        weight, bias = (numpy_helper.to_array(tensors[name]) for name in stored)
        weight = weight if own.get("transB", 0) else weight.T
        return features, weight, np.broadcast_to(bias, (1, len(weight))).reshape(-1)

    def _needed_rows(self) -> tuple[str, np.ndarray, np.ndarray]:
        if (rows := self._rows()) is None:
            raise ExportError("the body does not end with a Gemm with stored weights, so that its features are unknown")
        return rows

    def _rename(self, old: str, new: str) -> None:
        for node in self.graph.node:
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]
        for tensor in self.graph.initializer:
            tensor.name = new if tensor.name == old else tensor.name
        self.source = new if self.source == old else self.source


def _describe(model: onnx.ModelProto, values: Mapping[str, str]) -> None:
    kept = {p.key: p.value for p in model.metadata_props}
    helper.set_model_props(model, {**kept, **values})
