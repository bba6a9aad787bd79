from __future__ import annotations

import json
from importlib.resources import files

import pytest

from benchmarks import RESNET_ZOO
from mvp_edge.core.errors import TaskError
from mvp_edge.names.dictionary import nouns
from mvp_edge.names.tasks import Task, TaskClass, canonical, numbered
from mvp_edge.names.wordnet import (
    ambiguous,
    class_similarity,
    imagenet_classes,
    nearest_classes,
    resolve,
    resolve_names,
)
from mvp_edge.zoo.location import read_base_classes

ASSETS = files("mvp_edge") / "assets"
SECTIONS: dict[str, dict[str, str]] = json.loads((ASSETS / "synsets.json").read_text(encoding="utf-8"))
CURATED = [(name, synset) for table in SECTIONS.values() for name, synset in table.items()]


def task(*names: str) -> Task:
    return Task(tuple(map(TaskClass, names)))


def resolved(*names: str) -> Task:
    return resolve(task(*names))


def synset(name: str, given: str | None = None) -> str | None:
    return resolve(Task((TaskClass(name, given),))).classes[0].synset


def similarity(a: str, b: str) -> float:
    return class_similarity(*resolved(a).classes, *resolved(b).classes)


# The curated table.


def test_tables_are_complete():
    assert {name: len(table) for name, table in SECTIONS.items()} == {
        "cifar10": 10,
        "cifar100": 100,
        "caltech101": 101,
        "flowers102": 103,
        "everyday": 2,
    }


@pytest.mark.parametrize("section", SECTIONS)
def test_curated_senses_exist_and_win(section):
    names = tuple(SECTIONS[section])
    assert [c.synset for c in resolved(*names).classes] == list(SECTIONS[section].values())
    assert ambiguous(task(*names)) == {}


def test_data_sets_do_not_contradict_each_other():
    senses: dict[str, set[str]] = {}
    for name, expected in CURATED:
        senses.setdefault(canonical(name), set()).add(expected)
    assert [name for name, found in senses.items() if len(found) > 1] == []


# Lexicographer files: animal, artifact, body, communication, food, object, person, plant, possession.
VISIBLE = {5, 6, 8, 10, 13, 17, 18, 20, 21}


@pytest.mark.parametrize("section", SECTIONS)
def test_curated_senses_are_things_one_can_photograph(section):
    for expected in SECTIONS[section].values():
        noun = nouns().find(expected)
        assert noun is not None
        assert noun.kind in VISIBLE
        # A sense such as Magnolia, the genus, hangs below `group`, far from every plant.
        assert not any("genus" in word for offset in nouns().above(noun) for word in nouns()[offset].words)


@pytest.mark.parametrize(
    ("name", "gloss"),
    [
        ("bass", "spiny-finned fishes"),
        ("bowl", "serving foods"),
        ("crab", "decapod"),
        ("cup", "used for drinking"),
        ("keyboard", "data input device for computers"),
        ("lamp", "piece of furniture"),
        ("leopards", "large feline"),
        ("mouse", "small rodents"),
        ("orange", "fruit of any of several citrus"),
        ("pear", "juicy"),
        ("plate", "dish on which food is served"),
        ("ray", "cartilaginous fishes"),
        ("rose", "shrubs"),
        ("seal", "marine mammals"),
        ("shrew", "mouselike mammal"),
        ("skunk", "musteline mammal"),
        ("tank", "military vehicle"),
        ("television", "receives television signals"),
        ("trout", "game and food fishes of cool fresh waters"),
        ("turtle", "bony shell"),
        ("whale", "cetacean"),
    ],
)
def test_hand_checked_glosses(name, gloss):
    noun = nouns().find(synset(name) or "")
    assert noun is not None
    assert gloss in noun.meaning


# Resolving.


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sweet pepper", "sweet_pepper.n.02"),
        ("Sweet-Pepper", "sweet_pepper.n.02"),
        ("n02012849", "crane.n.05"),
        ("Crane.n.05", "crane.n.05"),
        ("jack-in-the-pulpit.n.01", "jack-in-the-pulpit.n.01"),
        ("zebras", "zebra.n.01"),
        ("ice cream", "ice_cream.n.01"),
        ("rain coat", "raincoat.n.01"),
        ("black-eyed pea", "cowpea.n.01"),
        ("black eyed pea", "cowpea.n.01"),
        ("jack in the pulpit", "jack-in-the-pulpit.n.01"),
        ("cup and saucer vine", None),
        ("n99999999", None),
        ("part no 4711", None),
    ],
)
def test_resolve_by_name(name, expected):
    assert synset(name) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("crane.n.04", "crane.n.04"),
        ("crane.n.5", "crane.n.05"),
        ("n02012849", "crane.n.05"),
        ("couch.n.01", "sofa.n.01"),
    ],
)
def test_an_explicit_synset_beats_table_and_first_sense(given, expected):
    assert synset("seal", given) == expected


def test_resolve_keeps_names_and_order_and_is_idempotent():
    once = resolved("zxqv", "Pear", "apple")
    assert once.names == ("zxqv", "Pear", "apple")
    assert resolve(once) == once


@pytest.mark.parametrize("wrong", ["crane.n.09", "crane.n.00", "n00000001", "n99999999", "crane"])
def test_a_synset_that_does_not_exist_shows_its_neighbours(wrong):
    with pytest.raises(TaskError, match=f"class 'crane': .*{wrong}.*crane.n.05 \\(large long-necked wading bird"):
        synset("crane", wrong)


def test_all_wrong_synsets_are_named_at_once():
    wrong = Task((TaskClass("qqq", "giraffffe.n.01"), TaskClass("apple"), TaskClass("qqzz", "~~.n.01")))
    with pytest.raises(TaskError) as error:
        resolve(wrong)
    assert "nearest words: giraffe" in str(error.value)
    assert "class 'qqzz': there is no noun synset '~~.n.01' in WordNet 3.0; no word comes near it" in str(error.value)
    assert "apple" not in str(error.value)


def test_ambiguous_shows_only_guesses():
    found = ambiguous(
        Task((TaskClass("crane"), TaskClass("bank", "bank.n.01"), *task("apple", "zebra", "n02012849", "zxqv").classes))
    )
    assert list(found) == ["crane"]
    assert found["crane"][0] == "crane.n.01: United States writer (1871-1900)"
    assert any(sense.startswith("crane.n.05: large long-necked wading bird") for sense in found["crane"])
    assert found["crane"][0].startswith(f"{synset('crane')}: ")


CIFAR = resolve_names(read_base_classes(RESNET_ZOO)[1])


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("maple", ["maple_tree"]),
        ("peppers", ["sweet_pepper"]),
        ("phone", ["telephone"]),
        ("aple", ["apple"]),
        ("tv", ["television"]),
        ("sofa", ["couch"]),
        ("goldfish", ["aquarium_fish"]),
        ("bike", ["bicycle", "motorcycle"]),
        ("lorry", ["pickup_truck"]),
        ("desk", ["table"]),
        ("cat", ["leopard", "lion", "tiger"]),  # as a big cat; not `man`, for a guy
        ("car", []),
        ("spaceship", []),
        ("crayon", []),
        ("zxqv", []),
        ("leopart", ["leopard"]),
        ("lump", []),  # a word of its own, not a lamp
    ],
)
def test_names_that_may_be_meant(name, near):
    (wanted,) = resolved(name).classes
    assert sorted(nearest_classes(wanted, CIFAR, 3)) == near


def test_a_sense_that_is_given_is_the_only_one_that_may_be_meant():
    assert nearest_classes(TaskClass("bike", "bicycle.n.01"), CIFAR, 3) == ["bicycle"]
    assert nearest_classes(TaskClass("maple", "maple.n.01"), CIFAR, 3) == ["maple_tree"]  # as it is spelled
    assert nearest_classes(TaskClass("tv", "television.n.01"), CIFAR, 3) == ["television"]  # the first sense: a guess
    assert len(nearest_classes(TaskClass("tree"), CIFAR, 3)) == 3


# ImageNet's classes.


def test_imagenet_s_classes_have_names_of_their_own():
    base = imagenet_classes()
    assert len(base.classes) == 1000
    assert len(numbered(base.names)) == 1000
    assert [base.classes[i].name for i in (0, 134, 517, 673, 999)] == [
        "tench", "crane.n.05", "crane.n.04", "mouse", "toilet tissue",
    ]  # fmt: skip
    assert base.classes[673].synset == "mouse.n.04"


def test_names_and_wnids_of_imagenet_get_imagenet_s_senses():
    base = imagenet_classes()
    synsets = [nouns().find(c.synset or "") for c in base.classes]
    wnids = [f"n{s.offset:08d}" for s in synsets if s is not None]
    assert wnids == sorted(wnids)
    assert resolve_names(base.names) is resolve_names(wnids) is base
    assert resolve_names(["n02012849", "n03126707"]).names == ("crane.n.05", "crane.n.04")
    assert resolve_names(["n02012849", "n99999999"]).names == ("n02012849", "n99999999")
    assert resolve_names(["mouse"]).classes[0].synset == "mouse.n.01"
    assert resolve_names([f"x{i}" for i in range(1000)]).classes[0].synset is None


# Similarity.


def test_wup_by_hand():
    # lion and tiger meet in big_cat at depth 13; each is one step below: 2 * 14 / (15 + 15).
    assert similarity("lion", "tiger") == pytest.approx(28 / 30)


@pytest.mark.parametrize(
    ("name", "near", "far"),
    [
        ("apple", "pear", "bus"),
        ("tiger", "lion", "tractor"),
        ("maple_tree", "oak_tree", "skyscraper"),
        ("boy", "girl", "lamp"),
        ("bowl", "plate", "whale"),
        ("tulip", "daffodil", "ketch"),
    ],
)
def test_nearer_things_score_higher(name, near, far):
    assert similarity(name, near) > similarity(name, far)
