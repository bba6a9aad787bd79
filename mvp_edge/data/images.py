"""Image files to tensors: decode, convert to RGB, scale and crop; unreadable files are reported."""

from __future__ import annotations

import hashlib
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, JpegImagePlugin, UnidentifiedImageError
from torch import Tensor

from mvp_edge.core.words import in_short
from mvp_edge.data.formats import open_picture, too_many_pixels

Size = tuple[int, int]
"""Height and width in pixels."""

OnImage = Callable[[int], None]
"""Called with the number of images finished since the last call."""

# Errors that Pillow's decoders are known to raise on damaged bytes.
_DAMAGE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    NotImplementedError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_CHUNK = 32
# Pictures that take more memory than this are decoded one at a time, whatever the number of threads: 64 MiB.
_BIG_BYTES = 1 << 26
_STRIP_PIXELS = 1 << 22
_big = threading.Lock()
_RESIZE_CHUNK = 256


class Origin(NamedTuple):
    """How a picture was stored: width and height in pixels, format, and the camera, if it is known."""

    size: Size
    format: str
    camera: str

    def words(self, what: str) -> str:
        """Return one of the fields as the end of a sentence about pictures."""
        if what == "size":
            return f"have {self.size[0]} x {self.size[1]} pixels"
        return f"are {self.format} files" if what == "format" else f"are from {self.camera or 'no known camera'}"


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images in memory with their labels.

    Attributes:
        images: uint8 RGB `(N, 3, H, W)` on the CPU.
        labels: int64 `(N,)`, positions in `classes`.
        classes: Names in the order of the labels.
        skipped: Paths of the files that could not be read.
        files: Path of each image, in the order of `images`; empty if the images come from no files.
        origins: How each was stored; empty if the images come from no files.
        groups: int64 `(N,)`: images of one number must not be parted, as copies of a picture; None if all may be.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    origins: tuple[Origin, ...] = ()
    groups: Tensor | None = None

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or self.images.shape[1] != 3:
            raise ValueError(f"images must be uint8 (N, 3, H, W), not {self.images.dtype} {tuple(self.images.shape)}")
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(f"labels must be int64 ({len(self.images)},), not {self.labels.dtype} {self.labels.shape}")
        for given in (self.files, self.origins):
            if given and len(given) != len(self.images):
                raise ValueError(f"{len(self.images)} images, but {len(given)} files")
        if self.groups is not None and self.groups.shape != self.labels.shape:
            raise ValueError(f"{len(self.images)} images, but {len(self.groups)} of them in groups")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def sha256(self) -> str:
        """Checksum of images and labels, as hexadecimal digits."""
        return joint_sha256(
            (pixels_sha256(self.images[self.labels == i]) for i in range(len(self.classes))), self.labels
        )

    def subset(self, idx: Tensor | np.ndarray | Sequence[int]) -> ImageSet:
        """Return the images at the positions `idx`, in that order."""
        index = torch.as_tensor(idx, dtype=torch.int64)
        files, origins = (tuple(some[i] for i in index.tolist()) if some else () for some in (self.files, self.origins))
        groups = None if self.groups is None else self.groups[index]
        images, labels = self.images[index], self.labels[index]
        return replace(self, images=images, labels=labels, files=files, origins=origins, groups=groups)

    @property
    def grouping(self) -> np.ndarray | None:
        """How many images of each class each group holds, int `(groups, classes)`; None if none holds two."""
        if self.groups is None or len(self.groups.unique()) == len(self.groups):
            return None
        numbers = self.groups.unique(return_inverse=True)[1]
        table = np.zeros((int(numbers.max()) + 1, len(self.classes)), int)
        np.add.at(table, (numbers.numpy(), self.labels.numpy()), 1)
        return table

    def in_groups(self, chosen: np.ndarray) -> Tensor:
        """Return the positions of the images of some groups, rows of `grouping`, ascending."""
        assert self.groups is not None
        numbers = self.groups.unique(return_inverse=True)[1]
        return torch.isin(numbers, torch.from_numpy(np.asarray(chosen, dtype=np.int64))).nonzero().flatten()

    def at_most(self, per_class: int, rng: np.random.Generator) -> ImageSet:
        """Return at most `per_class` randomly chosen images of each class, in their old order.

        Raises:
            ValueError: If `per_class` is below 1.
        """
        if per_class < 1:
            raise ValueError(f"per_class must be at least 1, got {per_class}")
        labels = self.labels.numpy()
        chosen = [rng.permutation(np.flatnonzero(labels == label))[:per_class] for label in range(len(self.classes))]
        return self.subset(np.sort(np.concatenate([np.empty(0, dtype=np.int64), *chosen])))


def pixels_sha256(images: Tensor) -> bytes:
    """Return the checksum of the images of one class."""
    return hashlib.sha256(images.contiguous().numpy().data).digest()


def joint_sha256(classes: Iterable[bytes], labels: Tensor) -> str:
    """Return the checksum of images from those of their classes, by label, and the order in which they come."""
    digest = hashlib.sha256(labels.contiguous().numpy().data)
    for each in classes:
        digest.update(each)
    return digest.hexdigest()


def skipped_warnings(*sets: ImageSet) -> list[str]:
    """Return one warning about images that could not be read, or none."""
    paths = [path for images in sets for path in images.skipped]
    return [f"{len(paths)} unreadable images were skipped: {in_short(paths, 5)}"] if paths else []


@dataclass(frozen=True, eq=False)
class Pixels:
    """Result of a reader.

    Attributes:
        images: The readable images, uint8 `(N, 3, H, W)`.
        labels: int64 `(N,)`.
        requested: Number of images, with the unreadable ones.
        failures: Path and reason of each unreadable image.
        files: Path of each readable image; empty if the images come from no files.
        origins: How each readable image was stored; empty if the images come from no files.
    """

    images: Tensor
    labels: Tensor
    requested: int
    failures: tuple[tuple[str, str], ...] = ()
    files: tuple[str, ...] = ()
    origins: tuple[Origin, ...] = ()


def decode(path: str | Path, size: Size) -> np.ndarray:
    """Read one image file.

    The image is turned upright (EXIF), put on white where it is transparent, scaled to just cover `size` (antialiased
    bilinear), and cropped in the centre. An image of that size is not changed.

    Args:
        path: The file.
        size: Height and width of the result.

    Returns:
        uint8 RGB `(H, W, 3)`.

    Raises:
        OSError: And others of Pillow: the file is damaged or not an image.
        ValueError: If too many pixels would be decoded (a decompression bomb), pixels have no 8-bit meaning, or the
            format needs a package that is not installed.
    """
    return _decode(path, size)[0]


def _decode(path: str | Path, size: Size) -> tuple[np.ndarray, Origin]:
    """Read one image file, and how it was stored."""
    with open_picture(path) as image:
        given = image.size
        whole = image.width * image.height
        # A JPEG decoder can downscale for free; twice the required size is enough for the antialiasing below.
        factor = 2 * max(size) / min(image.size)
        if factor < 1:
            image.draft("RGB", (round(image.width * factor), round(image.height * factor)))
        limit, decoded = Image.MAX_IMAGE_PIXELS, image.width * image.height
        if limit is not None and decoded > limit:
            jpeg = isinstance(image, JpegImagePlugin.JpegImageFile)
            raise too_many_pixels(limit, "a JPEG that is needed this large" if jpeg else "pictures other than JPEG")
        # Pillow stores four bytes per pixel; libjpeg keeps a progressive picture whole.
        needed = max(4 * decoded, 3 * whole if image.info.get("progressive") else 0)
        if needed > _BIG_BYTES:
            with _big:
                pixels = _upright(_shrunk(image, size), image, size)
        else:
            pixels = _upright(image, image, size)
        return pixels, Origin(given, image.format or "", _camera(image))


def decode_all(
    paths: Sequence[str | Path], labels: Sequence[int], size: Size, on_image: OnImage | None = None
) -> Pixels:
    """Read many image files on as many threads as torch uses; Pillow decodes without the interpreter lock.

    Args:
        paths: Files, in the order of the result.
        labels: One for each file.
        size: Height and width of the result.
        on_image: Progress callback, called from the calling thread.

    Returns:
        Images and labels in the order of `paths`, without unreadable ones.
    """
    images = np.empty((len(paths), 3, *size), dtype=np.uint8)
    reasons: list[str | None] = [None] * len(paths)
    origins: list[Origin | None] = [None] * len(paths)
    same: dict[Origin, Origin] = {}

    def work(start: int) -> int:
        stop = min(start + _CHUNK, len(paths))
        for i in range(start, stop):
            try:
                pixels, origin = _decode(paths[i], size)
                images[i] = pixels.transpose(2, 0, 1)
                origins[i] = same.setdefault(origin, origin)
            except _DAMAGE as error:
                reasons[i] = _reason(error)
        return stop - start

    # Warning filters are global to the process, so they are set around the pool and not in its threads.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pool = ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="decode")
        try:
            for done in as_completed([pool.submit(work, start) for start in range(0, len(paths), _CHUNK)]):
                count = done.result()
                if on_image is not None:
                    on_image(count)
        finally:
            pool.shutdown(cancel_futures=True)

    failures = tuple((str(path), reason) for path, reason in zip(paths, reasons, strict=True) if reason is not None)
    files = tuple(str(path) for path, reason in zip(paths, reasons, strict=True) if reason is None)
    pixels, targets = torch.from_numpy(images), torch.tensor(labels, dtype=torch.int64)
    if failures:
        good = torch.tensor([i for i, reason in enumerate(reasons) if reason is None], dtype=torch.int64)
        pixels, targets = pixels[good], targets[good]
    return Pixels(pixels, targets, len(paths), failures, files, tuple(o for o in origins if o is not None))


Decode = Callable[[Sequence[str], Sequence[int], Size, OnImage | None], Pixels]
"""Reads image files as `decode_all` does."""


@dataclass(frozen=True, eq=False)
class InMemory:
    """Image files that were read before, at one size; others are read when they are asked for.

    Attributes:
        sets: What was read.
    """

    sets: tuple[ImageSet, ...]

    def decode(
        self, paths: Sequence[str], labels: Sequence[int], size: Size, on_image: OnImage | None = None
    ) -> Pixels:
        """Return images as `decode_all` does."""
        if any(images.images.shape[2:] != size for images in self.sets):
            return decode_all(paths, labels, size, on_image)
        place: dict[str, tuple[ImageSet | Pixels, int]]
        place = {path: (images, i) for images in self.sets for i, path in enumerate(images.files)}
        missing = [i for i, path in enumerate(paths) if path not in place]
        if on_image is not None:
            on_image(len(paths) - len(missing))
        fresh = decode_all([paths[i] for i in missing], [labels[i] for i in missing], size, on_image)
        place |= {path: (fresh, i) for i, path in enumerate(fresh.files)}
        there = [(path, label) for path, label in zip(paths, labels, strict=True) if path in place]
        found = [place[path] for path, _ in there]
        images = torch.empty((len(there), 3, *size), dtype=torch.uint8)
        for target, (read, i) in zip(images, found, strict=True):
            target.copy_(read.images[i])
        targets = torch.tensor([label for _, label in there], dtype=torch.int64)
        origins = tuple(read.origins[i] for read, i in found)
        return Pixels(images, targets, len(paths), fresh.failures, tuple(path for path, _ in there), origins)


def resize(images: Tensor, size: Size) -> Tensor:
    """Scale and centre-crop uint8 images `(N, 3, h, w)` to `size` as `decode` does with files."""
    height, width = images.shape[2:]
    if (height, width) == tuple(size):
        return images
    scale = max(size[0] / height, size[1] / width)
    rows, columns = max(1, round(size[0] / scale)), max(1, round(size[1] / scale))
    top, left = (height - rows) // 2, (width - columns) // 2
    out = torch.empty((len(images), 3, *size), dtype=torch.uint8)
    # In float32, as PyTorch's uint8 kernel fails on an output of 1 x 1; in chunks, as that takes 4 times the memory.
    for source, target in zip(images.split(_RESIZE_CHUNK), out.split(_RESIZE_CHUNK), strict=True):
        window = source[:, :, top : top + rows, left : left + columns].float()
        scaled = torch.nn.functional.interpolate(window, size=tuple(size), mode="bilinear", antialias=True)
        target.copy_(scaled.round_().clamp_(0, 255))
    return out


def _reason(error: Exception) -> str:
    """Return in one line, without the path, why a file could not be read."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a known format"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0]


def _camera(image: Image.Image) -> str:
    """Return the maker and model of the camera; empty if they are not known."""
    try:
        exif = image.getexif()
        parts = (str(exif.get(tag, "")) for tag in (ExifTags.Base.Make, ExifTags.Base.Model))
        return " ".join(" ".join(parts).replace("\0", " ").split())
    except _DAMAGE:  # the picture itself may be whole
        return ""


def _upright(pixels: Image.Image, image: Image.Image, size: Size) -> np.ndarray:
    """Return pixels, turned as the EXIF data of their image say, in the required size."""
    if pixels is not image:
        pixels.getexif()[ExifTags.Base.Orientation] = image.getexif().get(ExifTags.Base.Orientation, 1)
    ImageOps.exif_transpose(pixels, in_place=True)
    return np.asarray(_cover(_to_rgb(pixels), size))


def _shrunk(image: Image.Image, size: Size) -> Image.Image:
    """Return a big picture in RGB, at least twice the required size, converted in strips so that no copy is as big."""
    factor = min(image.size) // (2 * max(size))
    if factor < 2:
        return image
    rows = max(1, _STRIP_PIXELS // (image.width * factor)) * factor
    small = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        small.paste(_to_rgb(strip).reduce(factor), (0, top // factor))
    return small


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        grey = np.asarray(image).clip(0, 65535) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is unknown")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        page = Image.new("RGB", image.size, "white")
        page.paste(layer, mask=layer.getchannel("A"))
        return page
    return image.convert("RGB")


def _cover(image: Image.Image, size: Size) -> Image.Image:
    height, width = size
    if image.size == (width, height):
        return image
    scale = max(width / image.width, height / image.height)
    box_width, box_height = min(width / scale, image.width), min(height / scale, image.height)
    left, top = (image.width - box_width) / 2, (image.height - box_height) / 2
    box = (left, top, left + box_width, top + box_height)
    return image.resize((width, height), Image.Resampling.BILINEAR, box=box, reducing_gap=3.0)
