"""The catalogue of a zoo: what ranking and listing need of all members, without torch.

Of a large zoo it is one file in the cache, so that an opened zoo reads that and not ten thousand descriptions. It is
made again when a member was added, removed or changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from mvp_edge.core.atomic import write_atomically
from mvp_edge.core.errors import ConfigError, ZooError
from mvp_edge.core.places import cache_dir
from mvp_edge.core.untrusted import MAX_JSON, check_printable, read_bytes
from mvp_edge.names.ranking import ClassLists
from mvp_edge.names.tasks import Task, TaskClass, canonical
from mvp_edge.zoo.location import FORMAT, read_base_classes, read_zoo_file, roots

MANY = 1000  # members; the descriptions of fewer are read as fast as a catalogue
DESCRIPTION = "member.json"


class _File(msgspec.Struct):
    """A catalogue as it is stored: arrays as their bytes."""

    ids: list[str]
    classes: list[TaskClass]
    positions: bytes
    ends: bytes
    generalist: bytes
    top1: bytes
    sizes: bytes
    stamps: bytes


@dataclass(frozen=True, eq=False)
class Catalogue:
    """All members of a zoo, sorted by id.

    Attributes:
        ids: Their ids.
        tasks: What each was pruned for.
        generalist: Bool `(members,)`.
        top1: `(members,)`, percent on the test split of its own task; NaN where it was not measured.
        sizes: Integer `(members,)`, bytes of all files of each.
        stamps: Integer `(members, 3)`: times and a size that change with each.
    """

    ids: Sequence[str]
    tasks: ClassLists
    generalist: np.ndarray
    top1: np.ndarray
    sizes: np.ndarray
    stamps: np.ndarray

    def to_bytes(self) -> bytes:
        """Return it as a file; `from_bytes` is the inverse."""
        arrays = {name: getattr(self, name).tobytes() for name in ("generalist", "top1", "sizes", "stamps")}
        positions, ends = self.tasks.positions.tobytes(), self.tasks.ends.tobytes()
        return msgspec.msgpack.encode(
            _File(ids=list(self.ids), classes=list(self.tasks.classes), positions=positions, ends=ends, **arrays)
        )

    @staticmethod
    def from_bytes(data: bytes) -> Catalogue:
        """Read what `to_bytes` wrote.

        Raises:
            ValueError: it is damaged.
        """
        file = msgspec.msgpack.decode(data, type=_File)
        positions, ends = np.frombuffer(file.positions, np.int32), np.frombuffer(file.ends, np.int64)
        found = Catalogue(
            ids=file.ids,
            tasks=ClassLists(tuple(file.classes), positions, ends),
            generalist=np.frombuffer(file.generalist, np.bool_),
            top1=np.frombuffer(file.top1, np.float64),
            sizes=np.frombuffer(file.sizes, np.int64),
            stamps=np.frombuffer(file.stamps, np.int64).reshape(-1, 3),
        )
        columns = (ends, found.generalist, found.top1, found.sizes, found.stamps)
        if any(len(column) != len(file.ids) for column in columns):
            raise ValueError("its columns are of different lengths")
        known = (positions >= 0) & (positions < len(file.classes))
        if len(positions) != (ends[-1] if len(ends) else 0) or not known.all():
            raise ValueError("its class lists are damaged")
        return found


class _Description(msgspec.Struct):
    """What a catalogue needs of a `member.json`."""

    format: int
    id: str
    kind: Literal["specialist", "generalist"]
    classes: list[TaskClass]
    top1: float | None
    base_sha256: str


def member_directories(directories: Sequence[Path]) -> dict[str, Path]:
    """Return the directories of a zoo's members by id, sorted; of two of one id, the one that is found first.

    Raises:
        ZooError: one cannot be read.
    """
    found: dict[str, Path] = {}
    for members in (directory / "members" for directory in directories):
        try:
            with os.scandir(members) as entries:
                for entry in entries:
                    if not entry.name.startswith(".") and entry.is_dir():
                        found.setdefault(entry.name, members / entry.name)
        except FileNotFoundError:
            continue
        except OSError as e:
            raise ZooError(f"{members} cannot be read ({e.strerror}); make it a directory that you may read") from e
    return dict(sorted(found.items()))


def read_catalogue(directories: Sequence[Path], base_sha256: str, before: Catalogue | None = None) -> Catalogue:
    """Return the catalogue of a zoo.

    Args:
        directories: All that hold members of it (`location.roots`).
        base_sha256: Checksum of its base model's weights.
        before: What was read before, which is returned if no member has changed since.

    Raises:
        ZooError: a member is damaged or was cut from another base model.
    """
    found = member_directories(directories)
    stamps = np.array([_stamp(directory) for directory in found.values()], np.int64)
    if before is not None and before.ids == list(found) and np.array_equal(before.stamps, stamps):
        return before
    if len(found) < MANY:
        return _read_members(found, stamps, base_sha256)
    key = "\n".join([str(FORMAT), base_sha256, *(str(directory.resolve()) for directory in directories)])
    file = f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.msgpack"
    with contextlib.suppress(ConfigError, OSError, ValueError):
        stored = Catalogue.from_bytes(read_bytes(cache_dir() / "catalogues" / file))
        if stored.ids == list(found) and np.array_equal(stored.stamps, stamps):
            return stored
    made = _read_members(found, stamps, base_sha256)
    with contextlib.suppress(ConfigError, OSError):  # without a place in the cache the next run is slower, and no more
        (cache_dir() / "catalogues").mkdir(parents=True, exist_ok=True)
        write_atomically(cache_dir() / "catalogues" / file, made.to_bytes())
    return made


def summary(name: str | None) -> dict[str, Any]:
    """Return what `zoo list` shows of a zoo; `name` as for `location.read_zoo_file`.

    Raises:
        ZooError: there is no such zoo, or it or a member is damaged.
    """
    path, value = read_zoo_file(name)
    catalogue = _of(path, value)
    scores = catalogue.top1[~np.isnan(catalogue.top1)].tolist()
    generalists = int(catalogue.generalist.sum())
    return {
        "name": value["name"],
        "path": str(path),
        "base": value["base"]["name"],
        "members": len(catalogue.ids),
        "specialist": len(catalogue.ids) - generalists,
        "generalist": generalists,
        "mean_top1": round(sum(scores) / len(scores), 2) if scores else None,
        "bytes": int(catalogue.sizes.sum()) + sum(map(_bytes_besides_members, roots(path, value))),
    }


def read_generalist_classes(name: str | None) -> tuple[str, ...]:
    """Return what the generalists of a zoo know; timm's bases name no classes, and others fewer than these.

    Raises:
        ZooError: there is no such zoo, or it or a member is damaged.
    """
    catalogue = _of(*read_zoo_file(name))
    tasks = (catalogue.tasks[i] for i in np.flatnonzero(catalogue.generalist).tolist())
    return tuple(dict.fromkeys(name for task in tasks for name in task.names))


def read_known_classes(name: str | None) -> tuple[str, tuple[str, ...]]:
    """Return the name of a zoo's base model and the classes that it or a generalist knows, a spelling of each.

    Raises:
        ZooError: there is no such zoo, or it or a member is damaged.
    """
    base, classes = read_base_classes(name)
    spelled = {canonical(c): c for c in (*read_generalist_classes(name), *classes)}
    return base, tuple(spelled.values())


def _of(path: Path, value: Mapping[str, Any]) -> Catalogue:
    return read_catalogue(roots(path, value), value["base"]["sha256"])


def _stamp(directory: Path) -> tuple[int, int, int]:
    """Return what changes with a member: two times and a size."""
    try:
        description, place = (directory / DESCRIPTION).stat(), directory.stat()
    except FileNotFoundError as e:
        raise ZooError(f"{directory} holds no {DESCRIPTION}; remove it") from e
    except OSError as e:
        raise ZooError(f"{directory} cannot be read ({e.strerror}); make it a directory that you may read") from e
    return description.st_mtime_ns, description.st_size, place.st_mtime_ns


def _read_members(found: Mapping[str, Path], stamps: np.ndarray, base_sha256: str) -> Catalogue:
    spellings: dict[str, str] = {}
    read = [_describe(directory, base_sha256, spellings) for directory in found.values()]
    return Catalogue(
        ids=list(found),
        tasks=ClassLists.of(Task(tuple(each.classes)) for each in read),
        generalist=np.array([each.kind == "generalist" for each in read], bool),
        top1=np.array([np.nan if each.top1 is None else each.top1 for each in read], np.float64),
        sizes=np.array([_bytes_in(str(directory)) for directory in found.values()], np.int64),
        stamps=stamps,
    )


def _describe(directory: Path, base_sha256: str, spellings: dict[str, str]) -> _Description:
    """Return what a catalogue needs of a member; `spellings` has names that were checked, as they are compared."""
    path = directory / DESCRIPTION
    try:
        found = msgspec.json.decode(read_bytes(path, MAX_JSON), type=_Description)
        if found.format != FORMAT:
            raise ValueError(f"it has format {found.format}, but this version reads {FORMAT}")
        for name in (c.name for c in found.classes if c.name not in spellings):
            check_printable([name])
            spellings[name] = canonical(name)
        if len({spellings[c.name] for c in found.classes}) < max(1, len(found.classes)):
            raise ValueError("it has no class, or one twice")
        if found.id != directory.name:
            raise ValueError(f"it is that of another member, {found.id!r}")
        if found.base_sha256 != base_sha256:
            raise ValueError("it was cut from another base model than this zoo's")
    except (OSError, ValueError, RecursionError) as e:
        raise ZooError(f"{path} is damaged ({e}); look for others with: mvp-edge zoo verify") from e
    return found


def _bytes_besides_members(directory: Path) -> int:
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        parts = [entry for entry in entries if entry.name != "members"]
        return sum(_bytes_in(entry.path) if entry.is_dir() else entry.stat().st_size for entry in parts)
    return 0


def _bytes_in(directory: str) -> int:
    """Return the size of all files in a directory; what another process removes meanwhile does not count."""
    total = 0
    for place, _, names in os.walk(directory):  # it passes over a directory that has gone
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(f"{place}/{name}").st_size  # noqa: PTH116 (a Path costs more than its size)
    return total
