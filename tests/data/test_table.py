"""Lists of pictures: columns, splits, rows that cannot be used, and every file that is no such list."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp_edge.core.errors import DataError
from mvp_edge.data import DataSource, open_source
from mvp_edge.data.listing import SPLITS, FileReader
from mvp_edge.data.table import MISSING, MISSPELT, list_table

from .conftest import SIZE, fill


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Eight pictures beside the list."""
    fill(tmp_path / "photos", 8)
    return tmp_path


def _write(file: Path, *lines: str) -> str:
    file.write_text("".join(f"{line}\n" for line in lines))
    return str(file)


def _reds(source: DataSource, split: Any) -> dict[str, list[int]]:
    return {
        name: source.load([name], split, SIZE).images[:, 0, 0, 0].tolist()
        for name in source.classes
        if source.covered([name], split)
    }


def _picture(i: int) -> str:
    return f"photos/image{i:03d}.png"


def test_paths_labels_and_splits(photos: Path) -> None:
    rows = [
        f"{_picture(i)},{'cat' if i % 2 else ' dog '},{split}" for i, split in enumerate(["train"] * 4 + ["Test"] * 2)
    ]
    rows += [f"{_picture(6)},cat,valid", f"{_picture(7)},dog,"]
    source = open_source(_write(photos / "list.csv", "Path,label,split", *rows))
    assert source.classes == ("cat", "dog")
    assert _reds(source, "train") == {"cat": [1, 3], "dog": [0, 2, 7]}
    assert _reds(source, "val") == {"cat": [6]}
    assert _reds(source, "test") == {"cat": [5], "dog": [4]}
    assert (source.notes, source.listing.given, source.name) == ((), 8, "list.csv")


@pytest.mark.parametrize("name", ["path", "file_name", "Filename", "Image Path"])
@pytest.mark.parametrize("label", ["label", "Class", "class-name", "category"])
def test_names_of_columns(photos: Path, name: str, label: str) -> None:
    source = open_source(
        _write(photos / "a.tsv", f"id\t{name}\t{label}", *(f"{i}\t{_picture(i)}\t{i % 2}" for i in range(8)))
    )
    assert source.classes == ("0", "1")
    assert source.listing.given == 8
    assert "no test split" in source.notes[0]


def test_a_list_without_a_header(photos: Path) -> None:
    source = open_source(
        _write(photos / "a.csv", *(f"{_picture(i)};{'ab'[i % 2]};{'train' if i < 6 else 'test'}" for i in range(8)))
    )
    assert [source.listing.used(split) for split in SPLITS] == [6, 0, 2]


def test_json_lines(photos: Path) -> None:
    lines = [json.dumps({"image": _picture(i), "label": i % 2}) for i in range(7)]
    lines += ["", json.dumps({"image": _picture(7), "label": 1, "split": "test"})]
    source = open_source(_write(photos / "a.jsonl", *lines))
    assert [source.listing.used(split) for split in SPLITS] == [7, 0, 1]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_what_spreadsheets_and_windows_write(photos: Path, encoding: str) -> None:
    text = "sep=;\r\npath;label\r\n" + "".join(f"photos\\image{i:03d}.png;Bär\r\n" for i in range(8))
    (photos / "a.csv").write_bytes(text.encode(encoding))
    source = open_source(str(photos / "a.csv"))
    assert (source.classes, source.listing.given, len(source.notes)) == (("Bär",), 8, 1)


def test_rows_that_cannot_be_used(photos: Path) -> None:
    (photos / "clip.mp4").write_bytes(b"x")
    (photos / "notes.txt").write_text("x")
    rows = [
        *(f"{_picture(i)},a,train" for i in (0, 1)), f"{_picture(2)},a,test",
        "gone.png,a,train", "clip.mp4,a,train", "notes.txt,a,train", "https://x.org/a.png,a,train",
        f"{_picture(3)},,train", ",a,train", f"{_picture(4)},a,fold 3",
        f"{_picture(0)},a,train", f"photos/../{_picture(1)},a,train",
        f"{_picture(5)},a,train", f"{_picture(5)},b,train", f"{_picture(5)},a,train",
    ]  # fmt: skip
    source = open_source(_write(photos / "a.csv", "path,label,split", *rows, ""))
    assert {each.reason: len(each.files) for each in source.listing.aside} == {
        "listed, but missing": 1, "videos; extract frames": 1, "not pictures (.txt 1)": 1,
        "addresses on the network; download them": 1, "without a class": 1, "without a path": 1,
        "of split fold 3, which is not one of train, val and test": 1,
        "listed again": 2, "listed with different classes": 3,
    }  # fmt: skip
    assert source.listing.given == len(rows)
    assert len(source.notes) == 8  # all but those that are listed again


def test_paths_that_are_wrong_by_little_or_by_far(photos: Path) -> None:
    drive, address = r"C:\Users\me\a.png", "HTTPS://x.org/a.png"
    (photos / "photos" / unicodedata.normalize("NFD", "\xe9t\xe9.png")).write_bytes(b"x")
    rows = [drive, address, "Photos/IMAGE001.png", "photos/\xe9t\xe9.png", "Photos/gone.png", "Photos", _picture(0)]
    source = open_source(_write(photos / "a.csv", "path,label,split", *(f"{row},a,test" for row in rows)))
    assert {each.reason: len(each.files) for each in source.listing.aside} == {
        MISSING: 3, MISSPELT: 2, "addresses on the network; download them": 1,
    }  # fmt: skip
    assert {drive, address} <= {path for each in source.listing.aside for path in each.files}
    assert any(note.endswith(f"such as {address}") for note in source.notes)
    with pytest.raises(DataError, match=f"1 listed, but missing, such as {re.escape(drive)}; a column"):
        open_source(_write(photos / "b.csv", "path,label", f"{drive},a"))


def test_accents_of_a_class_in_two_forms(photos: Path) -> None:
    names = [unicodedata.normalize(form, "B\xe4r") for form in ("NFC", "NFD")]
    source = open_source(_write(photos / "a.csv", "path,label", *(f"{_picture(i)},{n}" for i, n in enumerate(names))))
    assert source.classes == ("B\xe4r",)


ROWS = st.lists(
    st.tuples(
        st.sampled_from([_picture(0), _picture(1), "./" + _picture(1), _picture(2), "gone.png", "", "s3://x/y.png"]),
        st.sampled_from(["a", "b", "cat", ""]),
        st.sampled_from(["train", "TEST", "dev", "", "holdout"]),
    ),
    max_size=12,
)


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("some")
    fill(root / "photos", 3)
    return root


@given(ROWS, st.booleans())
@settings(deadline=None, max_examples=150)
def test_every_row_is_used_or_set_aside(some: Path, rows: list[tuple[str, str, str]], as_json: bool) -> None:
    file = some / ("a.jsonl" if as_json else "a.csv")
    if as_json:
        _write(file, *(json.dumps({"path": p, "label": c, "split": s}) for p, c, s in rows))
        kept = rows
    else:
        _write(file, "path,label,split", *(",".join(row) for row in rows))
        kept = [row for row in rows if any(row)]  # a line of commas is empty
    try:
        listing = list_table(file)
    except DataError:
        return
    assert listing.given == len(kept)
    reader = listing.reader
    assert isinstance(reader, FileReader)
    used = [path for split in reader.files.values() for paths in split for path in paths]
    assert sum(map(listing.used, SPLITS)) == len(used)
    assert all(Path(path).is_file() for path in used)
    assert all(each.reason for each in listing.aside)
    for by_class in reader.files.values():
        assert max(Counter(path for paths in by_class for path in paths).values(), default=1) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "no row"),
        ("a.csv", b"name,kind\nx.png,a\n", r"columns name, kind; a column of paths \(path, file_name"),
        ("a.csv", b"path,label,class\nx.png,a,b\n", "several columns that may be that of classes: label, class"),
        ("a.csv", b"path,label,label\nx.png,a,b\n", "several columns that may be that of classes: label, label"),
        ("a.csv", bytes(1 << 24), "its first row has 16,777,216 characters or more"),
        ("a.csv", b"path,label\nx.png,a,b\n", "row 2 has 3 cells, not 2"),
        ("a.csv", b'path,label\n"x.png,a\n', "cannot be read: row 2"),
        ("a.csv", b'path,label\nx.png,a\n"y.png,a\nz.png,b\n"w.png",b\n', "cannot be read: row 3"),
        ("a.csv", b"path,label\nx.png,b\xe4r\n", "not UTF-8"),
        ("a.csv", b"path,label\nx.png,a\n", "no image that can be used; not used: 1 listed, but missing"),
        ("a.jsonl", b"[1, 2]\n", "row 1 is not an object"),
        ("a.jsonl", b'{"path": "x.png", "label": "a"}\n{', "cannot be read: row 2"),
        ("a.jsonl", b'{"path": "x.png", "label": ["a", "b"]}\n', "label must be text or a whole number"),
        ("a.jsonl", b'{"path": "x.png", "label": true}\n', "label must be text or a whole number"),
        ("a.jsonl", b'{"path": {"bytes": 1}, "label": "a"}\n', "path must be text"),
    ],
)  # fmt: skip
def test_what_is_no_list_of_pictures(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_source(str(tmp_path / name))


def test_a_class_in_two_spellings(photos: Path) -> None:
    file = _write(photos / "a.csv", "path,label", f"{_picture(0)},Red Fox", f"{_picture(1)},red_fox")
    with pytest.raises(DataError, match="'Red Fox' = 'red_fox'; write them alike"):
        open_source(file)


def test_groups_of_a_list(tmp_path: Path) -> None:
    for day in ("monday", "tuesday", "friday"):
        fill(tmp_path / day, 4)
    rows = [f"{day}/image{i:03d}.png,{'ab'[i % 2]}" for day in ("monday", "tuesday", "friday") for i in range(4)]
    listing = open_source(_write(tmp_path / "a.csv", "path,label", *rows), "folder").listing
    assert isinstance(listing.reader, FileReader)
    sides = {split: {Path(p).parent.name for p in files[0]} for split, files in listing.reader.files.items()}
    assert not sides["train"] & sides["test"]
    with pytest.raises(DataError, match="not a regular expression"):
        open_source(str(tmp_path / "a.csv"), "(")


def test_a_list_in_the_folder_with_a_path_in_another_case(tmp_path: Path) -> None:
    fill(tmp_path / "photos", 2)
    (tmp_path / "metadata.csv").write_text("file_name,label\nphotos/image000.png,a\nphotos/Image001.PNG,a\n")
    assert MISSPELT in [each.reason for each in open_source(str(tmp_path)).listing.aside]


def test_a_list_of_another_name_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "photos", 4)
    (tmp_path / "labels.csv").write_text("file_name,label\nphotos/image000.png,a\n")
    (tmp_path / "sizes.csv").write_text("file_name,width\nphotos/image000.png,8\n")
    (tmp_path / "latin.csv").write_bytes(b"file_name,label\nphotos/image000.png,B\xe4r\n")
    source = open_source(str(tmp_path))
    assert source.listing.given == 7
    assert any(note.startswith("1 not used: lists of pictures and classes") for note in source.notes)
