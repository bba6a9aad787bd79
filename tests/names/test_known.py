from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import RESNET_ZOO
from mvp_edge.names.base_classes import resolve_to_base
from mvp_edge.names.known import (
    FewRows,
    class_cosines,
    known_score,
    known_threshold,
    listed_logits,
    near_duplicates,
    split_classes,
)
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.names.wordnet import imagenet_classes, resolve_names
from mvp_edge.zoo.location import read_base_classes

CIFAR = resolve_names(read_base_classes(RESNET_ZOO)[1])


def resolved(*names: str, base: Task = CIFAR):
    return resolve_to_base(Task(tuple(map(TaskClass, names))), base)


def named(indices: tuple[int, ...], base: Task = CIFAR) -> set[str]:
    return {base.names[i] for i in indices}


def test_each_class_is_listed_neutral_or_unlisted():
    split = split_classes(resolved("fish", "whale"))
    assert split.groups[0] == tuple(i for i in split.listed if CIFAR.names[i] != "whale")
    assert named(split.listed) == {"aquarium_fish", "flatfish", "ray", "shark", "trout", "whale"}
    assert named(split.neutral) == {"dolphin"}  # a kind of whale
    assert sorted((*split.listed, *split.neutral, *split.unlisted)) == list(range(100))


def test_ancestors_are_neutral():
    assert named(split_classes(resolved("dolphin", "bus")).neutral) == {"whale"}


def test_partners_of_listed_classes_are_neutral():
    names = imagenet_classes().names
    laptop, notebook, screen, monitor = (names.index(n) for n in ("laptop", "notebook", "screen", "monitor"))
    pairs = [(laptop, notebook), (monitor, screen)]
    resolution = resolved("notebook", "espresso", base=imagenet_classes())
    assert split_classes(resolution, pairs).neutral == (laptop,)
    assert split_classes(resolution).neutral == ()
    both = resolved("notebook", "laptop", "screen", base=imagenet_classes())
    assert split_classes(both, pairs).neutral == (monitor,)
    assert laptop not in split_classes(resolution, pairs).unlisted


def test_what_cannot_be_split():
    with pytest.raises(ValueError, match="zxqv"):
        split_classes(resolved("fish", "zxqv"))
    few = resolve_names(["whale", "dolphin", "zxqv"])
    assert split_classes(resolved("whale", base=few)).unlisted == (2,)
    with pytest.raises(ValueError, match="nothing is left"):
        split_classes(resolved("whale", "zxqv", base=few))


LOGITS = st.lists(st.lists(st.floats(-300, 300), min_size=8, max_size=8), min_size=1, max_size=4).map(np.array)


@settings(deadline=None)
@given(LOGITS)
def test_the_logit_of_a_name_is_the_log_sum_exp_of_its_classes(logits):
    odds = np.exp(logits)
    expected = np.stack([logits[:, 3], np.log(odds[:, 0] + odds[:, 5])], axis=1)
    np.testing.assert_allclose(listed_logits(logits, [(3,), (0, 5)]), expected, atol=1e-9)


COSINES = st.lists(st.lists(st.floats(-1, 1), min_size=8, max_size=8), min_size=1, max_size=4).map(np.array)


@settings(deadline=None)
@given(COSINES)
def test_scores_are_the_listed_classes_less_half_of_the_unlisted_ones(cosines):
    odds = np.exp(40 * cosines)
    listed, unlisted = np.log(odds[:, [0, 3, 5]].sum(axis=1)), np.log(odds[:, [1, 2, 4, 6]].sum(axis=1))
    np.testing.assert_allclose(known_score(cosines, {5, 3, 0}, {7}), listed - unlisted / 2, atol=1e-9)


def test_scores_by_hand():
    cosines = np.array([[0.5, 0.25, -1.0], [0.1, 0.9, 0.0]])
    np.testing.assert_allclose(known_score(cosines, [0], [2]), [20 - 5, 4 - 18])


def test_cosines_by_hand():
    mean, rows = (
        np.array([1.0, 1.0]),
        np.array([[7.0, 2.0], [3.0, 2.0], [5.0, 5.0]]),
    )  # less their mean: 2 -1, -2 -1, 0 2
    features = np.array([[3.0, 0.0], [1.0, 5.0], [1.0, 1.0]])  # the last has no direction
    found = class_cosines(features, rows, mean)
    np.testing.assert_allclose(found, [[1, -0.6, -(0.2**0.5)], [-(0.2**0.5), -(0.2**0.5), 1], [0, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(class_cosines(3 * (features - mean) + mean, rows + 9, mean), found, atol=1e-12)


def test_few_dimensions_that_are_enough_give_the_cosines():
    rng = np.random.default_rng(0)
    features, rows, mean = (rng.normal(size=s) for s in ((6, 3), (8, 3), 3))
    own = (rows - rows.mean(0)) / np.linalg.norm(rows - rows.mean(0), axis=1, keepdims=True)
    few = FewRows(np.eye(3), own, -own @ mean, mean)
    np.testing.assert_allclose(few.cosines(features), class_cosines(features, rows, mean), atol=1e-12)


def test_scores_of_nothing_are_refused():
    logits = np.zeros((1, 3))
    for listed, neutral in (([], []), ([0, 1, 2], []), ([0], [1, 2])):
        with pytest.raises(ValueError, match="no classes"):
            known_score(logits, listed, neutral)
    with pytest.raises(ValueError, match="no classes"):
        listed_logits(logits, [(0,), ()])


@pytest.mark.parametrize(("kept", "expected"), [(1.0, 1), (0.95, 6), (0.5, 51), (0.951, 5)])
def test_threshold_by_hand(kept, expected):
    scores = np.random.default_rng(0).permutation(np.arange(1.0, 101.0))
    assert known_threshold(scores, kept) == expected


@given(st.lists(st.floats(-100, 100), min_size=1), st.floats(0.01, 1))
def test_threshold_keeps_the_share(scores, kept):
    threshold = known_threshold(np.array(scores), kept)
    assert (np.array(scores) >= threshold).mean() >= kept - 1e-9
    assert threshold in scores


def test_threshold_of_nothing():
    for scores, kept in ((np.array([]), 0.95), (np.ones(3), 0.0), (np.ones(3), 1.1)):
        with pytest.raises(ValueError, match="required"):
            known_threshold(scores, kept)


def test_near_duplicates_by_hand():
    rows = np.array([[1.0, 0, 0], [0.9, 0.1, 0], [0, 1, 0], [0, 0, 1]]) + 5.0  # what all rows share does not count
    assert near_duplicates(rows) == [(0, 1)]
    assert near_duplicates(rows, -1.0) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert near_duplicates(np.zeros((3, 2))) == []
