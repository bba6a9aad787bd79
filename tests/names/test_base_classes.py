from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import RESNET_ZOO
from mvp_edge.core.errors import TaskError
from mvp_edge.names.base_classes import LOW_COVERAGE, MEANT, NamedClasses, Resolution, resolve_to_base
from mvp_edge.names.dictionary import Synset, nouns
from mvp_edge.names.tasks import Task, TaskClass, canonical
from mvp_edge.names.wordnet import imagenet_classes, resolve_names
from mvp_edge.zoo.location import read_base_classes

IMAGENET = imagenet_classes()
CIFAR = resolve_names(read_base_classes(RESNET_ZOO)[1])
FEW = settings(max_examples=40, deadline=None)


def synset(text: str | None) -> Synset:
    found = nouns().find(text or "")
    assert found is not None
    return found


def task(*lines: str) -> Task:
    """Return the task of lines as a class list has them."""
    return Task(tuple(TaskClass(*line.split(" = ")) for line in lines))


def resolved(*lines: str, base: Task = IMAGENET) -> dict[str, NamedClasses]:
    return {n.name: n for n in resolve_to_base(task(*lines), base).named}


def names_of(n: NamedClasses, base: Task = IMAGENET) -> set[str]:
    return {base.names[i] for i in n.classes}


def refused(*lines: str, base: Task = IMAGENET) -> str:
    with pytest.raises(TaskError) as error:
        resolve_to_base(task(*lines), base)
    return str(error.value)


# From a name to base classes.


def test_a_noun_stands_for_all_base_classes_at_or_below_it():
    found = resolved("espresso", "teapot", "laptop", "bicycle", "dog")
    assert [len(n.classes) for n in found.values()] == [1, 1, 1, 2, 118]
    assert names_of(found["bicycle"]) == {"mountain bike", "bicycle-built-for-two"}
    assert found["dog"].classes == tuple(range(151, 269))
    assert found["dog"].synset == "dog.n.01"
    assert "domesticated by man" in found["dog"].meaning


@pytest.mark.parametrize(
    ("name", "synset", "classes"),
    [
        ("Apples", "apple.n.01", {"Granny Smith"}),
        ("sweet peppers", "sweet_pepper.n.02", {"bell pepper"}),
        ("SWEET_PEPPER", "sweet_pepper.n.02", {"bell pepper"}),
        ("  cell   phone ", "cellular_telephone.n.01", {"cellular telephone"}),
        ("hot-dogs", "hotdog.n.02", {"hotdog"}),
        ("n02124075", "egyptian_cat.n.01", {"Egyptian cat"}),
        ("crane.n.05", "crane.n.05", {"crane.n.05"}),
        ("crane = crane.n.04", "crane.n.04", {"crane.n.04"}),
        ("crane = n02012849", "crane.n.05", {"crane.n.05"}),
        ("sunglasses", "sunglasses.n.01", {"sunglasses"}),
        ("sunglass", "sunglass.n.01", {"sunglass"}),
        ("T-shirt", "jersey.n.03", {"jersey"}),
        ("mouse", "mouse.n.04", {"mouse"}),
    ],
)
def test_spellings_and_senses(name, synset, classes):
    (found,) = resolved(name).values()
    assert (found.synset, names_of(found)) == (synset, classes)


def test_synonyms_and_curated_senses():
    automobile = resolved("automobile")["automobile"]
    assert automobile.synset == "car.n.01"
    assert len(automobile.classes) == 10
    assert resolved("car")["car"].classes == resolved("Cars")["Cars"].classes == automobile.classes
    assert resolved("sweet peppers")["sweet peppers"].note == ""


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("crane", ["`crane = crane.n.04`", "`crane = crane.n.05`"]),
        ("Bikes", ["`Bikes = motorcycle.n.01`", "`Bikes = bicycle.n.01`"]),
        ("boa", ["`boa = feather_boa.n.01`", "`boa = boa.n.02`"]),
        ("plant", ["`plant = plant.n.01`", "`plant = plant.n.02`"]),
    ],
)
def test_several_known_senses_are_an_error_that_gives_the_lines(name, lines):
    message = refused("dog", name)
    assert all(line in message for line in lines)
    for line in lines:
        assert resolved(line.strip("`"))[name].classes


def test_a_sense_that_texts_use_alone_is_taken_and_named():
    result = resolve_to_base(task("cat", "mouse", "dog"), IMAGENET)
    assert "tabby" in names_of(result.named[0])
    assert "lion" not in names_of(result.named[0])
    cat, mouse = result.notes
    assert "cat.n.01" in cat
    assert "`cat = big_cat.n.01`" in cat
    assert "mouse.n.04" in mouse
    assert "hand-operated electronic device" in mouse


def test_all_ambiguous_names_are_in_one_message():
    message = refused("crane", "dog", "boa")
    assert "'crane'" in message
    assert "'boa'" in message
    assert "'dog'" not in message


def test_a_synset_that_does_not_exist_shows_its_neighbours():
    assert "crane.n.05" in refused("crane = crane.n.99", "dog")


# Overlaps.


def test_the_more_specific_name_takes_its_classes():
    result = resolve_to_base(task("dog", "poodle", "toy poodle"), IMAGENET)
    dog, poodle, toy = result.named
    assert [len(n.classes) for n in result.named] == [115, 2, 1]
    assert dict(dog.taken).keys() == {"poodle", "toy poodle"}
    assert dict(poodle.taken) == {"toy poodle": toy.classes}
    assert len(result.notes) == 3
    assert "'dog'" in result.notes[0]
    assert "'poodle' (2 classes)" in result.notes[0]


def test_equal_names_are_an_error():
    message = refused("car", "dog", "automobile", "hound", "domestic dog")
    assert "'car' and 'automobile'" in message
    assert "'dog' and 'domestic dog'" in message
    assert "hound" not in message


def test_a_name_of_which_nothing_is_left_is_an_error():
    message = refused("poodle", "toy poodle", "miniature poodle", "standard poodle")
    assert message.startswith("nothing is left of 'poodle'")
    assert "'toy poodle'" in message


def test_photographs_tell_apart_what_the_base_cannot():
    names = ("car", "automobile", "crane", "poodle", "toy poodle", "miniature poodle", "standard poodle", "dog")
    result = resolve_to_base(task(*names), IMAGENET, pictured=True)
    assert [n.name for n in result.unknown] == ["car", "automobile", "crane", "poodle"]
    assert [len(n.classes) for n in result.named[4:]] == [1, 1, 1, 115]
    car, automobile, crane, poodle = result.notes[:4]
    assert car == "the base does not tell 'car' from 'automobile'; it is learned from its photographs alone"
    assert automobile.startswith("the base does not tell 'automobile' from 'car'")
    assert "`crane = crane.n.05`" in crane and crane.endswith("it is learned from its photographs alone")
    assert poodle.startswith("nothing is left of 'poodle' beside 'toy poodle', ")


@pytest.mark.parametrize(("name", "wide"), [("car", "vehicle"), ("automobile", "vehicle"), ("crane", "bird")])
def test_what_is_learned_from_photographs_is_not_part_of_a_wider_name(name, wide):
    own = {
        i
        for sense in ("car.n.01", "crane.n.05")
        for i in resolve_to_base(task(f"x = {sense}", "espresso"), IMAGENET).groups[0]
    }
    lines = ["car", "automobile", "crane", wide]
    result = {n.name: n for n in resolve_to_base(task(*lines), IMAGENET, pictured=True).named}
    assert result[name].classes == ()
    assert result[wide].classes and own.isdisjoint(result[wide].classes)


TREE = resolve_names(
    ["n00015388", "n02084071", "n02113335", "n02088364", "n02121808", "n02123597"]
)  # animal, dog, poodle, beagle, domestic cat, Siamese cat


def test_in_a_tree_of_classes_a_noun_stands_for_itself_and_its_kinds():
    assert TREE.names == ("animal", "dog", "poodle", "beagle", "domestic cat", "Siamese cat")
    found = resolved("dog", "Siamese cat", "mammals", base=TREE)
    assert names_of(found["dog"], TREE) == {"dog", "poodle", "beagle"}
    assert names_of(found["Siamese cat"], TREE) == {"Siamese cat"}
    assert names_of(found["mammals"], TREE) == {"domestic cat"}
    found = resolved("dog", "poodle", base=TREE)
    assert names_of(found["dog"], TREE) == {"dog", "beagle"} and names_of(found["poodle"], TREE) == {"poodle"}
    assert resolved("dog", base=TREE)["dog"].coverage == 1


# What the base knows little or nothing of.


def test_coverage_by_hand():
    base = resolve_names(["n02113624", "n02113799"])  # toy and standard poodle; WordNet's third is the miniature
    (poodle,) = resolved("poodle", base=base).values()
    leaves = [o for o in nouns().below(synset("poodle.n.01")) if not nouns()[o].below]
    assert len(leaves) == 4  # the large poodle is the fourth
    assert poodle.coverage == 2 / 4
    assert resolved("poodle")["poodle"].coverage == 3 / 4


@pytest.mark.parametrize(("name", "classes"), [("flower", 2), ("person", 3), ("fish", 16), ("Apples", 1), ("horse", 1)])
def test_a_noun_of_which_little_is_known_is_warned_of(name, classes):
    result = resolve_to_base(task(name, "dog"), IMAGENET)
    (warning,) = result.warnings
    assert repr(name) in warning
    assert len(result.named[0].classes) == classes
    assert (result.named[0].coverage or 0) < LOW_COVERAGE


@pytest.mark.parametrize(("name", "kind"), [("motorcycle", "moped"), ("goat", "ibex"), ("pool", "rain barrel")])
def test_a_noun_of_which_one_kind_is_known_is_warned_of(name, kind):
    (warning,) = resolve_to_base(task(name, "espresso", "jersey"), IMAGENET).warnings
    assert f"stands for {kind} only" in warning


@pytest.mark.parametrize(
    ("name", "known"),
    [("TV", "television"), ("Rooster", "cock"), ("smartphone", "cellular telephone"), ("fridge", "refrigerator")],
)
def test_everyday_words_for_what_the_base_knows(name, known):
    result = resolve_to_base(task(name, "dog"), IMAGENET)
    assert [result.base.names[i] for i in result.named[0].classes] == [known]
    assert len(result.notes) == 1


def test_everyday_words_mean_what_there_is():
    assert all(nouns().find(synset) is not None for synset in MEANT.values())
    assert resolve_to_base(task("smartphone", "apple"), CIFAR).groups[0] == ()


def test_long_messages_are_cut():
    twice = [
        name for noun in ("car", "dog", "cat", "bird", "espresso", "teapot") for name in (noun, noun.upper() + "s")
    ]
    message = refused(*twice, *(f"zx{i}" for i in range(30)))
    assert len(message) < 3000
    with pytest.raises(TaskError, match="and 20 more") as error:
        resolve_to_base(task("dog", *(f"zx{i}" for i in range(30))), IMAGENET).require_known("base", "list")
    assert "zx9" in str(error.value) and "zx10" not in str(error.value)


def test_a_noun_that_is_known_well_is_not_warned_of():
    assert resolve_to_base(task("dog", "bird", "espresso", "cat", "insect", "chair"), IMAGENET).warnings == []


def test_unknown_names_have_no_classes_but_neighbours():
    result = resolve_to_base(task("zxqv", "cow", "golden retreiver", "poodel", "dog"), IMAGENET)
    assert [n.name for n in result.unknown] == ["zxqv", "cow", "golden retreiver", "poodel"]
    assert [n.near for n in result.unknown] == [(), ("ox",), ("golden retriever",), ("poodle",)]
    assert [n.synset for n in result.unknown] == [None, "cow.n.01", None, None]
    assert result.warnings == []
    with pytest.raises(TaskError) as error:
        result.require_known("imagenet-lite0", "mvp-edge zoo classes")
    for part in ("'zxqv'", "nearest: ox", "nearest: golden retriever", "mvp-edge zoo classes", "--data"):
        assert part in str(error.value)
    resolve_to_base(task("dog"), IMAGENET).require_known("imagenet-lite0", "")


# Bases with names of their own.


def test_nouns_on_cifar():
    found = resolved("fish", "tree", "bus", base=CIFAR)
    assert names_of(found["fish"], CIFAR) == {"aquarium_fish", "flatfish", "ray", "shark", "trout"}
    assert names_of(found["tree"], CIFAR) == {"maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"}
    assert names_of(found["bus"], CIFAR) == {"bus"}
    assert resolved("bird", base=CIFAR)["bird"].classes == ()


def test_each_class_of_a_base_stands_for_itself():
    for base in (CIFAR, IMAGENET):
        result = resolve_to_base(Task(tuple(TaskClass(name) for name in base.names)), base)
        assert result.groups == tuple((i,) for i in range(len(base.classes)))
        assert result.warnings == []
    assert resolve_to_base(Task(tuple(TaskClass(name) for name in CIFAR.names)), CIFAR).notes == []


def test_a_class_that_the_base_tells_from_its_kinds_stands_alone():
    found = resolved("whale", "mammal", base=CIFAR)  # a dolphin is a whale
    assert names_of(found["whale"], CIFAR) == {"whale"}
    assert "dolphin" in names_of(found["mammal"], CIFAR)


def test_names_outside_wordnet():
    base = resolve_names(["zxqv 1", "zxqv 2", "poodle"])
    found = resolved("Zxqv-1", "dog", base=base)
    assert [n.classes for n in found.values()] == [(0,), (2,)]
    assert found["Zxqv-1"].synset is None
    assert resolved("zxqv 1 = dog.n.01", base=base)["zxqv 1"].classes == (0,)


def test_a_namesake_of_another_sense_is_not_meant():
    base = Task((TaskClass("crane", "crane.n.05"), TaskClass("dog", "dog.n.01")))
    assert resolved("crane = crane.n.05", base=base)["crane"].classes == (0,)
    assert resolved("crane", base=base)["crane"].classes == (0,)
    assert resolved("crane = crane.n.04", base=base)["crane"].classes == ()


def test_json_names_the_base_classes():
    (dog, poodle) = json.loads(json.dumps(resolve_to_base(task("dog", "toy poodle"), IMAGENET).to_json()))
    assert dog["taken"] == {"toy poodle": ["toy poodle"]}
    assert poodle["classes"] == ["toy poodle"]
    assert poodle["coverage"] == 1.0
    assert dog["coverage"] == pytest.approx(0.8, abs=0.05)


def test_shown_is_short():
    result = resolve_to_base(task("dog", "bicycle"), IMAGENET)
    assert result.shown(result.named[0]) == "Chihuahua, Japanese spaniel, Maltese dog and 115 more classes"
    assert result.shown(result.named[1]) == "bicycle-built-for-two, mountain bike"


# Properties.

ABOVE = [{nouns()[o].name for o in nouns().above(synset(c.synset))} for c in IMAGENET.classes]
SYNSETS = st.lists(st.sampled_from(sorted(set().union(*ABOVE))), min_size=1, max_size=8, unique=True)


def of_synsets(synsets: list[str]) -> Resolution | None:
    pictured = resolve_to_base(Task(tuple(TaskClass(s, s) for s in synsets)), IMAGENET, pictured=True)
    try:
        strict = resolve_to_base(Task(tuple(TaskClass(s, s) for s in synsets)), IMAGENET)
    except TaskError as error:
        assert "same classes" in str(error) or "nothing is left" in str(error)  # noqa: PT017
        assert pictured.unknown
        return None
    assert strict == pictured
    return strict


@FEW
@given(SYNSETS)
def test_each_class_has_one_name_and_the_union_is_what_the_nouns_cover(synsets):
    result = of_synsets(synsets)
    if result is None:
        return
    owned = [i for group in result.groups for i in group]
    assert len(owned) == len(set(owned))
    assert all(result.groups)
    covered = {i for i, above in enumerate(ABOVE) if above.intersection(synsets)}
    assert set(owned) == covered
    for n in result.named:
        taken = [i for _, of in n.taken for i in of]
        assert not set(taken) & set(n.classes)
        assert set(taken) <= covered


@FEW
@given(SYNSETS, st.randoms())
def test_the_order_of_the_list_does_not_matter(synsets, rng):
    result, shuffled = of_synsets(synsets), of_synsets(rng.sample(synsets, len(synsets)))
    assert (result is None) == (shuffled is None)
    if result is not None and shuffled is not None:
        assert {n.name: n for n in result.named} == {n.name: n for n in shuffled.named}


@FEW
@given(st.lists(st.sampled_from(["dog", "cat", "Poodles", "mouse", "fish", "zxqv", "car", "n02124075"]), unique=True))
def test_resolving_again_changes_nothing(names):
    once = resolve_to_base(task(*names), IMAGENET)
    again = resolve_to_base(once.task, IMAGENET)
    assert once.task == again.task
    plain = [[replace(n, note="", near=()) for n in result.named] for result in (once, again)]
    assert plain[0] == plain[1]
    assert [canonical(n.name) for n in once.named] == [canonical(name) for name in names]
