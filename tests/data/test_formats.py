"""What the files of each public data set mean."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torchvision

from mvp_edge.core.errors import DataError
from mvp_edge.data import folder, formats, named, open_source

from .conftest import SIZE, fill, put, record

CIFAR10 = {
    **{f"cifar-10-batches-bin/data_batch_{i}.bin": record([i % 2], i) for i in range(1, 6)},
    "cifar-10-batches-bin/test_batch.bin": record([1], 50) + record([0], 60),
    "cifar-10-batches-bin/batches.meta.txt": b"airplane\nautomobile\n",
}


def test_cifar10(cache: Path) -> None:
    put(cache, "cifar10", CIFAR10)
    data = open_source("cifar10").load(["airplane", "automobile"], "train", (32, 32))
    assert data.images[:, 0, 0, 0].tolist() == [2, 4, 1, 3, 5]
    assert open_source("cifar10").load(["automobile"], "test", (32, 32)).images[0, 2, 0, 0] == 52


def test_stl10(cache: Path) -> None:
    image = np.zeros((3, 96, 96), dtype=np.uint8)
    image[:, 5, :] = 200  # column 5, as the pixels lie column by column
    files = {
        "stl10_binary/class_names.txt": b"airplane\nbird\n",
        "stl10_binary/train_X.bin": image.tobytes() * 2,
        "stl10_binary/train_y.bin": bytes([2, 1]),
        "stl10_binary/test_X.bin": image.tobytes(),
        "stl10_binary/test_y.bin": bytes([1]),
    }
    root = put(cache, "stl10", files)
    data = open_source("stl10").load(["bird"], "train", (96, 96))
    assert data.images.shape == (1, 3, 96, 96)
    assert data.images[0, 0, 0].nonzero().tolist() == [[5]]
    (root / "stl10_binary" / "test_y.bin").write_bytes(bytes([1, 1]))
    with pytest.raises(DataError, match="1 test images but 2 labels"):
        open_source("stl10")


def test_caltech101(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(*, root: str, download: bool) -> None:
        folder = Path(root) / "caltech101" / "101_ObjectCategories"
        for name in ("BACKGROUND_Google", "ant", "yin_yang"):
            fill(folder / name, 5, suffix=".jpg")
        (Path(root) / "caltech101" / "left-over.zip").write_bytes(b"")

    monkeypatch.setattr(torchvision.datasets, "Caltech101", fetched)
    source = open_source("caltech101")
    assert source.classes == ("ant", "yin_yang")
    assert not list(cache.rglob("*.zip"))
    assert "no test split" in source.notes[0]
    assert [len(source.load(None, split, SIZE)) for split in ("train", "test")] == [8, 2]


def test_oxford_pets(cache: Path) -> None:
    root = cache / "datasets" / "oxfordiiitpet" / "oxford-iiit-pet"
    (root / "annotations").mkdir(parents=True)
    fill(root / "images", 4, suffix=".jpg")
    names = ["great_pyrenees_1", "Bengal_7", "great_pyrenees_2", "Bengal_8"]
    for i, name in enumerate(names):
        (root / "images" / f"image{i:03d}.jpg").rename(root / "images" / f"{name}.jpg")
    (root / "annotations" / "trainval.txt").write_text("".join(f"{name} 1 1 1\n" for name in names[:3]))
    (root / "annotations" / "test.txt").write_text(f"{names[3]} 2 1 1\n")
    source = open_source("oxford-iiit-pet")
    assert source.classes == ("Bengal", "great_pyrenees")
    assert source.load(["great pyrenees", "bengal"], "train", SIZE).labels.tolist() == [0, 0, 1]
    assert source.count(["bengal"], "test") == 1


def test_food101(cache: Path) -> None:
    root = cache / "datasets" / "food101" / "food-101"
    for start, name in enumerate(["apple_pie", "waffles"]):
        fill(root / "images" / name, 3, 10 * start, suffix=".jpg")
    (root / "meta").mkdir()
    lists = {
        "train": {"apple_pie": ["image000", "image001"], "waffles": ["image010"]},
        "test": {"apple_pie": ["image002"], "waffles": ["image011", "image012"]},
    }
    for split, content in lists.items():
        paths = {name: [f"{name}/{image}" for image in images] for name, images in content.items()}
        (root / "meta" / f"{split}.json").write_text(json.dumps(paths))
    source = open_source("food101")
    assert source.load(["waffles", "apple pie"], "train", SIZE).labels.tolist() == [0, 1, 1]
    assert source.load(["waffles", "apple pie"], "test", SIZE).labels.tolist() == [0, 0, 1]


def test_flowers102(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "datasets" / "flowers102").mkdir(parents=True)
    files = {split: fill(cache / split, 2, 10 * i) for i, split in enumerate(["train", "val", "test"])}

    class Fake(list):
        classes = ("rose", "pink-yellow dahlia?")

        def __init__(self, root: str, split: str, loader: type) -> None:
            super().__init__((loader(path), label) for label, path in enumerate(sorted(files[split].iterdir())))

    monkeypatch.setattr(named.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torchvision.datasets, "Flowers102", Fake)
    data = open_source("flowers102").load(["pink yellow dahlia", "rose"], "train", SIZE)
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert [round(int(red), -1) for red in data.images[:, 0, 0, 0]] == [0, 10, 0, 10]
    assert open_source("flowers102").count(["rose"], "test") == 1


def test_nothing_unpickles() -> None:
    for module in (formats, named, folder):
        assert "pickle" not in vars(module)
