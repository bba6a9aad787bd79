"""A task: the class names that one small model has to tell apart."""

from __future__ import annotations

import codecs
import hashlib
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from mvp_edge.core.errors import TaskError
from mvp_edge.core.words import in_short

_FORMAT = (
    "A class list is a UTF-8 text file with one class name a line and at least two classes; "
    "`# ...` is a comment, `crane = crane.n.05` selects a WordNet noun for a name"
)
ONE_A_LINE = "write one class a line, not separated by commas"
STANDARD_INPUT = Path("-")
_MAX_BYTES = 1 << 20
_COMMENT = re.compile(r"(?:^|\s)#.*")
_MARKED = re.compile(r"[-*+\N{BULLET}]\s+(.+)|(?P<quote>[\"'`])((?:(?!(?P=quote)).)+)(?P=quote)")
_SYNSET = re.compile(r"\S+\.n\.\d{1,3}|n\d{8}")
# Longest first: the mark of UTF-32 begins with that of UTF-16.
_WIDE_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def canonical(name: str) -> str:
    """Return the spelling under which names are compared: lower case, composed accents, words joined by `_`."""
    # macOS stores folder names with decomposed accents; keyboards type composed ones.
    return "_".join(unicodedata.normalize("NFC", name.lower()).replace("-", " ").replace("_", " ").split())


def numbered(names: Iterable[str]) -> dict[str, int]:
    """Return the position of each name by its canonical spelling."""
    return {canonical(name): i for i, name in enumerate(names)}


@dataclass(frozen=True)
class TaskClass:
    """One class: its name as the user typed it and, once resolved, its WordNet noun synset (`apple.n.01`)."""

    name: str
    synset: str | None = None


@dataclass(frozen=True)
class Task:
    """Classes in the order of the model's outputs."""

    classes: tuple[TaskClass, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in output order."""
        return tuple(c.name for c in self.classes)

    @property
    def id(self) -> str:
        """Hash of the sorted canonical names; the order of the classes does not matter."""
        return hashlib.sha256("\n".join(sorted(map(canonical, self.names))).encode()).hexdigest()[:12]

    def called(self, name: str) -> TaskClass | None:
        """Return the class of this name, in whatever spelling, if there is one."""
        return next((c for c in self.classes if canonical(c.name) == canonical(name)), None)

    def unknown_to(self, known: Task) -> tuple[TaskClass, ...]:
        """Return the classes that another task does not have; both are resolved.

        Names decide, unless both have a synset: a computer's mouse is not the animal.
        """
        synsets = {canonical(c.name): c.synset for c in known.classes}

        def has(c: TaskClass) -> bool:
            key = canonical(c.name)
            return key in synsets and (c.synset is None or synsets[key] in (None, c.synset))

        return tuple(c for c in self.classes if not has(c))


def read_task(path: Path) -> Task:
    r"""Read a class list: a class a line, `#` comments, an optional `= synset` (`crane = crane.n.05`, or a wnid).

    `-` is the standard input, which can be read once only. Names stay as typed and in their order; two spellings that
    `canonical` makes equal are duplicates. Whether a synset exists is checked by `wordnet.resolve`.

    Raises:
        TaskError: The file cannot be read or is not a class list; the message names every problem with its line.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder) / "classes.txt"
        ...     _ = file.write_text("sweet pepper  # not the plant\n\ncrane = crane.n.05\n")
        ...     read_task(file).classes
        (TaskClass(name='sweet pepper', synset=None), TaskClass(name='crane', synset='crane.n.05'))
    """
    classes: list[TaskClass] = []
    problems: list[str] = []
    seen: dict[str, tuple[int, str]] = {}
    lines = 0
    for number, line in enumerate(_read(path).splitlines(), 1):
        entry, faults = _parse(line)
        problems += [f"line {number}: {fault}" for fault in faults]
        lines += bool(entry or faults)
        if entry is None:
            continue
        first, spelling = seen.setdefault(canonical(entry.name), (number, entry.name))
        if first != number:
            lines -= 1
            problems.append(f"line {number}: {entry.name!r} is the same class as {spelling!r} in line {first}")
        classes.append(entry)
    if lines < 2:
        problems.append(f"it names {'only one class' if lines else 'no class'}")
    if problems:
        problems += [ONE_A_LINE] if separated(c.name for c in classes) else []
        raise TaskError(f"{_place(path)}: {in_short(problems, separator='; ')}. {_FORMAT}.")
    return Task(tuple(classes))


def separated(names: Iterable[str]) -> bool:
    """Say whether a name looks like several in one line; there are names with commas, so that this is no proof."""
    return any(mark in name for name in names for mark in ",;")


def _place(path: Path) -> str:
    return "standard input" if path == STANDARD_INPUT else str(path)


def _read(path: Path) -> bytes:
    try:
        with nullcontext(sys.stdin.buffer) if path == STANDARD_INPUT else path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise TaskError(
            f"{path}: no such file. {_FORMAT}; make one with `printf 'espresso\\nteapot\\n' > classes.txt`."
        ) from None
    except IsADirectoryError:
        raise TaskError(f"{path} is a directory. Name the class list itself. {_FORMAT}.") from None
    except OSError as error:
        raise TaskError(f"{path} cannot be read: {error.strerror or error}. {_FORMAT}.") from None
    if len(raw) > _MAX_BYTES:
        raise TaskError(f"{_place(path)} is larger than {_MAX_BYTES >> 10} KiB, so it is not a class list. {_FORMAT}.")
    for mark, encoding in _WIDE_MARKS:
        if raw.startswith(mark):
            raise TaskError(
                f"{_place(path)} is {encoding}, not UTF-8. Save it as UTF-8, or type "
                f"`iconv -f {encoding} -t UTF-8 < {path} > utf8.txt`."
            )
    if b"\0" in raw:
        raise TaskError(f"{_place(path)} is a binary file. {_FORMAT}.")
    return raw.removeprefix(codecs.BOM_UTF8)


def _parse(line: bytes) -> tuple[TaskClass | None, list[str]]:
    """Return the class of a line, if it has a name, and what is wrong with the line."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return None, [f"byte 0x{line[error.start]:02x} in {line.decode('utf-8', 'replace')!r} is not UTF-8"]
    text = _COMMENT.sub("", text).strip()
    if not text:
        return None, []
    name, equals, synset = (part.strip() for part in text.partition("="))
    faults = list(_faults(text, name, synset, bool(equals)))
    return (TaskClass(name, synset.lower() or None) if canonical(name) else None), faults


def _faults(text: str, name: str, synset: str, bound: bool) -> Iterator[str]:
    if not canonical(name):
        yield f"{text!r} has no class name"
    if marked := _MARKED.fullmatch(name):
        yield f"{name!r} has a bullet or quotes; write only the name: {marked[1] or marked[3]}"
    if any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in name):  # Zl and Zp break lines, as in labels.txt
        yield f"{name!r} has a control character or a line separator"
    if bound and not _SYNSET.fullmatch(synset.lower()):
        word = canonical(synset).replace(" ", "_")
        such = f"{word}.n.01" if re.fullmatch(r"[\w-]+", word) else "crane.n.05"
        yield f"{synset!r} is not a noun synset; write one such as {such!r}, with its number, or 'n02012849'"
