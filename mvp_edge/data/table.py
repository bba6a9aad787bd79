"""Lists of pictures and their classes: CSV and JSON Lines."""

from __future__ import annotations

import csv
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from mvp_edge.core.errors import DataError
from mvp_edge.data.formats import FORMAT_OF, why_not_picture
from mvp_edge.data.listing import Found, Group, Listing, Split, arranged, clashes, grouping, unused
from mvp_edge.names.tasks import canonical

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
"""Of files that are read as a list."""

ROLES: Mapping[str, Split] = {
    **dict.fromkeys(("train", "training", "train_set", "training_set"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "eval", "evaluation", "dev", "val_set", "validation_set"), "val"),
    **dict.fromkeys(("test", "testing", "test_set"), "test"),
}
"""Split by its name in lower case."""

PATHS = ("path", "file_name", "filename", "file", "file_path", "filepath", "image", "image_path", "image_file_name")
LABELS = ("label", "class", "class_name", "category")
SPLIT_NAMES = ("split", "subset", "set")
"""Names of columns, in the spelling of `canonical`."""

REQUIRED = (
    f"a column of paths ({', '.join(PATHS[:4])}, ...) and one of classes ({', '.join(LABELS)}) are required, "
    "one of splits (split) is optional"
)
MISSING = "listed, but missing"
MISSPELT = "listed, but missing: there is a file whose name differs in upper and lower case or in accents only"
_LONGEST = 1 << 24  # of a row: what has no rows is not held in memory
_SEPARATOR = re.compile(r"sep=(.)\s*")  # a first row of Excel
_NETWORK = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
WhyNot = Callable[[str], tuple[str, bool] | None]
"""Returns why a path is not read, and whether it may be a picture; None for a picture that is."""


class Row(NamedTuple):
    """A picture's path, its class and its split as they are written; empty if there is none."""

    path: str
    label: str
    split: str = ""


@dataclass(frozen=True)
class Table:
    """A list of pictures whose columns are known.

    Attributes:
        path: The file.
        columns: Columns of path, class and split: names in JSON Lines, else positions. None: there is no such column.
        header: Number of rows before the first picture.
    """

    path: Path
    columns: tuple[Any, Any, Any]
    header: int = 0

    def rows(self) -> Iterator[Row]:
        """Yield the rows, with paths as they are found from the folder of the file.

        Raises:
            DataError: The file is damaged, or a value is neither text nor a whole number.
        """
        folder = str(self.path.parent)
        for number, record in _records(self.path):
            if number <= self.header:
                continue
            path, label, split = (_text(record, column, self.path, number) for column in self.columns)
            yield Row(_joined(folder, path), label, split)


def list_table(file: Path, group_by: str | None = None) -> Listing:
    """Return the listing of the pictures that a CSV or JSON Lines file names.

    Args:
        file: A file with a column of paths, which are relative to its folder, and a column of classes.
        group_by: As for `list_folder`.

    Raises:
        DataError: The file cannot be read, lacks a column, spells a class in two ways or names no picture that exists,
            or `group_by` is not a regular expression.
    """
    group = None if group_by is None else grouping(group_by, str(file.parent))
    table = read_table(file)
    if table is None:
        columns = _columns(file)
        found = f"the columns {', '.join(map(str, columns))}" if columns else "no row"
        raise DataError(f"{file} has {found}; {REQUIRED}")
    return listed(table.rows(), {}, group, str(file), partial(_why_not_file, {}))


def read_table(file: Path) -> Table | None:
    """Return a list of pictures, or None if it has no columns of paths and classes.

    Raises:
        DataError: The file cannot be read, or has several columns of one kind.
    """
    columns = _columns(file)
    places = [(canonical(name), name if _is_json(file) else i) for i, name in enumerate(columns)]
    found = [[place for key, place in places if key in known] for known in (PATHS, LABELS, SPLIT_NAMES)]
    for several, what in zip(found, ("paths", "classes", "splits"), strict=True):
        if len(several) > 1:
            names = ", ".join(str(columns[each]) if isinstance(each, int) else each for each in several)
            raise DataError(f"{file} has several columns that may be that of {what}: {names}; keep one of them")
    path, label, split = (each[0] if each else None for each in found)
    if path is not None and label is not None:
        return Table(file, (path, label, split), 0 if _is_json(file) else 1)
    if not _is_json(file) and len(columns) in (2, 3) and os.path.splitext(columns[0])[1].lower() in FORMAT_OF:  # noqa: PTH122
        return Table(file, (0, 1, 2 if len(columns) == 3 else None))
    return None


def listed(rows: Iterable[Row], aside: Found, group: Group | None, place: str, why_not: WhyNot) -> Listing:
    """Return the listing of rows; those that are not used go to `aside`.

    Args:
        rows: Paths with classes and splits.
        aside: Files that are not used for other reasons.
        group: As for `arranged`.
        place: Where the rows are from.
        why_not: Why a path is not read.

    Raises:
        DataError: A class is spelled in two ways, or no row can be used.
    """
    chosen: dict[Split, dict[str, str | None]] = {"train": {}, "val": {}, "test": {}}
    labels: dict[str, str] = {}
    val = ""
    for row in rows:
        why, split = _why_not_row(row), ROLES.get(row.split.lower() or "train")
        if why is None and split is None:
            why = f"of split {row.split}, which is not one of train, val and test", True
        why = why or why_not(row.path)
        if why is None and split is not None:
            val = row.split if split == "val" else val
            name = unicodedata.normalize("NFC", row.label)
            label = labels.setdefault(name, name)  # one string for all rows of a class
            before = chosen[split].setdefault(row.path, "")
            if before == "":
                chosen[split][row.path] = label
                continue
            if before == label:
                why = "listed again", False
            else:
                chosen[split][row.path] = None
        aside.setdefault(why or _CONFLICT, []).append(row.path or f"{place}: a row without a path")
    if same := clashes(labels):
        raise DataError(f"{place} spells one class in several ways: {same}; write them alike")
    found: dict[Split, dict[str, list[str]]] = {"train": {}, "val": {}, "test": {}}
    for split, by_path in chosen.items():
        for path, label in by_path.items():
            if label is None:
                aside.setdefault(_CONFLICT, []).append(path)
            else:
                found[split].setdefault(label, []).append(path)
    if not found["train"] and not found["val"] and not found["test"]:
        raise DataError(f"{place} has no image that can be used{unused(aside)}; {REQUIRED}")
    return arranged(found, aside, group, place, val)


_CONFLICT = "listed with different classes", True


def _why_not_row(row: Row) -> tuple[str, bool] | None:
    if not row.path:
        return "without a path", True
    if not row.label:
        return "without a class", True
    return ("addresses on the network; download them", True) if _NETWORK.match(row.path) else None


def folded(path: str) -> str:
    """Return a path in the spelling under which those are equal that differ in case and accents only."""
    return unicodedata.normalize("NFC", path.casefold())


def _why_not_file(seen: dict[str, dict[str, str]], path: str) -> tuple[str, bool] | None:
    if not os.path.isfile(path):  # noqa: PTH113
        return MISSPELT if os.path.isfile(_alike(path, seen) or "") else MISSING, True  # noqa: PTH113
    why = why_not_picture(path)
    return why and (why[0], True)


def _alike(path: str, seen: dict[str, dict[str, str]]) -> str | None:
    """Return the path of a file or folder that differs in case or accents only; `seen` has folders that were read."""
    folder, name = os.path.split(path)
    if os.path.exists(path) or not name:  # noqa: PTH110
        return path
    if (parent := _alike(folder, seen)) is None:
        return None
    if parent not in seen:
        try:
            names = os.listdir(parent or ".")  # noqa: PTH208
            seen[parent] = {folded(each): os.path.join(parent, each) for each in names}  # noqa: PTH118
        except OSError:
            seen[parent] = {}
    return seen[parent].get(folded(name))


def _joined(folder: str, path: str) -> str:
    """Return a path from a list as it is found from its folder; one that was written on Windows has backslashes."""
    if not path or _NETWORK.match(path) or (os.sep == "/" and _DRIVE.match(path)):
        return path
    whole = os.path.normpath(os.path.join(folder, path))  # noqa: PTH118
    if os.sep == "/" and "\\" in path and not os.path.exists(whole):  # noqa: PTH110
        return os.path.normpath(os.path.join(folder, path.replace("\\", "/")))  # noqa: PTH118
    return whole


def _is_json(file: Path) -> bool:
    return file.suffix.lower() in (".jsonl", ".ndjson")


def _columns(file: Path) -> list[str]:
    """Return the names of the columns; of a CSV the cells of the first row."""
    records = _records(file)
    if _is_json(file):
        return list(dict.fromkeys(key for _, record in records for key in record))
    return next(records, (0, []))[1]


def _records(file: Path) -> Iterator[tuple[int, Any]]:
    """Yield the number and content of each row that is not empty: lists of cells, or objects."""
    with _explained(file), _opened(file) as stream:
        if len(first := stream.readline(_LONGEST)) == _LONGEST:
            raise ValueError(f"its first row has {_LONGEST:,} characters or more")
        if (mark := _SEPARATOR.fullmatch(first)) is None:
            stream.seek(0)
        if _is_json(file):
            decode, lines = msgspec.json.decode, (line for line in stream if line.strip())
            for number, line in enumerate(lines, 1):
                try:
                    record = decode(line)
                except msgspec.DecodeError as error:
                    raise ValueError(f"row {number}: {error}") from error
                if not isinstance(record, dict):
                    raise ValueError(f'row {number} is not an object, such as {{"path": ..., "label": ...}}')
                yield number, record
            return
        reader = csv.reader(stream, delimiter=mark[1] if mark else max(",;\t", key=first.count), strict=True)
        number, width = 0, None
        try:
            for number, cells in enumerate((cells for cells in reader if any(cells)), 1):
                width = width or len(cells)
                if any(cells[width:]):
                    raise ValueError(f"row {number} has {len(cells)} cells, not {width}; quote cells that hold a comma")
                yield number, cells
        except csv.Error as error:  # a quotation mark that is not closed takes in all that follows
            raise ValueError(f"row {number + 1}: {error}; close or remove its quotation marks") from error


def _opened(file: Path) -> IO[str]:
    with file.open("rb") as raw:
        wide = raw.read(2) in (b"\xff\xfe", b"\xfe\xff")
    return file.open(encoding="utf-16" if wide else "utf-8-sig", newline="")


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeError as error:
        raise DataError(f"{file} is not UTF-8 text ({error}); save it as UTF-8") from error
    except (ValueError, OSError) as error:
        raise DataError(f"{file} cannot be read: {error}; it must be CSV or JSON Lines, and {REQUIRED}") from error


def _text(record: Any, column: Any, file: Path, number: int) -> str:
    """Return a cell as text; empty if there is none."""
    if isinstance(record, list):
        return record[column].strip() if column is not None and column < len(record) else ""
    value = None if column is None else record.get(column)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{file}, row {number}: {column} must be text or a whole number, not {value!r}")
    return str(value).strip()
