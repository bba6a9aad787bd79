"""Zoos made of zoos."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from mvp_edge.build.curation import class_lists, merge, most_chosen, trim
from mvp_edge.core.errors import ZooError
from mvp_edge.core.progress import SilentProgress
from mvp_edge.models.bases import load_base
from mvp_edge.zoo.store import create_zoo, open_zoo

SILENT = SilentProgress()


def test_two_zoos_of_one_base_become_one(tiny_zoo: Path, generalist_zoo: Path, tmp_path: Path) -> None:
    tiny, other = open_zoo(str(tiny_zoo)), open_zoo(str(generalist_zoo))
    made = merge([tiny, other], tmp_path / "all", SILENT)
    assert made.ids() == sorted({*tiny.ids(), *other.ids()}) and made.name == "all" and made.base == tiny.base
    assert made.verify() == []
    for zoo in (tiny, other):
        for info in zoo.infos():
            assert made.info(info.id) == info
    with pytest.raises(ZooError, match="exists"):
        merge([tiny, other], tmp_path / "all", SILENT)


def test_of_members_that_two_have_the_first_counts(tiny_zoo: Path, tmp_path: Path) -> None:
    own = open_zoo(str(shutil.copytree(tiny_zoo, tmp_path / "own")))
    name = own.ids()[0]
    file = own.member_directory(name) / "member.json"
    file.write_text(file.read_text().replace('"top1": ', '"top1": 1'))
    made = merge([own, open_zoo(str(tiny_zoo))], tmp_path / "all", SILENT)
    assert made.info(name).top1 == own.info(name).top1 != open_zoo(str(tiny_zoo)).info(name).top1


def test_zoos_that_cannot_be_merged(tiny_zoo: Path, body_zoo: Path, tiny_base: Path, tmp_path: Path) -> None:
    tiny, bodies = open_zoo(str(tiny_zoo)), open_zoo(str(body_zoo))
    with pytest.raises(ZooError, match="only zoos of one base"):
        merge([tiny, bodies], tmp_path / "all", SILENT)
    with pytest.raises(ZooError, match="has ready-made bodies"):
        merge([bodies, bodies], tmp_path / "all", SILENT)
    base, model = load_base(str(tiny_base))
    damaged = create_zoo(tmp_path / "damaged", base, model)
    shutil.copytree(tiny.member_directory(tiny.ids()[0]), damaged.path / "members" / tiny.ids()[0])
    (damaged.member_directory(tiny.ids()[0]) / "weights.safetensors.gz").write_bytes(b"")
    with pytest.raises(ZooError, match="is damaged"):
        merge([tiny, damaged], tmp_path / "all", SILENT)
    assert not (tmp_path / "all").exists()


def test_the_members_that_are_chosen_least_go_first() -> None:
    # Members 0 and 1 are nearest to half of the lists each, 2 nearly as near as 0, 3 never.
    similarity = np.array([[0.9, 0.1, 0.8, 0.0]] * 5 + [[0.1, 0.9, 0.0, 0.2]] * 5)
    assert most_chosen(similarity, 3, 1) == [0, 1, 2]
    assert most_chosen(similarity, 2, 1) == [0, 1]
    assert most_chosen(np.ones((4, 3)), 2, 1) == [0, 1]  # equal ones: as ranking sorts them
    assert most_chosen(similarity, 4, 1) == [0, 1, 2, 3]


def test_what_replaces_a_member_that_went_counts() -> None:
    # Two near-duplicates share the lists of one kind: each is chosen less often than 2, but not both may go.
    similarity = np.array([[0.9, 0.8, 0.1]] * 3 + [[0.8, 0.9, 0.1]] * 3 + [[0.1, 0.1, 0.9]] * 4)
    assert most_chosen(similarity, 2, 1) in ([0, 2], [1, 2])


def test_a_zoo_is_trimmed(generalist_zoo: Path, tmp_path: Path) -> None:
    zoo = open_zoo(str(generalist_zoo))
    made = trim(zoo, 3, tmp_path / "few", 0, SILENT)
    kinds = [i.kind for i in made.zoo.infos()]
    assert sorted(kinds) == ["generalist", "generalist", "specialist"] and made.zoo.verify() == []
    assert {*made.zoo.ids(), *made.dropped} == {*zoo.ids()} and len(made.dropped) == 1
    assert 0 < made.similarity[1] <= made.similarity[0] <= 1
    assert trim(zoo, 3, tmp_path / "again", 0, SILENT).dropped == made.dropped
    assert len(trim(zoo, 2, tmp_path / "none", 0, SILENT).zoo.ids()) == 2
    for wrong in (1, 4, 9):
        with pytest.raises(ZooError, match="use 2 to 3"):
            trim(zoo, wrong, tmp_path / "other", 0, SILENT)


def test_zoos_that_cannot_be_trimmed(body_zoo: Path, generalist_zoo: Path, tiny_base: Path, tmp_path: Path) -> None:
    new = create_zoo(tmp_path / "new", *load_base(str(tiny_base)))
    general = trim(open_zoo(str(generalist_zoo)), 2, tmp_path / "general", 0, SILENT).zoo
    for zoo, told in (
        (open_zoo(str(body_zoo)), "ready-made bodies"),
        (new, "no specialist"),
        (general, "no specialist"),
    ):
        for members in (0, 2, 3):
            with pytest.raises(ZooError, match=told):
                trim(zoo, members, tmp_path / "few", 0, SILENT)
    assert not (tmp_path / "few").exists()


def test_class_lists_are_as_long_as_those_of_specialists(tiny_zoo: Path) -> None:
    infos = open_zoo(str(tiny_zoo)).infos()
    lists = class_lists(infos, 20, 0)
    assert {len(t.names) for t in lists} == {2} and lists == class_lists(infos, 20, 0)
    assert all(c.synset for t in lists for c in t.classes)
