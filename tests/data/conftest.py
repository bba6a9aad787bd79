"""Image trees and a cache of data sets, made on the spot."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

SIZE = (8, 8)


def fill(directory: Path, count: int, start: int = 0, suffix: str = ".png") -> Path:
    """Write images whose red value is their number."""
    directory.mkdir(parents=True, exist_ok=True)
    for i in range(start, start + count):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(directory / f"image{i:03d}{suffix}")
    return directory


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with two splits."""
    root = tmp_path / "pictures"
    for start, name in enumerate(["apple", "sweet_pepper", "n02958343", "Oak Tree"]):
        fill(root / "train" / name, 4, 10 * start)
        fill(root / "test" / name, 2, 100 + 10 * start)
    return root


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache in a directory without folders that are called like a data set."""
    monkeypatch.setenv("MVP_EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def put(cache: Path, name: str, files: dict[str, bytes]) -> Path:
    """Lay a data set into the cache as if it had been downloaded."""
    root = cache / "datasets" / name
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


def record(labels: list[int], value: int) -> bytes:
    """Return one image of a CIFAR file: its labels, then three planes of `value`, `value + 1` and `value + 2`."""
    planes = [bytes([value + plane]) * 1024 for plane in range(3)]
    return bytes(labels) + b"".join(planes)


CIFAR100 = {
    "cifar-100-binary/train.bin": record([9, 1], 10) + record([9, 0], 20) + record([9, 1], 30),
    "cifar-100-binary/test.bin": record([9, 0], 40) + record([9, 1], 50),
    "cifar-100-binary/fine_label_names.txt": b"apple\naquarium_fish\n\n",
    "cifar-100-binary/coarse_label_names.txt": b"fruit\n",
}
