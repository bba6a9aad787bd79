"""Picture formats: which files are pictures, by suffix and by content, and how the rarer ones are opened."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, JpegImagePlugin, UnidentifiedImageError, features

from mvp_edge.core.places import located

NOT_PICTURES = "not pictures"
INSTALL = "pip install 'mvp-edge[formats]'"
_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k", ".jpx", ".jpf"),
    "AVIF": (".avif", ".avifs"),
    "HEIF": (".heic", ".heif", ".hif"),
    "JXL": (".jxl",),
}
FORMAT_OF = {suffix: name for name, suffixes in _SUFFIXES.items() for suffix in suffixes}
"""Format by suffix, of all formats that can be read if what they need is installed."""

_BUILT_IN = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_OF_PILLOW = {"AVIF": "avif", "JPEG2000": "jpg_2000"}  # with the name of the feature that Pillow may lack
_PLUGINS = {"HEIF": "pillow_heif", "JXL": "pillow_jxl"}
_SHOWN = {"HEIF": "HEIC", "JXL": "JPEG XL", "JPEG2000": "JPEG 2000"}
_RAW = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw")
_VIDEO = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".3gp", ".mpg", ".mpeg")
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")
_OTHERS = (".svg", ".svgz", ".psd", ".tga", ".ico", ".eps", ".exr", ".hdr", ".pcx", ".qoi", ".xcf", ".dcm")
# libjpeg holds all coefficients of a progressive picture, two bytes each, however small it is decoded.
MAX_JPEG_PIXELS = 300_000_000


def why_unread(suffix: str) -> str | None:
    """Return why files with a suffix of pictures, videos or archives are not read; None if they are, or for others."""
    name = FORMAT_OF.get(suffix)
    if name is not None:
        return missing(name)
    if suffix in _VIDEO:
        return "videos; extract frames"
    if suffix in _ARCHIVES:
        return "archives; unpack them"
    if suffix in _RAW:
        return "raw files of cameras; convert them to JPEG"
    return f"{suffix[1:].upper()} files; convert them to PNG" if suffix in _OTHERS else None


@cache
def missing(name: str) -> str | None:
    """Return what is needed to read a format, in words; None if it can be read."""
    shown = _SHOWN.get(name, name)
    if name in _PLUGINS and find_spec(_PLUGINS[name]) is None:
        return f"{shown}: {INSTALL}"
    if name in _OF_PILLOW and not features.check(_OF_PILLOW[name]):
        return f"{shown}: pip install --upgrade pillow"
    return None


def why_not_picture(path: str) -> tuple[str, bool] | None:
    """Return why a file is not read and whether it may be a picture; None for a picture that is."""
    # Not Path.suffix: tens of thousands of Path objects take longer to make than a directory to read.
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122
    if (why := why_unread(suffix)) is not None:
        return why, True
    if suffix in FORMAT_OF:
        return None
    try:
        return None if sniff(path) else (NOT_PICTURES, False)
    except OSError as error:
        return f"cannot be opened ({error.strerror})", True


def sniff(path: str | Path) -> str | None:
    """Return the format of a file by its first bytes, or None if they are not those of a known picture.

    Formats whose mark is two letters of text (BMP, PPM) are not recognised: text may begin with them.
    """
    with open(path, "rb") as file:
        head = file.read(64)
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith((b"II*\0", b"MM\0*")):
        return "TIFF"
    if head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")):
        return "JXL"
    if head.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")):
        return "JPEG2000"
    if head[4:8] == b"ftyp":
        brands = {head[i : i + 4] for i in (8, *range(16, min(len(head), int.from_bytes(head[:4], "big")), 4))}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        if brands & {b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1"}:
            return "HEIF"
    return None


def open_picture(path: str | Path) -> Image.Image:
    """Open a picture by its content, whatever its suffix.

    Raises:
        OSError: The file cannot be opened, is a pipe, socket or device, or is not a picture; other errors of Pillow if
            it is damaged.
        ValueError: The picture has too many pixels (a decompression bomb), or its format needs a missing package.
    """
    path = located(path)
    mode = Path(path).stat().st_mode
    if not stat.S_ISREG(mode):
        what = "a directory" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        raise OSError(errno.EINVAL, f"{what}, not a file", str(path))
    try:
        return _opened(path)
    except Image.DecompressionBombError:
        # Pillow refuses by the size of the whole picture, although JPEGs are decoded at a fraction of it.
        if sniff(path) != "JPEG":
            raise too_many_pixels(Image.MAX_IMAGE_PIXELS, "pictures other than JPEG") from None
    picture = JpegImagePlugin.JpegImageFile(path)
    if picture.width * picture.height > MAX_JPEG_PIXELS:
        picture.close()
        raise too_many_pixels(MAX_JPEG_PIXELS, "JPEG pictures")
    return picture


def too_many_pixels(limit: int | None, of: str) -> ValueError:
    """Return the error for a picture with more pixels than are decoded, and of which pictures this is the limit."""
    return ValueError(f"more than {limit:,} pixels, the limit for {of}")


def _opened(path: str | Path) -> Image.Image:
    try:
        return Image.open(path, formats=_readable())
    except UnidentifiedImageError:
        name = sniff(path)
        if name is None or name in _readable():
            raise
        if (needed := missing(name)) is not None:
            raise ValueError(needed) from None
        _plug_in(name)
        return Image.open(path, formats=(name,))


@cache
def _readable() -> tuple[str, ...]:
    return (*_BUILT_IN, *(name for name in _OF_PILLOW if missing(name) is None))


@cache
def _plug_in(name: str) -> None:
    """Register a plugin with Pillow; its import takes a while, so that this waits for the first such picture."""
    plugin = import_module(_PLUGINS[name])
    if name == "HEIF":
        plugin.register_heif_opener()
