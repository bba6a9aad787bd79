"""Ready-made bodies: read, put together with their weights, and refused where a file is not what it was."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from safetensors.numpy import load, save

from mvp_edge.core.errors import ZooError
from mvp_edge.zoo.bodies import Body, BodyZoo, Features, open_bodies
from tests.bodies import COLOURS, pictures, rewrite


@pytest.fixture
def own(body_zoo: Path, tmp_path: Path) -> Path:
    """A zoo of bodies to be damaged."""
    return Path(shutil.copytree(body_zoo, tmp_path / "own"))


def opened(path: Path) -> BodyZoo:
    zoo = open_bodies(str(path))
    assert zoo is not None
    return zoo


def refused(path: Path, name: str = "tiny-16") -> str:
    """Return why a body cannot be read, which `verify` reports as its only problem."""
    zoo = opened(path)
    body = zoo.body(name)
    assert body is not None
    with pytest.raises(ZooError) as error:
        _ = zoo.graph(body, zoo.weights(body)), zoo.features(body)
    assert zoo.verify() == [str(error.value)]
    return str(error.value)


def test_bodies_come_with_the_most_costly_first(body_zoo: Path, tiny_zoo: Path) -> None:
    zoo = opened(body_zoo)
    assert [b.id for b in zoo.bodies] == ["tiny-32", "tiny-16", "tiny-8"]
    assert zoo.classes.names == tuple(COLOURS) and zoo.near == ((0, 1),)
    assert (zoo.base, zoo.arch, zoo.pixels) == ("tiny", "test_resnet", 32)
    assert zoo.body("none") is None and zoo.verify() == []
    assert open_bodies(str(tiny_zoo)) is None


@pytest.mark.parametrize(("name", "least"), [("tiny-32", 95), ("tiny-16", 90), ("tiny-8", 0)])
def test_a_body_with_its_weights_tells_the_classes_apart(body_zoo: Path, name: str, least: float) -> None:
    zoo = opened(body_zoo)
    body = zoo.body(name)
    assert body is not None
    graph = zoo.graph(body, zoo.weights(body))
    names = list(COLOURS) * 20
    logits = ort.InferenceSession(graph.SerializeToString()).run(None, {"image": pictures(names, body.pixels)})[0]
    right = 100 * float((np.asarray(logits).argmax(1) == np.tile(np.arange(10), 20)).mean())
    assert right >= least
    features = zoo.features(body)
    assert features.logits(np.arange(len(features.labels))).shape == (len(features.labels), 10)
    assert np.bincount(features.labels).tolist() == [20] * 9 + [4]


def test_json_and_back(body_zoo: Path) -> None:
    for body in opened(body_zoo).bodies:
        assert Body.from_json(json.loads(json.dumps(body.to_json()))) == body


def test_between_measured_numbers_of_names_the_logarithm_counts() -> None:
    body = Body("b", 8, "base", 1, 1, curve=((2, 90.0), (8, 70.0)), thresholds=((1, 1.0), (100, 3.0)))
    assert [body.expected_top1(n) for n in (2, 4, 8, 50)] == pytest.approx([90, 80, 70, 70])
    assert body.threshold(10) == pytest.approx(2) and body.threshold(100) == 3
    assert body.threshold(101) is None and body.most_names == 8
    assert replace(body, curve=()).expected_top1(4) is None and replace(body, thresholds=()).threshold(4) is None


@pytest.mark.parametrize("file", ["weights/tiny-16", "features/tiny-16", "bodies/tiny-16"])
def test_a_file_that_is_missing_or_another(own: Path, file: str) -> None:
    path = own / f"{file}.{'onnx' if file.startswith('bodies') else 'safetensors'}.gz"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"?")
    assert f"{path} does not match its checksum" in refused(own)
    path.unlink()
    assert f"{path} cannot be read" in refused(own)


@pytest.mark.parametrize(
    ("file", "wanted"),
    [
        ("weights/tiny-16.safetensors.gz", "is damaged"),
        ("features/tiny-16.safetensors.gz", "is damaged"),
        ("bodies/tiny-16.onnx.gz", "the graph of tiny-16 is damaged"),
    ],
)
@pytest.mark.parametrize("damage", ["cut", "no gzip", "other content"])
def test_a_file_that_cannot_be_unpacked(own: Path, file: str, wanted: str, damage: str) -> None:
    data = (own / file).read_bytes()
    rewrite(own, file, {"cut": data[:-9], "no gzip": b"letters", "other content": gzip.compress(b"letters")}[damage])
    assert wanted in refused(own)


def without(own: Path, file: str, tensor: str) -> None:
    tensors = load(gzip.decompress((own / file).read_bytes()))
    rewrite(own, file, gzip.compress(save({k: v for k, v in tensors.items() if k != tensor})))


def test_weights_that_lack_a_tensor(own: Path) -> None:
    without(own, "weights/tiny-16.safetensors.gz", "fc.bias")
    assert "the weights of tiny-16 lack fc.bias" in refused(own)


def test_features_that_lack_a_tensor(own: Path) -> None:
    without(own, "features/tiny-16.safetensors.gz", "rows")
    assert "the features of tiny-16 are damaged" in refused(own)


def test_the_repair_is_that_of_the_package_the_cache_or_the_zoo(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own / "weights/tiny-16.safetensors.gz").unlink()
    assert "copy the zoo again" in refused(own)
    monkeypatch.setenv("MVP_EDGE_CACHE", str(own.parent))
    made = Path(shutil.copytree(own, own.parent / "bases" / "tiny"))
    assert f"remove {made}, and it is made again" in refused(made)
    monkeypatch.setattr("mvp_edge.zoo.location.ASSETS", own.parent)
    assert "pip install" in refused(own)


def test_weights_that_bodies_share_are_one_problem(own: Path) -> None:
    (own / "base.safetensors.gz").write_bytes(b"")
    assert "base.safetensors.gz does not match its checksum" in refused(own, "tiny-32")


@pytest.mark.parametrize("key", ["near", "pictures", "bodies"])
def test_a_description_that_is_damaged(own: Path, key: str) -> None:
    value = json.loads((own / "zoo.json").read_text())
    value[key] = [{}] if key == "bodies" else 7
    if key == "pictures":
        del value[key]
    (own / "zoo.json").write_text(json.dumps(value))
    with pytest.raises(ZooError, match="damaged"):
        open_bodies(str(own))


def test_logits_of_labelled_classes_are_exact() -> None:
    few = {"basis": np.eye(2, 3), "rows": np.ones((3, 2)), "bias": np.arange(3.0), "coordinates": np.ones((1, 2))}
    found = Features(**few, labels=np.array([1]), exact=np.array([[9.0]]), exact_classes=np.array([1]))
    assert found.logits(np.array([0])).tolist() == [[2.0, 9.0, 4.0]]
