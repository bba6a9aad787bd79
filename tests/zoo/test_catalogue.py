"""The catalogue of a zoo: as its members are, whatever happened to them since it was stored."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mvp_edge.core.errors import ZooError
from mvp_edge.names.ranking import ClassLists
from mvp_edge.zoo import catalogue as module
from mvp_edge.zoo.catalogue import Catalogue, read_catalogue, summary
from mvp_edge.zoo.store import Zoo, open_zoo


@pytest.fixture
def zoo(generalist_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Zoo:
    """A zoo that is large enough for a stored catalogue."""
    monkeypatch.setattr(module, "MANY", 2)
    monkeypatch.setenv("MVP_EDGE_CACHE", str(tmp_path / "cache"))
    return open_zoo(str(shutil.copytree(generalist_zoo, tmp_path / "zoo")))


def stored(tmp_path: Path) -> Path:
    (file,) = (tmp_path / "cache" / "catalogues").glob("*.msgpack")
    return file


def agrees(found: Catalogue, zoo: Zoo) -> bool:
    infos = zoo.infos()
    return (
        list(found.ids) == [i.id for i in infos]
        and [found.tasks[n] for n in range(len(infos))] == [i.task for i in infos]
        and found.generalist.tolist() == [i.kind == "generalist" for i in infos]
        and np.array_equal(found.top1, np.array([i.top1 for i in infos], float), equal_nan=True)
    )


def describe(path: Path, **words: object) -> None:
    file = path / "member.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | words))


def test_a_catalogue_is_read_once_it_is_stored(zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = zoo.catalogue()
    assert agrees(first, zoo)
    monkeypatch.setattr(module, "_read_members", None)
    again = zoo.catalogue()
    assert agrees(again, zoo) and again.sizes.tolist() == first.sizes.tolist()
    assert summary(str(zoo.path)) == zoo.summary()
    assert zoo.summary()["bytes"] == sum(f.stat().st_size for f in zoo.path.rglob("*") if f.is_file())


@pytest.mark.parametrize("what", ["added", "removed", "changed", "unmeasured", "cut", "other", "no place"])
def test_a_stale_or_damaged_catalogue_is_made_again(zoo: Zoo, tmp_path: Path, what: str) -> None:
    zoo.catalogue()
    first, *_ = zoo.ids()
    path, file = zoo.member_directory(first), stored(tmp_path)
    changes: dict[str, Callable[[], object]] = {
        "added": lambda: describe(Path(shutil.copytree(path, path.with_name("zz"))), id="zz"),
        "removed": lambda: shutil.rmtree(path),
        "changed": lambda: describe(path, top1=12.25),
        "unmeasured": lambda: describe(path, top1=None),
        "cut": lambda: file.write_bytes(file.read_bytes()[:-9]),
        "other": lambda: file.write_bytes(b"\x80"),
        "no place": lambda: (shutil.rmtree(file.parent), file.parent.write_bytes(b"")),
    }
    changes[what]()
    assert agrees(zoo.catalogue(), open_zoo(str(zoo.path)))
    assert agrees(zoo.catalogue(), open_zoo(str(zoo.path)))


def test_bytes_follow_files_that_arrive_later(zoo: Zoo) -> None:
    path = zoo.member_directory(zoo.ids()[0])
    (path / "weights.safetensors.gz").rename(zoo.path / "w")
    before = zoo.catalogue().sizes[0]
    (zoo.path / "w").rename(path / "weights.safetensors.gz")
    assert zoo.catalogue().sizes[0] > before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"kind": "both"}, "damaged"),
        ({"classes": [{"name": "a", "synset": None}, {"name": "A", "synset": None}]}, "one twice"),
        ({"classes": []}, "no class"),
        ({"classes": [{"name": "a\n", "synset": None}]}, "control character"),
        ({"id": "somebody"}, "another member"),
        ({"base_sha256": "0"}, "another base"),
        ({"format": 2}, "format 2"),
        ({"top1": "much"}, "damaged"),
    ],
)
def test_a_damaged_member_is_named(zoo: Zoo, words: dict[str, object], told: str) -> None:
    path = zoo.member_directory(zoo.ids()[0])
    describe(path, **words)
    with pytest.raises(ZooError, match=told) as error:
        zoo.catalogue()
    assert str(path) in str(error.value)
    (path / "member.json").unlink()
    with pytest.raises(ZooError, match=r"holds no member\.json"):
        zoo.catalogue()


def test_a_damaged_cache_is_refused(zoo: Zoo) -> None:
    good = zoo.catalogue()
    lists = good.tasks
    for positions, ends in ((lists.positions, lists.ends[:0]), (lists.positions - 9, lists.ends)):
        bad = replace(good, tasks=ClassLists(lists.classes, positions, ends))
        with pytest.raises(ValueError, match="columns|damaged"):
            Catalogue.from_bytes(bad.to_bytes())
    nothing = replace(
        good, ids=[], tasks=ClassLists(lists.classes, lists.positions, lists.ends[:0]), generalist=good.generalist[:0],
        top1=good.top1[:0], sizes=good.sizes[:0], stamps=good.stamps[:0],
    )  # fmt: skip
    with pytest.raises(ValueError, match="damaged"):
        Catalogue.from_bytes(nothing.to_bytes())


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "members").write_bytes(b"")
    with pytest.raises(ZooError, match="members cannot be read"):
        read_catalogue([tmp_path], "")
    (tmp_path / "members").unlink()
    member = tmp_path / "members" / "one"
    member.mkdir(parents=True)
    (member / "member.json").symlink_to("member.json")  # a circle
    with pytest.raises(ZooError, match="one cannot be read"):
        read_catalogue([tmp_path], "")


def test_a_zoo_without_members(tmp_path: Path) -> None:
    empty = read_catalogue([tmp_path], "")
    assert list(empty.ids) == [] and len(empty.tasks) == len(empty.sizes) == 0
