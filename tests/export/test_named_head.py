from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from mvp_edge.core.errors import ExportError
from mvp_edge.export.named_head import KNOWN, LOGITS, TEMPERATURE, THRESHOLD, LowRank, attach_head
from mvp_edge.names.known import LEAST_VARIANCE, Split, known_score, listed_logits

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


def attached(model: onnx.ModelProto, of: Split) -> onnx.ModelProto:
    return attach_head(model, of, [f"name {i}" for i in range(len(of.groups))], known_threshold=1.25, temperature=0.75)


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
    found = run(attached(model, of), x)
    assert list(found) == [LOGITS, KNOWN]
    assert found[LOGITS].shape == (6, len(of.groups))
    assert found[KNOWN].shape == (6,)
    assert {v.dtype for v in found.values()} == {np.dtype(np.float32)}
    np.testing.assert_allclose(found[LOGITS], listed_logits(logits, of.groups), rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(found[KNOWN], known_score(logits, of.listed, of.neutral), rtol=2e-5, atol=2e-5)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-300, 300, width=32), min_size=CLASSES, max_size=CLASSES), st.sampled_from(SPLITS))
def test_logits_of_any_size_give_finite_results(values, of):
    logits = np.array([values], np.float32)
    found = run(attached(body("logits")[0], of), logits)
    assert all(np.isfinite(v).all() for v in found.values())
    score, used = known_score(logits, of.listed, of.neutral), sorted({*of.listed, *of.unlisted})
    spread = (logits[:, used].var() + LEAST_VARIANCE) ** 0.25
    np.testing.assert_allclose(found[KNOWN] * spread, score * spread, rtol=1e-5, atol=1e-3)
    expected = listed_logits(logits, of.groups)
    floor = logits[:, list(of.listed)].max() - 69.0
    if len(of.listed) == len(of.groups):
        np.testing.assert_allclose(found[LOGITS], expected, rtol=1e-6)
    else:
        np.testing.assert_allclose(np.maximum(found[LOGITS], floor), np.maximum(expected, floor), rtol=1e-5, atol=0.1)
    assert found[LOGITS].argmax() in np.flatnonzero(expected >= expected.max() - 1e-3)


def test_only_rows_that_are_used_remain():
    of = SPLITS[1]
    model = attached(body()[0], of)
    shapes = {t.name: tuple(t.dims) for t in model.graph.initializer}
    assert shapes["head.listed.weight"] == (3, FEATURES)
    assert shapes["head.unlisted.weight"] == (7, FEATURES)
    assert not {"w", "b"} & shapes.keys()
    assert sum(n.op_type == "Gemm" for n in model.graph.node) == 2
    assert {n.op_type for n in model.graph.node} <= OPERATORS


def test_a_list_of_single_classes_gets_their_logits_as_they_are():
    model = attached(body()[0], SPLITS[0])
    (node,) = [n for n in model.graph.node if LOGITS in n.output]
    assert node.op_type == "Gemm"


@pytest.mark.parametrize("name", [LOGITS, KNOWN])
@pytest.mark.parametrize("kind", ["gemm", "logits"])
def test_a_body_may_use_the_names_of_the_outputs(kind, name):
    x = np.random.default_rng(2).normal(size=(2, CLASSES if kind == "logits" else FEATURES)).astype(np.float32)
    for of in SPLITS[:2]:
        expected = run(attached(body(kind)[0], of), x)
        found = run(attached(body(kind, name=name)[0], of), x)
        assert all((found[k] == expected[k]).all() for k in (LOGITS, KNOWN))


def test_metadata_has_labels_threshold_and_temperature_beside_the_body_s_own():
    model, _, _ = body()
    before = model.SerializeToString()
    found = {p.key: p.value for p in attached(model, SPLITS[0]).metadata_props}
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
        attach_head(model, SPLITS[0], ["a"], known_threshold=0.0)
    for threshold, temperature in ((0.0, 0.0), (float("nan"), 1.0), (0.0, float("inf"))):
        with pytest.raises(ValueError, match="finite"):
            attach_head(model, SPLITS[0], ["a", "b"], known_threshold=threshold, temperature=temperature)


def test_torch_is_not_needed():
    code = "import sys, mvp_edge.export.named_head; sys.exit(any(m in sys.modules for m in ('torch', 'timm')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("of", SPLITS)
def test_unlisted_classes_may_be_computed_in_a_few_dimensions(of):
    model, weight, bias = body()
    rows = np.linalg.qr(np.random.default_rng(2).normal(size=(CLASSES, 2)))[0].astype(np.float32)
    few = LowRank(rows.T @ weight, rows, bias + 1)
    labels = [f"name {i}" for i in range(len(of.groups))]
    x = np.random.default_rng(1).normal(0, 1, (6, FEATURES)).astype(np.float32)
    found = run(attach_head(model, of, labels, known_threshold=0.0, unlisted=few), x)
    exact, nearly = x @ weight.T + bias, x @ (rows @ few.basis).T + bias + 1
    nearly[:, list(of.listed)] = exact[:, list(of.listed)]
    np.testing.assert_allclose(found[LOGITS], listed_logits(exact, of.groups), rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(found[KNOWN], known_score(nearly, of.listed, of.neutral), rtol=2e-5, atol=2e-5)


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
    with pytest.raises(ExportError, match="Gemm"):
        attach_head(body("logits")[0], of, ["a", "b"], known_threshold=0.5, means=means)
