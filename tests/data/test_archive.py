"""Archives: what is read from them, and what they may not do."""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mvp_edge.core.errors import DataError
from mvp_edge.data import archive, open_source, skipped_warnings
from mvp_edge.data.listing import SPLITS

from .conftest import SIZE, fill


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where archives are unpacked; empty again after a failure."""
    place = tmp_path / "scratch"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.setattr(archive, "_unpacked", {})
    return place


def _zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return path


def _tar(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as packed:
        for info, content in members:
            info.size = len(content) if info.isreg() else info.size
            packed.addfile(info, io.BytesIO(content))
    return path


def _refused(path: Path, scratch: Path, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_source(str(path))
    assert not list(scratch.iterdir())


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar", "bztar", "xztar"])
def test_an_archive_is_read_as_its_folder(tree: Path, tmp_path: Path, scratch: Path, kind: str) -> None:
    (tree / "notes.txt").write_text("x")
    file = shutil.make_archive(str(tmp_path / "packed"), kind, tree.parent, tree.name)
    folder, packed = open_source(str(tree)), open_source(file)
    assert packed.classes == folder.classes
    assert packed.summary == folder.summary
    for split in ("train", "test"):
        assert packed.load(None, split, SIZE).sha256 == folder.load(None, split, SIZE).sha256
    assert packed.name == Path(file).name
    inside = [path.removeprefix(f"{tree.parent}/") for path in folder.load(None, "test", SIZE).files]
    assert packed.load(None, "test", SIZE).files == tuple(f"{file}/{path}" for path in inside)
    open_source(file)
    assert len(list(scratch.iterdir())) == 1


@pytest.mark.parametrize("files", [{"notes.txt": b"x"}, {"a/1.png": b"x", "A/2.png": b"x"}])
def test_errors_and_warnings_name_the_archive(tmp_path: Path, scratch: Path, files: dict[str, bytes]) -> None:
    with pytest.raises(DataError) as raised:
        open_source(str(_zip(tmp_path / "a.zip", files)))
    assert f"{tmp_path}/a.zip" in str(raised.value) and str(scratch) not in str(raised.value)
    picture = (fill(tmp_path, 1) / "image000.png").read_bytes()
    names = dict.fromkeys((f"{label}/{i}.png" for label in "ab" for i in range(20)), picture)
    source = open_source(
        str(_zip(tmp_path / "b.zip", {**names, "loose.png": picture, "a/bad.png": b"\x89PNG\r\n\x1a\n"}))
    )
    shown = [*source.notes, *skipped_warnings(source.load(None, "train", SIZE), source.load(None, "test", SIZE))]
    assert sum(f"{tmp_path}/b.zip" in each for each in shown) == 2
    assert not any(str(scratch) in each for each in shown)


def test_backslashes_repeated_names_and_links(tree: Path, tmp_path: Path) -> None:
    picture = (tree / "train" / "apple" / "image000.png").read_bytes()
    names = [rf"train\{label}\{i}.png" for label in "ab" for i in range(2)]
    source = open_source(str(_zip(tmp_path / "a.zip", dict.fromkeys(names, picture))))
    assert (source.classes, source.listing.given) == (("a", "b"), 4)
    link = tarfile.TarInfo("photos/a/link.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    members = [(tarfile.TarInfo(f"./photos/{label}/1.png"), picture) for label in ("a", "b", "a", "b/1.png/c")]
    source = open_source(str(_tar(tmp_path / "a.tgz", *members, (link, b""))))
    assert {each.reason: each.files for each in source.listing.aside} == {
        "twice in the archive": (f"{tmp_path}/a.tgz: ./photos/a/1.png", f"{tmp_path}/a.tgz: ./photos/b/1.png/c/1.png"),
        "links and devices in an archive": (f"{tmp_path}/a.tgz: photos/a/link.png",),
    }
    assert source.listing.given == 5 == sum(map(source.listing.used, SPLITS)) + 3


@pytest.mark.parametrize("name", ["../out.png", "a/../../out.png", "/tmp/out.png", "C:/out.png", "..\\out.png"])
def test_a_path_that_leads_out(tmp_path: Path, scratch: Path, name: str) -> None:
    _refused(_zip(tmp_path / "a.zip", {"train/a/1.png": b"x", name: b"x"}), scratch, "leads out")
    _refused(_tar(tmp_path / "a.tgz", (tarfile.TarInfo(name.replace("\\", "/")), b"x")), scratch, "leads out")
    assert not list(tmp_path.parent.rglob("out.png"))


def test_bombs(tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "ALLOWANCE", 1 << 20)
    many = {f"a/{i}.png": bytes(1 << 19) for i in range(8)}
    _refused(_zip(tmp_path / "a.zip", many), scratch, "unpacks to more than")
    _refused(_tar(tmp_path / "a.tgz", *((tarfile.TarInfo(n), c) for n, c in many.items())), scratch, "unpacks to more")
    monkeypatch.setattr(archive, "MOST_FILES", 3)
    _refused(_zip(tmp_path / "b.zip", {f"a/{i}.png": b"" for i in range(4)}), scratch, "more than 3 files")


def test_a_record_that_would_fill_the_memory(tmp_path: Path, scratch: Path) -> None:
    header = tarfile.TarInfo("./PaxHeaders/x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 30
    (tmp_path / "a.tar").write_bytes(header.tobuf(tarfile.USTAR_FORMAT) + bytes(1024))
    _refused(tmp_path / "a.tar", scratch, "damaged: a record of 1073741824 bytes")


def _cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes().rstrip(b"\0")[:-100])
    return path


def _spoilt(path: Path) -> Path:
    data = bytearray(path.read_bytes())
    at = data.index(b".png") + 10 if path.suffix == ".zip" else len(data) // 2 // 512 * 512
    data[at : at + 20] = bytes(20)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("spoil", [_cut, _spoilt])
@pytest.mark.parametrize("kind", ["zip", "tar", "gztar", "bztar", "xztar"])
def test_a_damaged_archive(tree: Path, tmp_path: Path, scratch: Path, kind: str, spoil: Callable[[Path], Path]) -> None:
    file = spoil(Path(shutil.make_archive(str(tmp_path / "packed"), kind, tree)))
    _refused(file, scratch, "is damaged")


def test_an_encrypted_archive(tmp_path: Path, scratch: Path) -> None:
    file = _zip(tmp_path / "a.zip", {"a/1.png": b"x"})
    data = bytearray(file.read_bytes())
    data[6] |= 1  # the flags of the file,
    data[data.index(b"PK\1\2") + 8] |= 1  # and of its entry in the directory
    file.write_bytes(data)
    _refused(file, scratch, "encrypted.*unpack it, and give the folder")


def test_a_full_disk(tree: Path, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", tree))
    monkeypatch.setattr(archive, "SPARE", 1 << 60)
    _refused(file, scratch, "than the disk has free")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(DataError, match="TMPDIR names another directory"):
        open_source(str(file))


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "a.7z").write_bytes(b"x")
    with pytest.raises(DataError, match=r"another kind.*\.csv.*\.zip"):
        open_source(str(tmp_path / "a.7z"))
