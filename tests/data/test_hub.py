"""Data sets of the hub, with a stand-in for the package `datasets`, and with the package where it is installed."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mvp_edge.core.errors import DataError
from mvp_edge.data import hub, open_source

from .conftest import SIZE, fill


class Image:
    """As `datasets.Image`."""

    dtype = "PIL"

    def __init__(self, decode: bool = True) -> None:
        self.decode = decode


class ClassLabel:
    """As `datasets.ClassLabel`."""

    dtype = "int64"

    def __init__(self, names: list[str]) -> None:
        self.names = names


class Value:
    """As `datasets.Value`."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype


class Rows:
    """As `datasets.Dataset`."""

    def __init__(self, features: dict[str, Any], rows: list[dict[str, Any]]) -> None:
        self.features, self.rows = features, rows

    def __len__(self) -> int:
        return len(self.rows)

    def select_columns(self, names: list[str]) -> Rows:
        return Rows({n: self.features[n] for n in names}, [{n: row[n] for n in names} for row in self.rows])

    def cast_column(self, name: str, feature: Image) -> list[dict[str, Any]]:
        assert name in self.features
        assert not feature.decode
        return self.rows


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `load_dataset` returns, or raises, next; then what it was called with."""
    calls: list[Any] = []

    def load_dataset(name: str, config: str | None, revision: str | None) -> Any:
        result = calls.pop()
        calls.append((name, config, revision))
        if isinstance(result, Exception):
            raise result
        return result

    module, errors = ModuleType("datasets"), ModuleType("datasets.exceptions")
    vars(module).update(load_dataset=load_dataset, Image=Image)
    vars(errors).update(DatasetsError=type("DatasetsError", (Exception,), {}))
    monkeypatch.setitem(sys.modules, "datasets", module)
    monkeypatch.setitem(sys.modules, "datasets.exceptions", errors)
    monkeypatch.setattr(hub, "_copied", {})
    return calls


def _rows(tmp_path: Path, labels: list[Any], feature: Any = None, start: int = 0) -> Rows:
    fill(tmp_path, len(labels), start)
    files = [tmp_path / f"image{i:03d}.png" for i in range(start, start + len(labels))]
    pictures: list[Any] = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    features = {"img": Image(), "label": feature or ClassLabel(["fox", "a/b"]), "id": Value("int64")}
    return Rows(features, [{"img": p, "label": y, "id": 0} for p, y in zip(pictures, labels, strict=True)])


def test_splits_and_classes(tmp_path: Path, loads: list[Any]) -> None:
    splits = {
        "train": _rows(tmp_path, [0, 1, 1, -1, None]),
        "validation": _rows(tmp_path, [1], start=10),
        "test": _rows(tmp_path, [0, 1], start=20),
        "unsupervised": _rows(tmp_path, [0, 0], start=30),
    }
    loads.append(splits)
    source = open_source("hf://datasets/org/na-me@v1?config=small")
    assert loads == [("org/na-me", "small", "v1")]
    assert source.classes == ("a/b", "fox")
    assert source.load(["fox", "a/b"], "train", SIZE).images[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert source.load(["a/b"], "val", SIZE).images[:, 0, 0, 0].tolist() == [10]
    test = source.load(None, "test", SIZE)
    assert test.images[:, 0, 0, 0].tolist() == [21, 20]
    assert test.files[0] == "hf://datasets/org/na-me@v1?config=small/test/0000001.png"
    assert {each.reason: len(each.files) for each in source.listing.aside} == {
        "without a class": 2, "of split unsupervised, which is not one of train, val and test": 2,
    }  # fmt: skip
    assert source.listing.given == 10
    assert source.location.is_dir()
    with pytest.raises(DataError, match=f"no val images for fox; add some to {re.escape(source.name)} or") as caught:
        source.load(["owl", "fox"], "val", SIZE)
    assert str(source.location) not in str(caught.value)
    open_source("hf://datasets/org/na-me@v1?config=small", "folder")  # is not loaded again


def test_pictures_that_are_files(tmp_path: Path, loads: list[Any]) -> None:
    rows = _rows(tmp_path, ["b", "a", "a"], Value("string"))
    for i, row in enumerate(rows.rows[1:]):
        row["img"] = {"bytes": None, "path": str(tmp_path / f"image{i + 1:03d}.png")}
    rows.rows[2]["img"] = None
    loads.append({"train": rows})
    source = open_source("hf://datasets/org/name")
    assert source.classes == ("a", "b")
    assert source.load(["a"], "train", SIZE).images[:, 0, 0, 0].tolist() == [1]
    assert [(each.reason, len(each.files)) for each in source.listing.aside] == [("without a path", 1)]


def test_which_column(tmp_path: Path, loads: list[Any]) -> None:
    rows = _rows(tmp_path, [0, 1])
    rows.features["coarse"] = ClassLabel(["all"])
    for row in rows.rows:
        row["coarse"] = 0
    loads.append({"train": rows})
    with pytest.raises(DataError, match=r"choose one with \?label=, such as hf://datasets/org/name\?label=label"):
        open_source("hf://datasets/org/name")
    loads[:] = [{"train": rows}]
    assert open_source("hf://datasets/org/name?label=coarse").classes == ("all",)
    del rows.features["coarse"], rows.features["label"]
    loads[:] = [{"train": rows}]
    with pytest.raises(
        DataError, match=r"one column of images and one of classes, and has img \(Image\), id \(Value\)"
    ):
        open_source("hf://datasets/org/name")


@pytest.mark.parametrize("spec", ["name", "org/name?split=train", "a/b/c", ""])
def test_what_is_no_data_set(spec: str) -> None:
    with pytest.raises(DataError, match="is not of the form hf://datasets/ORG/NAME"):
        open_source(f"hf://datasets/{spec}")


@pytest.mark.parametrize("error", [FileNotFoundError("no such\ndata set"), ValueError("Config name is missing")])
def test_a_data_set_that_cannot_be_loaded(loads: list[Any], error: Exception) -> None:
    loads.append(error)
    with pytest.raises(DataError, match="cannot be loaded: (no such data set|Config name is missing)"):
        open_source("hf://datasets/org/name")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'mvp-edge\[hub\]'"):
        open_source("hf://datasets/org/name")


@pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="datasets is not installed")
def test_the_package_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate(("train/cat", "train/dog", "test/cat", "test/dog")):
        fill(tmp_path / "org" / "name" / name, 2, 10 * number)
    monkeypatch.chdir(tmp_path)  # `datasets` takes a folder for a data set of that name
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    source = open_source("hf://datasets/org/name")
    assert source.load(["cat", "dog"], "train", SIZE).images[:, 0, 0, 0].tolist() == [0, 1, 10, 11]
    assert source.count(None, "test") == 4


def test_stand_in_is_like_the_package() -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(a=datasets.ClassLabel(names=["x"]), b=datasets.Image(), c=datasets.Value("string"))
    assert [type(f).__name__ for f in features.values()] == ["ClassLabel", "Image", "Value"]
    assert (features["a"].names, features["a"].dtype, features["c"].dtype) == (["x"], "int64", "string")
