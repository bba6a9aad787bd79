"""A zoo's directory: crash-safe, open to several writers at once, and never out of step with itself.

    zoo.json            name, format, the base model's metadata
    base.safetensors.gz the base model's weights
    members/ID/         member.json, weights.safetensors.gz and, of generalists, outputs.safetensors.gz

A member is written under a temporary name and renamed last, so that a directory under its own name is complete. There
is no list of members that several writers would have to keep right (`zoo.catalogue` has one in the cache).
A bundled zoo grows in the user's own directory, so that the package stays as installed and upgrades lose nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from filelock import BaseFileLock, FileLock, Timeout
from torch import Tensor, nn

from mvp_edge.config import Packing
from mvp_edge.core.atomic import sync_directory, write_atomically
from mvp_edge.core.errors import ConfigError, MvpEdgeError, ZooError
from mvp_edge.core.untrusted import MAX_JSON, read_bytes, read_json
from mvp_edge.models.bases import BASE_FILE, Base, load_base, serialise_base
from mvp_edge.models.tensors import compress, content_sha256, deserialise, serialise
from mvp_edge.names.tasks import Task
from mvp_edge.zoo.catalogue import Catalogue, member_directories, read_catalogue, summary
from mvp_edge.zoo.location import BUILD, FORMAT, damaged, read_file, read_zoo_file, repair, roots
from mvp_edge.zoo.member import Member, MemberInfo, Outputs, read_outputs, read_weights, write_outputs
from mvp_edge.zoo.mirror import require_file

STALE_SECONDS = 24 * 3600
WEIGHTS = "weights.safetensors.gz"
OUTPUTS = "outputs.safetensors.gz"


class Added(NamedTuple):
    """A member as it is in the zoo now, and whether it is new there."""

    info: MemberInfo
    new: bool


@dataclass(frozen=True)
class Zoo:
    """An opened zoo.

    Attributes:
        path: Its directory.
        name: For people, and of bundled ones to open them.
        base: The base model.
        packing: How weights are stored.
        growth: Where members are added to a bundled zoo.
    """

    path: Path
    name: str
    base: Base
    packing: Packing
    growth: Path | None = None
    _infos: dict[str, tuple[tuple[int, int], MemberInfo]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    _catalogues: list[Catalogue] = field(default_factory=list, init=False, repr=False, compare=False)

    def infos(self) -> list[MemberInfo]:
        """Return all members' descriptions, sorted by id.

        Raises:
            ZooError: a member is damaged or was cut from another base model.
        """
        return [self.info(name) for name in self.ids()]

    def knowing(self, task: Task) -> list[MemberInfo]:
        """Return the generalists that know all classes of a task, in the order of `MemberInfo.sort_key`.

        Raises:
            ZooError: a member is damaged or was cut from another base model.
        """
        return sorted((i for i in self.generalists() if i.covers(task)), key=lambda i: i.sort_key)

    def generalists(self) -> list[MemberInfo]:
        """Return the descriptions of all generalists, sorted by id; those of specialists are not read.

        Raises:
            ZooError: a member is damaged or was cut from another base model.
        """
        catalogue = self.catalogue()
        return [self.info(catalogue.ids[i]) for i in catalogue.generalist.nonzero()[0].tolist()]

    def catalogue(self) -> Catalogue:
        """Return what ranking needs of all members.

        Raises:
            ZooError: a member is damaged or was cut from another base model.
        """
        before = self._catalogues[-1] if self._catalogues else None
        self._catalogues[:] = [read_catalogue(self._roots, self.base.sha256, before)]
        return self._catalogues[0]

    def ids(self) -> list[str]:
        """Return the names of all members, sorted."""
        return list(member_directories(self._roots))

    def info(self, member: str) -> MemberInfo:
        """Return one member's description; its file is read once, and again when it has changed.

        Raises:
            ZooError: there is no such member, its directory is none, it is damaged, or it was cut from another base.
        """
        path = self.member_directory(member) / "member.json"
        try:
            stat = path.stat()
            state = stat.st_mtime_ns, stat.st_size
            if member in self._infos and self._infos[member][0] == state:
                return self._infos[member][1]
            value = read_json(read_bytes(path, MAX_JSON))
        except FileNotFoundError as e:
            if path.parent.is_dir():
                raise ZooError(f"{path.parent} holds no member.json; remove it") from e
            raise ZooError(f"zoo {self.name} has no member {member!r}; see: mvp-edge zoo show {self.path}") from e
        except (OSError, ValueError) as e:
            raise ZooError(f"{path} is damaged ({e}); {self._mend(member)}") from e
        info = MemberInfo.from_json(value, str(path))
        if info.id != member:
            raise ZooError(f"{path} is that of another member ({info.id!r}); {self._mend(member)}")
        if info.base_sha256 != self.base.sha256:
            raise ZooError(
                f"member {member} was cut from another base model ({info.base_sha256[:12]}) than this zoo's "
                f"{self.base.name} ({self.base.sha256[:12]}); remove it or use its own zoo"
            )
        self._infos[member] = state, info
        return info

    def load(self, info: MemberInfo) -> Member:
        """Return a member with its tensors.

        Raises:
            ZooError: its file is missing or does not match its checksum.
        """
        data, path = self._checked(info.id, WEIGHTS, info.weights_sha256)
        return Member(info, read_weights(data, str(path)))

    def has(self, member: str) -> bool:
        """Say whether a member is there."""
        return (self.member_directory(member) / "member.json").is_file()

    def outputs(self, info: MemberInfo) -> Outputs | None:
        """Return a member's outputs on the test split of its data, or None if they were not kept.

        Raises:
            ZooError: their file is missing or does not match its checksum.
        """
        if not info.outputs_sha256:
            return None
        data, path = self._checked(info.id, OUTPUTS, info.outputs_sha256)
        return read_outputs(data, str(path))

    def as_stored(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors as they would be read back after packing."""
        return deserialise(serialise(state, self.packing))[0]

    def add(self, info: MemberInfo, state: dict[str, Tensor], outputs: Outputs | None = None) -> Added:
        """Write a member, all or nothing; one that is there already stays as it is, and is what is returned.

        Raises:
            ZooError: it was cut from another base model, or the zoo cannot be written.
        """
        if info.base_sha256 != self.base.sha256:
            raise ZooError(
                f"this model was cut from another base ({info.base_sha256[:12]}) than zoo {self.name}'s "
                f"{self.base.name} ({self.base.sha256[:12]}); add it to the zoo of its own base"
            )
        files = {WEIGHTS: compress(serialise(state, self.packing))}
        info = replace(info, weights_sha256=_sha256(files[WEIGHTS]))
        if outputs is not None:
            files[OUTPUTS] = write_outputs(outputs)
            info = replace(info, outputs_sha256=_sha256(files[OUTPUTS]))
        members = self.directory / "members"
        partial = members / f".{info.id}.{secrets.token_hex(4)}"
        try:
            partial.mkdir(parents=True)
            for name, data in files.items():
                (partial / name).write_bytes(data)
            (partial / "member.json").write_text(json.dumps(info.to_json()), encoding="utf-8")
            _sync(partial)
            if new := not self.has(info.id):
                partial.rename(members / info.id)
                sync_directory(members)
        except OSError as e:
            if not self.has(info.id):
                raise self._unwritable(e) from e
            new = False  # another process was faster
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return Added(info if new else self.info(info.id), new)

    def require_writable(self) -> None:
        """Say early, before any work, whether a member can be added.

        Raises:
            ZooError: it cannot.
        """
        probe = self.directory / "members" / f".{secrets.token_hex(4)}"
        try:  # permissions do not tell of read-only file systems
            probe.mkdir(parents=True)
            probe.rmdir()
        except OSError as e:
            raise self._unwritable(e) from e

    @contextlib.contextmanager
    def claim(self, member: str, patience_s: float = 0.0) -> Iterator[bool]:
        """Hold a member while it is made; False if it is there or another process makes it.

        The operating system frees the claim of a process that dies.

        Args:
            member: Its id.
            patience_s: How long to wait for another process that makes it.

        Raises:
            ZooError: the zoo cannot be written.
        """
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(zoo_lock(self.directory, member, patience_s))
            except Timeout:
                yield False
                return
            except OSError as e:
                raise self._unwritable(e) from e
            yield not self.has(member)

    def load_base(self) -> nn.Module:
        """Return the base model with its weights.

        Raises:
            ZooError: its file is missing, damaged or another one than when the zoo was made.
        """
        path = require_file(self.path, BASE_FILE)
        try:
            found, model = load_base(str(path))
        except ConfigError as e:
            raise ZooError(f"zoo {self.name}: {e}; {repair(self.path, BUILD)}") from e
        if found.sha256 != self.base.sha256:
            raise ZooError(f"{path} holds other weights than this zoo was made for; {repair(self.path, BUILD)}")
        return model

    def verify(self) -> list[str]:
        """Check every file against its checksum and return what is wrong, one line a problem."""
        problems = []
        try:
            self.load_base()
        except MvpEdgeError as e:
            problems.append(str(e))
        for name in self.ids():
            try:
                info = self.info(name)
                self.load(info)
                self.outputs(info)
            except MvpEdgeError as e:
                problems.append(str(e))
        return problems

    def files(self) -> dict[str, Path]:
        """Return where its files with a checksum are, by their path in a zoo.

        Raises:
            ZooError: a member is damaged or was cut from another base model.
        """
        found = {BASE_FILE: self.path / BASE_FILE}
        for info in self.infos():
            for name in (WEIGHTS, OUTPUTS) if info.outputs_sha256 else (WEIGHTS,):
                found[f"members/{info.id}/{name}"] = self.member_directory(info.id) / name
        return found

    def remove_leftovers(self) -> None:
        """Delete what writers that died long ago left under temporary names."""
        for left in (*self.directory.glob(".*.tmp"), *(self.directory / "members").glob(".*")):
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > STALE_SECONDS:
                    shutil.rmtree(left) if left.is_dir() else left.unlink()

    def summary(self) -> dict[str, Any]:
        """Return what `zoo list` shows of it."""
        return summary(str(self.path))

    def _checked(self, member: str, file: str, sha256: str) -> tuple[bytes, Path]:
        root = self._root(member)
        path = root / "members" / member / file
        try:
            data = read_file(root, f"members/{member}/{file}")
        except OSError as e:
            raise ZooError(f"{path} cannot be read ({e.strerror}); {self._mend(member)}") from e
        if _sha256(data) != sha256:
            raise ZooError(f"{path} does not match its checksum; {self._mend(member)}")
        return data, path

    @property
    def directory(self) -> Path:
        """Where what is added is written: the zoo's own directory or, for a bundled one, its place at the user's."""
        return self._roots[-1]

    @property
    def _roots(self) -> list[Path]:
        return [self.path] if self.growth is None else [self.path, self.growth]

    def _root(self, member: str) -> Path:
        return next((root for root in self._roots if (root / "members" / member).is_dir()), self._roots[-1])

    def member_directory(self, member: str) -> Path:
        """Return the directory of a member, there or not."""
        return self._root(member) / "members" / member

    def _mend(self, member: str) -> str:
        build = f"remove {self.member_directory(member)} and build the member again with: mvp-edge zoo build"
        return repair(self._root(member), build)

    def _unwritable(self, error: OSError) -> ZooError:
        return ZooError(f"zoo {self.directory} cannot be written ({error.strerror or error}); make room or copy it")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def open_zoo(name: str | None) -> Zoo:
    """Open a bundled zoo by name, any zoo by its directory, or the default one.

    Raises:
        ZooError: there is no such zoo, or the directory is none.
        ConfigError: it is a bundled one, and there is no place for what the user adds.
    """
    path, value = read_zoo_file(name)
    try:
        base = Base.from_json(value["base"])
        growth = next(iter(roots(path, value)[1:]), None)
        return Zoo(path, value["name"], base, value["packing"], growth)
    except (ValueError, KeyError, TypeError) as e:
        raise damaged(path, e) from e


def create_zoo(path: Path, base: Base, model: nn.Module, packing: Packing = "int8", name: str | None = None) -> Zoo:
    """Make an empty zoo for a base model, or open the one that is there.

    Any number of processes may do so at once: one makes it, the others open what it has made.

    Args:
        path: Its directory.
        base: The base model.
        model: With its weights.
        packing: How they and those of members are stored.
        name: For people; that of the directory if not given.

    Raises:
        ZooError: the directory holds something else or a zoo of another base model, or cannot be written.
    """
    data = serialise_base(model, base, packing)
    base = replace(base, sha256=content_sha256(deserialise(data)[0]))
    _refuse_foreign_files(path)
    try:
        (path / "members").mkdir(parents=True, exist_ok=True)
        with zoo_lock(path, "zoo", math.inf):
            if not (path / "zoo.json").exists():
                write_atomically(path / BASE_FILE, compress(data))
                value = {
                    "format": FORMAT,
                    "name": name or path.resolve().name,
                    "packing": packing,
                    "base": base.to_json(),
                }
                write_atomically(path / "zoo.json", json.dumps(value, indent=1).encode())
    except OSError as e:
        raise ZooError(f"zoo {path} cannot be written ({e}); choose another directory or make room") from e
    zoo = open_zoo(str(path))
    if zoo.base != base:
        raise ZooError(
            f"{path} is a zoo of {zoo.base.name} ({zoo.base.sha256[:12]}), not of {base.name} ({base.sha256[:12]}); "
            "choose another directory"
        )
    return zoo


def _refuse_foreign_files(path: Path) -> None:
    """Refuse a directory that holds anything but a zoo, whole or as a process that was killed has left it.

    Names with a dot are those under which files are written first.
    """
    found = {f.name for f in path.iterdir() if not f.name.startswith(".")} if path.is_dir() else set()
    if (path.exists() and not path.is_dir()) or ("zoo.json" not in found and found - {BASE_FILE, "members"}):
        raise ZooError(f"{path} exists and is not a zoo; choose another directory")


def _sync(directory: Path) -> None:
    """Make sure that what the directory holds has reached the disk before it gets its name."""
    for file in directory.iterdir():
        with file.open("rb") as f:
            os.fsync(f.fileno())
    sync_directory(directory)


def zoo_lock(directory: Path, name: str, patience_s: float) -> BaseFileLock:
    """Return a lock among all processes that write to a zoo; the operating system frees that of one that dies.

    Raises:
        OSError: the zoo cannot be written.
    """
    locks = directory / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    return FileLock(locks / f"{name}.lock", timeout=patience_s)
