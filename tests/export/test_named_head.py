from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from mvp_edge.core.errors import ExportError
from mvp_edge.export.named_head import HEAD, KNOWN, LOGITS, TEMPERATURE, THRESHOLD, attach_head
from mvp_edge.names.known import FewRows, Split, class_cosines, known_score, listed_logits

CLASSES, FEATURES = 12, 5
# What int8 and phone runtimes have had for years.
OPERATORS = {"Gemm", "Gather", "ReduceMax", "Sub", "Exp", "MatMul", "Max", "Log", "Add", "Mul", "Reshape", "Identity"}
OPERATORS |= {"ReduceSum", "Sqrt", "Div"}


def split(*groups: tuple[int, ...], neutral: tuple[int, ...] = (), classes: int = CLASSES) -> Split:
    listed = tuple(sorted(i for group in groups for i in group))
    unlisted = tuple(i for i in range(classes) if i not in listed and i not in neutral)
    return Split(groups, listed, neutral, unlisted)


def body(
    kind: str = "gemm", opset: int = 17, classes: int = CLASSES, seed: int = 0, name: str = "y"
) -> tuple[onnx.ModelProto, np.ndarray, np.ndarray]:
    """Return a body that takes features `x`, and its weight and bias; `logits` takes the logits themselves."""
    rng = np.random.default_rng(seed)
    weight, bias = (rng.normal(0, 3, shape).astype(np.float32) for shape in ((classes, FEATURES), (classes,)))
    stored = {"w": weight.T if kind == "gemm-plain" else weight, "b": bias}
    if kind == "logits":
        nodes, stored, width = [helper.make_node("Identity", ["x"], [name])], {}, classes
    else:
        turned = 0 if kind == "gemm-plain" else 1
        nodes, width = [helper.make_node("Gemm", ["x", "w", "b"], [name], transB=turned)], FEATURES
        if kind == "gemm-scaled":
            nodes[0].attribute.append(helper.make_attribute("alpha", 2.0))
    graph = helper.make_graph(
        nodes,
        "body",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", width])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", classes])],
        [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(model, {"input_size": "[1, 1]"})
    return model, weight, bias


def run(model: onnx.ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return {name: np.asarray(v) for name, v in zip(names, session.run(names, {"x": x}), strict=True)}


def few_rows(seed: int = 2) -> FewRows:
    rng = np.random.default_rng(seed)
    shapes = (2, FEATURES), (CLASSES, 2), (CLASSES,), (FEATURES,)
    return FewRows(*(rng.normal(0, 1, shape).astype(np.float32) for shape in shapes))


def attached(model: onnx.ModelProto, of: Split, few: FewRows | None = None) -> onnx.ModelProto:
    names, threshold = [f"name {i}" for i in range(len(of.groups))], 1.25 if few else None
    return attach_head(model, of, names, known_threshold=threshold, temperature=0.75, few=few)


def score(x: np.ndarray, weight: np.ndarray, few: FewRows, of: Split) -> np.ndarray:
    """Return `known` of features: exact cosines of listed classes, those of a few dimensions of unlisted ones."""
    cosines, listed = few.cosines(x), list(of.listed)
    cosines[:, listed] = class_cosines(x, weight, few.mean)[:, listed]
    return known_score(cosines, of.listed, of.neutral)


SPLITS = [
    split((3,), (0,)),
    split((7, 2), (5,), neutral=(1, 11)),
    split((0, 1, 2), (8, 9, 10, 11), (4,), neutral=(3, 5)),
]


@pytest.mark.parametrize("opset", [13, 17, 18, 20])
@pytest.mark.parametrize("kind", ["gemm", "gemm-plain", "gemm-scaled", "logits"])
@pytest.mark.parametrize("of", SPLITS)
def test_the_head_is_numpy_s(of, kind, opset):
    model, weight, bias = body(kind, opset)
    x = np.random.default_rng(1).normal(0, 1, (6, CLASSES if kind == "logits" else FEATURES)).astype(np.float32)
    logits = x if kind == "logits" else (2 if kind == "gemm-scaled" else 1) * x @ weight.T + bias
    few = few_rows() if kind in ("gemm", "gemm-plain") else None
    found = run(attached(model, of, few), x)
    assert list(found) == ([LOGITS, KNOWN] if few else [LOGITS])
    assert found[LOGITS].shape == (6, len(of.groups))
    assert {v.dtype for v in found.values()} == {np.dtype(np.float32)}
    np.testing.assert_allclose(found[LOGITS], listed_logits(logits, of.groups), rtol=2e-5, atol=2e-5)
    if few:
        assert found[KNOWN].shape == (6,)
        np.testing.assert_allclose(found[KNOWN], score(x, weight, few, of), rtol=2e-5, atol=2e-5)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-300, 300, width=32), min_size=CLASSES, max_size=CLASSES), st.sampled_from(SPLITS))
def test_logits_of_any_size_give_finite_results(values, of):
    logits = np.array([values], np.float32)
    found = run(attached(body("logits")[0], of), logits)
    assert np.isfinite(found[LOGITS]).all()
    expected = listed_logits(logits, of.groups)
    floor = logits[:, list(of.listed)].max() - 69.0
    if len(of.listed) == len(of.groups):
        np.testing.assert_allclose(found[LOGITS], expected, rtol=1e-6)
    else:
        np.testing.assert_allclose(np.maximum(found[LOGITS], floor), np.maximum(expected, floor), rtol=1e-5, atol=0.1)
    assert found[LOGITS].argmax() in np.flatnonzero(expected >= expected.max() - 1e-3)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-300, 300, width=32), min_size=FEATURES, max_size=FEATURES), st.sampled_from(SPLITS))
def test_features_of_any_size_give_a_finite_score(values, of):
    (model, weight, _), few, x = body(), few_rows(), np.array([values], np.float32)
    found = run(attached(model, of, few), x)[KNOWN]
    assert np.isfinite(found).all()
    if np.linalg.norm(x - few.mean) > 1:
        np.testing.assert_allclose(found, score(x, weight, few, of), rtol=1e-5, atol=1e-3)


def test_features_without_a_direction_have_a_finite_score():
    few = few_rows()
    for of in SPLITS:
        assert np.isfinite(run(attached(body()[0], of, few), few.mean[None])[KNOWN]).all()


def test_only_rows_that_are_used_remain():
    of = SPLITS[1]
    model = attached(body()[0], of, few_rows())
    shapes = {t.name: tuple(t.dims) for t in model.graph.initializer}
    assert shapes[HEAD + "listed.weight"] == (3, FEATURES)
    assert shapes[HEAD + "few.weight"] == (2, FEATURES)
    assert shapes[HEAD + "unlisted.weight"] == (7, 2)
    assert not {"w", "b"} & shapes.keys()
    assert {n.op_type for n in model.graph.node} <= OPERATORS


def test_a_list_of_single_classes_gets_their_logits_as_they_are():
    model = attached(body()[0], SPLITS[0])
    (node,) = [n for n in model.graph.node if LOGITS in n.output]
    assert node.op_type == "Gemm"


@pytest.mark.parametrize("name", [LOGITS, KNOWN, "head.listed"])
@pytest.mark.parametrize("kind", ["gemm", "logits"])
def test_a_body_may_use_the_names_of_the_outputs(kind, name):
    x = np.random.default_rng(2).normal(size=(2, CLASSES if kind == "logits" else FEATURES)).astype(np.float32)
    for of in SPLITS[:2]:
        few = few_rows() if kind == "gemm" else None
        expected = run(attached(body(kind)[0], of, few), x)
        found = run(attached(body(kind, name=name)[0], of, few), x)
        assert list(found) == list(expected) and all((found[k] == expected[k]).all() for k in found)


def test_metadata_has_labels_threshold_and_temperature_beside_the_body_s_own():
    model, _, _ = body()
    before = model.SerializeToString()
    found = {p.key: p.value for p in attached(model, SPLITS[0], few_rows()).metadata_props}
    assert json.loads(found["labels"]) == ["name 0", "name 1"]
    assert (float(found[THRESHOLD]), float(found[TEMPERATURE])) == (1.25, 0.75)
    assert (THRESHOLD, TEMPERATURE) == ("mvp_edge.known_threshold", "mvp_edge.temperature")
    assert found["input_size"] == "[1, 1]"
    assert model.SerializeToString() == before


def test_a_body_that_does_not_fit_is_refused():
    model, _, _ = body()
    with pytest.raises(ExportError, match="20 or more classes"):
        attached(model, split((3,), (19,), classes=20))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.UINT8
    with pytest.raises(ExportError, match="float32"):
        attached(model, SPLITS[0])
    model.graph.ClearField("output")
    with pytest.raises(ExportError, match="no output"):
        attached(model, SPLITS[0])


def test_wrong_arguments():
    model, _, _ = body()
    with pytest.raises(ValueError, match="1 labels for 2 names"):
        attach_head(model, SPLITS[0], ["a"], known_threshold=None)
    with pytest.raises(ValueError, match="nothing to compute it by"):
        attach_head(model, SPLITS[0], ["a", "b"], known_threshold=0.0)
    for threshold, temperature in ((0.0, 0.0), (float("nan"), 1.0), (0.0, float("inf"))):
        with pytest.raises(ValueError, match="finite"):
            attach_head(model, SPLITS[0], ["a", "b"], known_threshold=threshold, temperature=temperature)


def test_torch_is_not_needed():
    code = "import sys, mvp_edge.export.named_head; sys.exit(any(m in sys.modules for m in ('torch', 'timm')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("of", SPLITS)
def test_the_score_may_be_left_out(of):
    model, weight, bias = body()
    made = attach_head(model, of, [f"name {i}" for i in range(len(of.groups))], known_threshold=None)
    x = np.random.default_rng(1).normal(0, 1, (6, FEATURES)).astype(np.float32)
    found = run(made, x)
    assert list(found) == [LOGITS]
    np.testing.assert_allclose(found[LOGITS], listed_logits(x @ weight.T + bias, of.groups), rtol=2e-5, atol=2e-5)
    assert THRESHOLD not in {p.key for p in made.metadata_props}
    sizes = sum(int(np.prod(t.dims)) for t in made.graph.initializer)
    assert sizes <= len(of.listed) * (FEATURES + 1) + len(of.listed) * len(of.groups) + 2


@pytest.mark.parametrize("opset", [11, 13, 17, 18, 20])
def test_the_score_may_be_the_nearness_to_the_mean_of_a_class(opset):
    model, weight, bias = body(opset=opset)
    of, means = SPLITS[1], np.random.default_rng(3).normal(0, 1, (2, FEATURES)).astype(np.float32)
    made = attach_head(model, of, ["a", "b"], known_threshold=0.5, means=means)
    x = np.random.default_rng(1).normal(0, 1, (6, FEATURES)).astype(np.float32)
    x[0] = 0  # has no direction
    found = run(made, x)
    norms = np.linalg.norm(x, axis=1).clip(1e-12)
    cosines = x @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T / norms[:, None]
    np.testing.assert_allclose(found[KNOWN], cosines.max(1), atol=1e-5)
    np.testing.assert_allclose(found[LOGITS], listed_logits(x @ weight.T + bias, of.groups), rtol=2e-5, atol=2e-5)
    assert {n.op_type for n in made.graph.node} <= OPERATORS
    ways: list[dict[str, Any]] = [{"means": means}, {"few": few_rows()}]
    for how in ways:
        with pytest.raises(ExportError, match="Gemm"):
            attach_head(body("logits")[0], of, ["a", "b"], known_threshold=0.5, **how)
