"""The head of a class list on a ready-made body: a logit for each name, and whether any of them is shown.

Without photographs that is computed from the logits of all classes of the base. With photographs it is computed from
how near the features are to those of the nearest class (cosine with the mean).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mvp_edge.core.errors import ExportError
from mvp_edge.core.packed import Packed, Stored
from mvp_edge.names.known import LEAST_VARIANCE, Split

LOGITS, KNOWN = "logits", "known"
THRESHOLD, TEMPERATURE = "mvp_edge.known_threshold", "mvp_edge.temperature"
# Sums of exponentials are kept from 0, whose logarithm is infinite: no name's logit is more than 69 below the best one.
LEAST = 1e-30


@dataclass(frozen=True, eq=False)
class LowRank:
    """A last layer in a few dimensions: `rows @ (basis @ features) + bias` are nearly the logits of all classes.

    Attributes:
        basis: `(K, D)`.
        rows: `(C, K)`.
        bias: `(C,)`.
    """

    basis: np.ndarray
    rows: np.ndarray
    bias: np.ndarray


def attach_head(
    body: onnx.ModelProto,
    split: Split,
    labels: Sequence[str],
    *,
    known_threshold: float | None,
    temperature: float = 1.0,
    unlisted: LowRank | None = None,
    means: np.ndarray | None = None,
) -> onnx.ModelProto:
    """Return a copy of a body with the head of a class list in place of its own outputs.

    Output `logits`, float32 `(N, names)`: `names.known.listed_logits`. Output `known`, float32 `(N,)`:
    `names.known.known_score`, or with `means` the greatest cosine with one of them. Where the body ends with a Gemm,
    only its rows of listed and unlisted classes remain; rows of neutral classes are dropped. The head is made of Gemm
    or Gather, ReduceMax, ReduceSum, Sub, Exp, MatMul, Max, Log, Add, Mul, Div, Sqrt and Reshape.

    Args:
        body: Its first output are logits `(N, C)` of all classes of the base.
        split: Which of these are listed and which are not.
        labels: Names in the order of `split.groups`, for the metadata `labels`.
        known_threshold: Least score of a picture that shows a listed class, for the metadata; None leaves out `known`.
        temperature: What logits are divided by before the softmax, above 0, for the metadata.
        unlisted: The last layer in a few dimensions, which the unlisted classes are computed by; they are most classes
            of a base, and their own rows would be a quarter of a small network's bytes.
        means: Mean features `(names, D)` of pictures of each name.

    Raises:
        ExportError: The body has no output `(N, C)` of floats that has all classes of the split; or there are means,
            and it does not end with a Gemm.
        ValueError: There is not one label for each group, or the temperature is not above 0.
    """
    if len(labels) != len(split.groups):
        raise ValueError(f"{len(labels)} labels for {len(split.groups)} names")
    if not temperature > 0 or not np.isfinite([temperature, known_threshold or 0]).all():
        raise ValueError(
            f"temperature {temperature}, threshold {known_threshold}: finite numbers are required, above 0"
        )
    model = onnx.ModelProto()
    model.CopyFrom(body)
    graph = model.graph
    batch = _check_output(graph, 1 + max(*split.listed, *split.neutral, *split.unlisted))
    order = [i for group in split.groups for i in group]
    head = _Nodes(graph, next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1))
    single = len(order) == len(split.groups)
    listed = head.classes(order, LOGITS if single else "listed")
    others = None if known_threshold is None or means is not None else head.unlisted(split.unlisted, unlisted)
    graph.ClearField("output")
    top, below = ("", "") if single and others is None else head.exponentials(listed, "listed")
    if not single:
        members = np.repeat(np.eye(len(split.groups)), [len(g) for g in split.groups], axis=0)
        sums = head.add("MatMul", [below, head.store("names.members", members)], "names.sums")
        least = head.add("Max", [sums, head.store("names.floor", np.array([LEAST]))], "names.least")
        head.add("Add", [head.add("Log", [least], "names.log"), top], LOGITS)
    graph.output.append(helper.make_tensor_value_info(LOGITS, onnx.TensorProto.FLOAT, [batch, len(split.groups)]))
    about = {"labels": json.dumps(list(labels)), TEMPERATURE: repr(float(temperature))}
    if others is not None:
        any_listed = head.any_of(top, below, len(order), "listed")
        any_other = head.any_of(*head.exponentials(others, "unlisted"), len(split.unlisted), "unlisted")
        odds = head.add("Sub", [any_listed, any_other], "odds")
        spread = head.spread({"listed": (listed, len(order)), "unlisted": (others, len(split.unlisted))})
        flat = head.store("known.shape", np.array([-1]), np.int64)
        head.add("Reshape", [head.add("Div", [odds, spread], "score"), flat], KNOWN)
    elif known_threshold is not None and means is not None:
        head.nearest(means)
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
        basis: That of `LowRank`.
        rows: That of `LowRank`.
    """
    order, others = [i for group in split.groups for i in group], list(split.unlisted)
    listed = LOGITS if len(order) == len(split.groups) else "listed"
    few = rows.rows(others) if isinstance(rows, Packed) else rows[others]
    own = classifier.rows(order) if isinstance(classifier, Packed) else classifier[order]
    return {f"head.{listed}.weight": own, "head.few.weight": basis, "head.unlisted.weight": few}


class _Nodes:
    """Appends nodes to a graph, whose own names they do not take."""

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
        output = output if output in (LOGITS, KNOWN) else f"head.{output}"
        self.graph.node.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def store(self, name: str, values: np.ndarray, dtype: type = np.float32) -> str:
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype), f"head.{name}"))
        return f"head.{name}"

    def classes(self, order: Sequence[int], output: str) -> str:
        """Add what gives the logits of some classes: a Gemm of their rows, or a choice from all logits."""
        rows = self._rows()
        if rows is None:
            return self.add(
                "Gather", [self.source, self.store(f"{output}.order", np.array(order), np.int64)], output, axis=1
            )
        features, weight, bias = rows
        parts = [self.store(f"{output}.weight", weight[list(order)]), self.store(f"{output}.bias", bias[list(order)])]
        return self.add("Gemm", [features, *parts], output, transB=1)

    def unlisted(self, order: Sequence[int], few: LowRank | None) -> str:
        """Add what gives the logits of unlisted classes, through a few dimensions where these are given."""
        if few is None or self.gemm is None:
            return self.classes(order, "unlisted")
        zero = self.store("few.bias", np.zeros(len(few.basis)))
        narrow = self.add("Gemm", [self.gemm.input[0], self.store("few.weight", few.basis), zero], "few", transB=1)
        parts = [
            self.store("unlisted.weight", few.rows[list(order)]),
            self.store("unlisted.bias", few.bias[list(order)]),
        ]
        return self.add("Gemm", [narrow, *parts], "unlisted", transB=1)

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
        if self.gemm is None:
            raise ExportError("the body does not end with a Gemm, so that its features are unknown")
        units = means / np.linalg.norm(means, axis=1, keepdims=True).clip(LEAST)
        features, zero = self.gemm.input[0], self.store("means.bias", np.zeros(len(means)))
        cosines = self.add("Gemm", [features, self.store("means.weight", units), zero], "cosines", transB=1)
        squares = self.add("Mul", [features, features], "squares")
        total = self.reduce("ReduceSum", squares, "squares", since=13)
        norm = self.add("Sqrt", [self.add("Add", [total, self.store("floor", np.array([LEAST]))], "positive")], "norm")
        top = self.reduce("ReduceMax", cosines, "cosines")
        flat = self.store("known.shape", np.array([-1]), np.int64)
        self.add("Reshape", [self.add("Div", [top, norm], "cosine"), flat], KNOWN)

    def any_of(self, top: str, below: str, classes: int, part: str) -> str:
        """Add the log-sum-exp of all; the sum is 1 at least."""
        total = self.add("MatMul", [below, self.store(f"{part}.ones", np.ones((classes, 1)))], f"{part}.sum")
        return self.add("Add", [self.add("Log", [total], f"{part}.log"), top], f"{part}.any")

    def spread(self, parts: Mapping[str, tuple[str, int]]) -> str:
        """Add the root of the standard deviation of logits of several parts together, each `(N, K)` with its K."""
        count = sum(classes for _, classes in parts.values())
        shares = {p: self.store(f"{p}.shares", np.full((k, 1), 1 / count)) for p, (_, k) in parts.items()}

        def mean_of(values: Mapping[str, str], name: str) -> str:
            sums = [self.add("MatMul", [v, shares[part]], f"{part}.{name}") for part, v in values.items()]
            return self.add("Add", sums, name)

        mean = mean_of({part: logits for part, (logits, _) in parts.items()}, "mean")
        apart = {part: self.add("Sub", [logits, mean], f"{part}.apart") for part, (logits, _) in parts.items()}
        squares = {part: self.add("Mul", [v, v], f"{part}.squares") for part, v in apart.items()}
        least = self.store("variance.least", np.array([LEAST_VARIANCE]))
        positive = self.add("Add", [mean_of(squares, "variance"), least], "positive")
        return self.add("Sqrt", [self.add("Sqrt", [positive], "deviation")], "spread")

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
