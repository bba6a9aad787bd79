"""How public data sets lie on disk: parsed from their binary, text and image files, never unpickled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mvp_edge.data.folder import FileReader, Listing, Split, divide, list_classes
from mvp_edge.data.images import OnImage, Pixels, Size, resize


@dataclass(frozen=True, eq=False)
class ArrayReader:
    """Reads images that lie in memory.

    Attributes:
        images: For each split, uint8 `(N, 3, h, w)`.
        labels: For each split, the class positions `(N,)`.
    """

    images: dict[Split, np.ndarray]
    labels: dict[Split, np.ndarray]

    def count(self, split: Split, index: int) -> int:
        """Return how many images the class at `index` has."""
        return int(np.count_nonzero(self.labels[split] == index))

    def read(self, split: Split, indices: Sequence[int], size: Size, on_image: OnImage | None) -> Pixels:
        """Copy and resize the images of the classes at `indices`."""
        rows = [np.flatnonzero(self.labels[split] == index) for index in indices]
        labels = np.repeat(np.arange(len(indices)), [len(found) for found in rows])
        images = np.ascontiguousarray(self.images[split][np.concatenate(rows)])
        if on_image is not None:
            on_image(len(images))
        return Pixels(resize(torch.from_numpy(images), size), torch.from_numpy(labels), len(images))


def torchvision_set(class_name: str) -> Any:
    """Return a data set class of torchvision, which is imported only now: that takes a second."""
    import torchvision.datasets

    return getattr(torchvision.datasets, class_name)


def cifar(folder: str, files: dict[Split, tuple[str, ...]], names: str, label_bytes: int) -> Callable[[Path], Listing]:
    """Return a parser of CIFAR's binary version: per image the label bytes, the finest last, and 3 x 32 x 32 pixels."""

    def parse(root: Path) -> Listing:
        classes = _lines(root / folder / names)
        images: dict[Split, np.ndarray] = {}
        labels: dict[Split, np.ndarray] = {}
        for split, parts in files.items():
            data = np.concatenate([_records(root / folder / part, label_bytes + 3072) for part in parts])
            labels[split] = _checked_labels(data[:, label_bytes - 1], len(classes))
            images[split] = data[:, label_bytes:].reshape(-1, 3, 32, 32)
        return Listing(classes, ArrayReader(images, labels))

    return parse


def stl10(root: Path) -> Listing:
    """Parse STL-10: labels count from 1, pixels lie column by column."""
    folder = root / "stl10_binary"
    classes = _lines(folder / "class_names.txt")
    images: dict[Split, np.ndarray] = {}
    labels: dict[Split, np.ndarray] = {}
    for split in ("train", "test"):
        images[split] = _records(folder / f"{split}_X.bin", 3 * 96 * 96).reshape(-1, 3, 96, 96).swapaxes(2, 3)
        labels[split] = _checked_labels(_records(folder / f"{split}_y.bin", 1)[:, 0].astype(np.int64) - 1, len(classes))
        if len(labels[split]) != len(images[split]):
            raise ValueError(f"{len(images[split])} {split} images but {len(labels[split])} labels")
    return Listing(classes, ArrayReader(images, labels))


def caltech101(root: Path) -> Listing:
    """List Caltech-101, without its folder of random images; it has no split of its own."""
    return divide(list_classes(root / "caltech101" / "101_ObjectCategories", ignore=("BACKGROUND_Google",)))


def pets(root: Path) -> Listing:
    """List the breeds of Oxford-IIIT Pet; the class is the file name without its number."""
    folder = root / "oxford-iiit-pet"
    pairs: dict[Split, list[tuple[str, Path]]] = {}
    lists: dict[Split, str] = {"train": "trainval.txt", "test": "test.txt"}
    for split, file in lists.items():
        images = [line.split()[0] for line in _lines(folder / "annotations" / file)]
        pairs[split] = [(image.rsplit("_", 1)[0], folder / "images" / f"{image}.jpg") for image in images]
    return _by_class(pairs)


def files_of(class_name: str, splits: dict[Split, tuple[str, ...]]) -> Callable[[Path], Listing]:
    """Return a parser that lets torchvision list the files: its loader gets a path and passes it on unread."""

    def parse(root: Path) -> Listing:
        pairs: dict[Split, list[tuple[str, Path]]] = {}
        for split, parts in splits.items():
            sets = [torchvision_set(class_name)(root=str(root), split=part, loader=Path) for part in parts]
            pairs[split] = [
                (data.classes[label].rstrip("?"), path)
                for data in sets
                for path, label in map(data.__getitem__, range(len(data)))
            ]
        return _by_class(pairs)

    return parse


def _by_class(pairs: dict[Split, list[tuple[str, Path]]]) -> Listing:
    classes = tuple(sorted({name for found in pairs.values() for name, _ in found}))
    files: dict[Split, list[tuple[Path, ...]]] = {}
    for split, found in pairs.items():
        of: dict[str, list[Path]] = {name: [] for name in classes}
        for name, path in found:
            of[name].append(path)
        files[split] = [tuple(sorted(of[name])) for name in classes]
    return Listing(classes, FileReader(files))


def _records(path: Path, length: int) -> np.ndarray:
    data = np.fromfile(path, dtype=np.uint8)
    if data.size == 0 or data.size % length:
        raise ValueError(f"{path.name} has {data.size} bytes, not a multiple of {length}")
    return data.reshape(-1, length)


def _checked_labels(labels: np.ndarray, classes: int) -> np.ndarray:
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels from {labels.min()} to {labels.max()} for {classes} classes")
    return labels


def _lines(path: Path) -> tuple[str, ...]:
    return tuple(line.strip() for line in path.read_text(encoding="ascii").splitlines() if line.strip())
