"""Decoding and resizing of image files, and the set of images in memory."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from mvp_edge.data import ImageSet, formats, skipped_warnings
from mvp_edge.data.formats import FORMAT_OF, sniff, why_unread
from mvp_edge.data.images import decode, decode_all, resize

RED = (255, 0, 0)


def _gradient(width: int, height: int) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    planes = [255 * x / max(1, width - 1), 255 * y / max(1, height - 1), 128 + 0 * x]
    return Image.fromarray(np.stack(planes, axis=-1).astype(np.uint8))


def _save(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


def test_right_size_is_not_touched(tmp_path: Path) -> None:
    image = _gradient(9, 7)
    assert np.array_equal(decode(_save(image, tmp_path / "a.png"), (7, 9)), np.asarray(image))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 24), st.integers(1, 24))
@settings(max_examples=60, deadline=None)
def test_any_size_becomes_the_size(tmp_path_factory: pytest.TempPathFactory, w: int, h: int, tw: int, th: int) -> None:
    path = _save(Image.new("RGB", (w, h), (10, 200, 30)), tmp_path_factory.mktemp("any") / "a.png")
    out = decode(path, (th, tw))
    assert out.shape == (th, tw, 3)
    assert np.array_equal(np.unique(out.reshape(-1, 3), axis=0), [[10, 200, 30]])
    assert resize(torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None], (th, tw)).shape == (1, 3, th, tw)


@pytest.mark.parametrize(("width", "height"), [(96, 64), (64, 96)])
def test_shorter_side_is_scaled_and_the_centre_cropped(tmp_path: Path, width: int, height: int) -> None:
    image = Image.new("RGB", (width, height), "black")
    left, top = (width - 64) // 2, (height - 64) // 2
    image.paste("white", (left, top, left + 64, top + 64))
    assert decode(_save(image, tmp_path / "a.png"), (32, 32)).min() > 120
    assert decode(tmp_path / "a.png", (32, 32))[2:-2, 2:-2].min() == 255


def test_arrays_are_resized_like_files(tmp_path: Path) -> None:
    image = _gradient(48, 48)
    from_file = decode(_save(image, tmp_path / "a.png"), (20, 20)).astype(int)
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    from_array = resize(tensor, (20, 20))[0].permute(1, 2, 0).numpy().astype(int)
    assert np.abs(from_file - from_array).max() <= 2
    assert resize(tensor, (48, 48)) is tensor


def test_big_jpeg_is_close_to_the_full_decoding(tmp_path: Path) -> None:
    image = _gradient(1200, 900)
    jpeg = decode(_save(image, tmp_path / "a.jpg", quality=95), (32, 32)).astype(int)
    png = decode(_save(image, tmp_path / "a.png"), (32, 32)).astype(int)
    assert np.abs(jpeg - png).max() <= 6


@pytest.mark.parametrize(
    "name", ["grey.png", "grey.jpg", "palette.png", "palette.gif", "bits.png", "cmyk.jpg", "a.webp"]
)
def test_modes_become_rgb(tmp_path: Path, name: str) -> None:
    modes = {"grey": "L", "palette": "P", "bits": "1", "cmyk": "CMYK", "a": "RGB"}
    image = Image.new("RGB", (8, 8), "white").convert(modes[name.split(".")[0]])
    assert decode(_save(image, tmp_path / name), (8, 8)).min() >= 250


def test_cmyk_colour(tmp_path: Path) -> None:
    path = _save(Image.new("RGB", (8, 8), RED).convert("CMYK"), tmp_path / "a.jpg", quality=100)
    assert np.abs(decode(path, (8, 8)).astype(int) - RED).max() < 12


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.paste((*RED, 255), (0, 0, 2, 4))
    for path in (
        _save(image, tmp_path / "rgba.png"),
        _save(image.convert("P"), tmp_path / "p.png", transparency=bytes([255] * 100)),
        _save(Image.new("LA", (4, 4), (0, 0)), tmp_path / "la.png"),
        _save(Image.new("RGB", (4, 4)), tmp_path / "key.png", transparency=(0, 0, 0)),
    ):
        out = decode_all([path], [0], (4, 4))
        assert not out.failures
        if path.name != "p.png":
            assert out.images[0, :, :, 3].min() == 255
    assert decode(tmp_path / "rgba.png", (4, 4))[0, 0].tolist() == list(RED)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled(tmp_path: Path, suffix: str) -> None:
    values = np.array([[3, 256 * 100 + 7], [256 * 200 + 9, 65535]], dtype=np.uint16)
    path = _save(Image.fromarray(values), tmp_path / f"a.{suffix}")
    assert decode(path, (2, 2))[:, :, 1].tolist() == [[0, 100], [200, 255]]


def test_exif_rotation(tmp_path: Path) -> None:
    image = Image.new("RGB", (16, 8), "black")
    image.paste("white", (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # the left of the stored image is the top of the scene
    out = decode(_save(image, tmp_path / "a.png", exif=exif), (16, 8))
    assert out[0].min() == 255
    assert out[-1].max() == 0


def _bomb(width: int = 12_000, height: int = 10_000) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


def _jpeg(width: int = 64) -> bytes:
    stream = io.BytesIO()
    _gradient(width, width).save(stream, "JPEG")
    return stream.getvalue()


def test_what_was_skipped_is_told_in_one_line() -> None:
    def images(*skipped: str) -> ImageSet:
        return ImageSet(torch.empty(0, 3, 1, 1, dtype=torch.uint8), torch.empty(0, dtype=torch.int64), (), skipped)

    assert skipped_warnings(images(), images()) == []
    assert skipped_warnings(images("a"), images("b")) == ["2 unreadable images were skipped: a, b"]
    assert skipped_warnings(images(*"abcdef")) == ["6 unreadable images were skipped: a, b, c, d, e and 1 more"]


def test_files_are_read_on_as_many_threads_as_torch_computes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, workers: int, **names: Any) -> None:
            seen.append(workers)
            super().__init__(workers, **names)

    monkeypatch.setattr("mvp_edge.data.images.ThreadPoolExecutor", Pool)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    decode_all([_save(_gradient(8, 8), tmp_path / "a.png")], [0], (8, 8))
    assert seen == [3]


DAMAGED = {
    "truncated.jpg": _jpeg()[:400],
    "text.png": b"this is no image",
    "empty.webp": b"",
    "bomb.png": _bomb(),
    "bigger_bomb.png": _bomb(900_000),
    "half.png": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
    "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n",
}


def test_damaged_files_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    for name, data in DAMAGED.items():
        (tmp_path / name).write_bytes(data)
    Image.new("F", (4, 4)).save(tmp_path / "float.tif")
    good = [_save(Image.new("RGB", (6, 6), (i, i, i)), tmp_path / f"good{i}.png") for i in range(50)]
    bad = sorted(path for path in tmp_path.iterdir() if path not in good)
    paths = [*good[:25], *bad, tmp_path / "missing.png", *good[25:]]
    calls: list[int] = []
    out = decode_all(paths, list(range(len(paths))), (6, 6), calls.append)
    assert out.requested == sum(calls) == len(paths)
    assert [path for path, _ in out.failures] == [str(path) for path in [*bad, tmp_path / "missing.png"]]
    assert all(reason and "\n" not in reason for _, reason in out.failures)
    assert out.images[:, 0, 0, 0].tolist() == list(range(50))
    assert out.labels.tolist() == [*range(25), *range(25 + len(bad) + 1, len(paths))]


def test_big_pictures_are_shrunk_in_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, exif = _gradient(960, 640), Image.Exif()
    exif[0x0112] = 6
    layer = image.convert("RGBA")
    layer.paste((0, 0, 0, 0), (0, 0, 480, 640))
    paths = [
        _save(image, tmp_path / "a.png"),
        _save(image, tmp_path / "turned.png", exif=exif),
        _save(image.quantize(64), tmp_path / "palette.png"),
        _save(layer, tmp_path / "rgba.png"),
        _save(Image.fromarray(np.full((640, 960), 100 * 256, dtype=np.uint16)), tmp_path / "sixteen.png"),
    ]
    whole = decode_all(paths, [0] * 5, (32, 32))
    monkeypatch.setattr("mvp_edge.data.images._BIG_BYTES", 0)
    monkeypatch.setattr("mvp_edge.data.images._STRIP_PIXELS", 9600)
    strips = decode_all(paths, [0] * 5, (32, 32))
    assert not whole.failures
    assert not strips.failures
    assert (whole.images.int() - strips.images.int()).abs().max() <= 8


def _big_jpeg(path: Path, **options: Any) -> Path:
    return _save(Image.new("L", (12_000, 9_000), 77), path, **options)


def test_a_jpeg_of_108_megapixels_is_decoded_at_an_eighth(tmp_path: Path) -> None:
    read = decode_all([_big_jpeg(tmp_path / "a.jpg")], [0], (32, 32))
    assert not read.failures
    assert (read.images == 77).all()


def test_a_jpeg_beyond_pillow_s_own_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _save(_gradient(1600, 1200), tmp_path / "a.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1600 * 1200 // 3)
    assert decode(path, (32, 32)).shape == (32, 32, 3)
    with pytest.raises(ValueError, match="the limit for a JPEG that is needed this large"):
        decode(path, (1200, 1200))
    monkeypatch.setattr("mvp_edge.data.formats.MAX_JPEG_PIXELS", 1000)
    with pytest.raises(ValueError, match="more than 1,000 pixels, the limit for JPEG"):
        decode(path, (32, 32))


def _tiff_bomb() -> bytes:
    fields = [(256, 4, 40_000), (257, 4, 25_000), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (278, 4, 25_000)]
    fields += [(279, 4, 1_000_000_000)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in fields)
    return b"II*\0" + struct.pack("<IH", 8, len(fields)) + entries + bytes(4)


def _webp_bomb() -> bytes:
    stream = io.BytesIO()
    layer = Image.new("RGBA", (16, 16), (9, 9, 9, 9))
    layer.save(stream, "WEBP", save_all=True, append_images=[Image.new("RGBA", (16, 16))])
    data = bytearray(stream.getvalue())
    at = data.index(b"VP8X") + 12
    data[at : at + 6] = (40_000 - 1).to_bytes(3, "little") + (25_000 - 1).to_bytes(3, "little")
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.png", _bomb(40_000, 25_000)),
        ("just.png", _bomb(9_500, 9_500)),
        ("a.tif", _tiff_bomb()),
        ("a.webp", _webp_bomb()),
    ],
)
def test_a_thousand_megapixels_are_refused_with_the_reason(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    [(path, reason)] = decode_all([tmp_path / name], [0], (32, 32)).failures
    assert path.endswith(name)
    assert reason == f"more than {Image.MAX_IMAGE_PIXELS:,} pixels, the limit for pictures other than JPEG"


def test_a_jpeg_of_more_than_300_megapixels_is_refused_with_its_own_limit(tmp_path: Path) -> None:
    data = bytearray(_save(Image.new("L", (16, 16)), tmp_path / "a.jpg").read_bytes())
    at = data.index(b"\xff\xc0") + 5
    reasons = {}
    for side in (17_000, 17_330):
        data[at : at + 4] = struct.pack(">HH", side, side)
        (tmp_path / "a.jpg").write_bytes(data)
        reasons[side] = [reason for _, reason in decode_all([tmp_path / "a.jpg"], [0], (32, 32)).failures]
    assert reasons == {17_000: [], 17_330: ["more than 300,000,000 pixels, the limit for JPEG pictures"]}


def test_what_is_no_file_is_refused_unopened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(tmp_path):  # names of sockets are short
        server.bind("socket.jpg")
    paths = [*sorted(tmp_path.iterdir()), Path("/dev/zero")]
    reasons = {Path(path).name: reason for path, reason in decode_all(paths, range(len(paths)), (8, 8)).failures}
    assert reasons.pop("folder.jpg") == "a directory, not a file"
    assert set(reasons.values()) == {"a pipe, socket or device, not a file"} and len(reasons) == 4


MEMORY = """
import sys, torch
from mvp_edge.data.images import decode_all

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024

torch.set_num_threads(2)
own = peak()
read = decode_all(sys.argv[1:], [0] * (len(sys.argv) - 1), (224, 224))
assert not read.failures, read.failures
print(peak() - own)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_of_a_hundred_pictures_of_108_megapixels(tmp_path: Path) -> None:
    whole, progressive = _big_jpeg(tmp_path / "a.jpg"), _big_jpeg(tmp_path / "b.jpg", progressive=True)
    files = [whole] * 96 + [progressive] * 4
    done = subprocess.run([sys.executable, "-c", MEMORY, *map(str, files)], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 500


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_avif(tmp_path: Path) -> None:
    path = _save(_gradient(64, 64), tmp_path / "a.avif", quality=95)
    assert np.abs(decode(path, (64, 64)).astype(int) - np.asarray(_gradient(64, 64))).max() < 24
    assert sniff(path.rename(tmp_path / "a")) == "AVIF"


@pytest.mark.parametrize(("package", "suffix"), [("pillow_heif", ".heic"), ("pillow_jxl", ".jxl")])
def test_formats_of_the_extra(tmp_path: Path, package: str, suffix: str) -> None:
    plugin = pytest.importorskip(package)
    if package == "pillow_heif":
        plugin.register_heif_opener()
    path = _save(_gradient(64, 64), tmp_path / f"a{suffix}", quality=95)
    assert np.abs(decode(path, (64, 64)).astype(int) - np.asarray(_gradient(64, 64))).max() < 24
    assert FORMAT_OF[suffix] == sniff(path.rename(tmp_path / "a.jpg"))
    assert decode(tmp_path / "a.jpg", (64, 64)).shape == (64, 64, 3)


HEIC = b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic"
JXL = b"\0\0\0\x0cJXL \r\n\x87\n"


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As without the extra, and with a Pillow that lacks AVIF."""
    monkeypatch.setattr(formats, "find_spec", lambda _: None)
    monkeypatch.setattr(formats.features, "check", lambda _: False)
    formats.missing.cache_clear()
    formats._readable.cache_clear()
    yield
    formats.missing.cache_clear()
    formats._readable.cache_clear()


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("name", "data", "needed"),
    [
        ("a.heic", HEIC, "HEIC: pip install 'mvp-edge[formats]'"),
        ("a.jxl", JXL, "JPEG XL: pip install 'mvp-edge[formats]'"),
        ("a.avif", b"\0\0\0\x18ftypavif\0\0\0\0avifmif1", "AVIF: pip install --upgrade pillow"),
    ],
)
def test_what_a_format_needs_is_named(tmp_path: Path, name: str, data: bytes, needed: str) -> None:
    assert why_unread(f".{name.split('.')[1]}") == needed
    (tmp_path / "photo.jpg").write_bytes(data)
    assert decode_all([tmp_path / "photo.jpg"], [0], (8, 8)).failures == ((str(tmp_path / "photo.jpg"), needed),)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\xff\xd8\xff\xe0", "JPEG"), (b"GIF89a", "GIF"), (b"RIFF\1\2\3\4WEBPVP8 ", "WEBP"), (b"MM\0*", "TIFF"),
        (b"\xff\x4f\xff\x51", "JPEG2000"), (HEIC, "HEIF"), (JXL, "JXL"), (b"", None), (b"P5 and BM are text", None),
        (b"\0\0\0\x18ftypisom\0\0\0\0mp42", None),
    ],
)  # fmt: skip
def test_formats_by_content(tmp_path: Path, data: bytes, name: str | None) -> None:
    (tmp_path / "a").write_bytes(data)
    assert sniff(tmp_path / "a") == name


def test_a_callback_that_stops_the_load_is_heard(tmp_path: Path) -> None:
    path = _save(Image.new("RGB", (4, 4)), tmp_path / "a.png")

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode_all([path] * 200, [0] * 200, (4, 4), stop)


def _set(labels: list[int]) -> ImageSet:
    images = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2).contiguous()
    return ImageSet(images, torch.tensor(labels, dtype=torch.int64), ("a", "b", "c"), ("lost.png",))


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_subset(kind: type) -> None:
    part = _set([0, 1, 2, 1]).subset(kind([3, 0]))
    assert part.images[:, 0, 0, 0].tolist() == [3, 0]
    assert (part.labels.tolist(), part.classes, part.skipped, len(part)) == ([1, 0], ("a", "b", "c"), ("lost.png",), 2)
    assert len(part.subset(kind([]))) == 0


@given(st.lists(st.integers(0, 2), max_size=40), st.integers(1, 12), st.integers(0, 3))
@settings(deadline=None)
def test_at_most(labels: list[int], per_class: int, seed: int) -> None:
    part = _set(labels).at_most(per_class, np.random.default_rng(seed))
    for label in range(3):
        assert part.labels.tolist().count(label) == min(per_class, labels.count(label))
    kept = part.images[:, 0, 0, 0].tolist()
    assert kept == sorted(set(kept))
    assert [labels[i] for i in kept] == part.labels.tolist()
    again = _set(labels).at_most(per_class, np.random.default_rng(seed))
    assert torch.equal(again.images, part.images)


def test_image_set_refuses() -> None:
    good = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    with pytest.raises(ValueError, match="images must be"):
        ImageSet(good.float(), torch.zeros(2, dtype=torch.int64), ("a",))
    with pytest.raises(ValueError, match="labels must be"):
        ImageSet(good, torch.zeros(3, dtype=torch.int64), ("a",))
    with pytest.raises(ValueError, match="at least 1"):
        _set([0]).at_most(0, np.random.default_rng(0))


def test_a_checksum_tells_images_and_labels_apart() -> None:
    pixels = torch.arange(2 * 3 * 2 * 2, dtype=torch.uint8).view(2, 3, 2, 2)
    one = ImageSet(pixels, torch.tensor([0, 1]), ("a", "b"))
    assert one.sha256 == ImageSet(pixels.clone(), torch.tensor([0, 1]), ("a", "b")).sha256
    others = (one.subset([1, 0]), ImageSet(pixels, torch.tensor([1, 0]), ("a", "b")), one.subset([0]))
    assert len({one.sha256, *(o.sha256 for o in others)}) == 4
