"""The similarity of class lists: the same for one and for many at once, to the last bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp_edge.core.errors import TaskError
from mvp_edge.names import ranking
from mvp_edge.names.ranking import ClassLists, rank
from mvp_edge.names.tasks import Task, TaskClass, canonical
from mvp_edge.names.wordnet import class_similarity, imagenet_classes

from .test_wordnet import CURATED, resolved, similarity, task

FEW = settings(max_examples=25, deadline=None)


def task_similarity(a: Task, b: Task) -> float:
    (found,) = rank(a, ClassLists.of([b])).tolist()
    return found


def plain(a: Task, b: Task) -> float:
    """The definition, class by class."""
    table = [[class_similarity(x, y) for y in b.classes] for x in a.classes]
    forth = math.fsum(map(max, table)) / len(a.classes)
    back = math.fsum(map(max, zip(*table, strict=True))) / len(b.classes)
    return (forth + back) / 2


def test_mean_of_best_matches_by_hand():
    a, b = resolved("apple", "bus"), resolved("pear", "pear tree", "bus")
    tree = max(similarity("pear tree", "apple"), similarity("pear tree", "bus"))
    forth = (similarity("apple", "pear") + 1) / 2
    back = (similarity("apple", "pear") + tree + 1) / 3
    assert task_similarity(a, b) == pytest.approx((forth + back) / 2)


def test_classes_without_synset_match_by_name_only():
    assert similarity("zxqv one", "ZXQV_one") == 1
    assert similarity("zxqv one", "zxqv two") == 0
    assert similarity("zxqv one", "apple") == 0
    assert task_similarity(Task((TaskClass("apple", "apple.n.01"),)), task("Apple")) == 1


def test_names_for_one_synset_are_identical():
    assert task_similarity(Task((TaskClass("a", "couch.n.01"),)), Task((TaskClass("b", "sofa.n.01"),))) == 1


def test_unknown_synset_and_empty_task_are_refused():
    with pytest.raises(TaskError, match=r"no noun synset 'crane\.n\.99'"):
        task_similarity(Task((TaskClass("crane", "crane.n.99"),)), resolved("apple"))
    with pytest.raises(ValueError, match="without classes"):
        task_similarity(Task(()), resolved("apple"))


TASKS = st.lists(
    st.sampled_from([name for name, _ in CURATED] + ["zxqv", "crane"]), min_size=1, max_size=6, unique_by=canonical
).map(lambda names: resolved(*names))


@FEW
@given(TASKS, TASKS)
def test_symmetric_and_in_range(a, b):
    assert 0 <= task_similarity(a, b) <= 1
    assert task_similarity(a, b) == task_similarity(b, a)


@FEW
@given(TASKS, st.randoms())
def test_identity_whatever_the_order(a, random):
    shuffled = Task(tuple(random.sample(a.classes, len(a.classes))))
    assert task_similarity(a, shuffled) == pytest.approx(1)


@FEW
@given(TASKS, TASKS, st.randoms())
def test_the_order_of_the_classes_changes_no_bit(a, b, random):
    shuffled = Task(tuple(random.sample(a.classes, len(a.classes))))
    assert task_similarity(shuffled, b) == task_similarity(a, b)


EXACT = {
    "tractor bottle rose wolf pear": 0.7942275117501978,
    "rose tractor pear rocket": 0.7818356880427819,
    "orange clock tractor train": 0.656217385250566,
}


def test_versions_of_python_agree_to_the_last_bit():
    """`sum` has added floating-point numbers in another way since Python 3.12."""
    known = resolved("apple", "bus", "lion", "chair", "rose", "crab")
    found = [task_similarity(resolved(*names.split()), known) for names in EXACT]
    assert found == list(EXACT.values())


@FEW
@given(TASKS, st.lists(TASKS, max_size=3))
def test_many_at_once_are_as_each_alone(a, others):
    assert rank(a, ClassLists.of(others)).tolist() == [plain(a, other) for other in others]


@pytest.mark.parametrize("at_once", [1, 1 << 22])
def test_long_lists_and_parts_of_the_others(at_once, monkeypatch):
    monkeypatch.setattr(ranking, "_AT_ONCE", at_once)
    classes, draw = (*imagenet_classes().classes, TaskClass("zxqv")), np.random.default_rng(0)
    lists = [Task(tuple(classes[i] for i in draw.choice(1001, n, replace=False))) for n in (1, 40, 2, 5, 300)]
    wanted = Task((*lists[3].classes, TaskClass("ZXQV")))
    assert rank(wanted, ClassLists.of(lists)).tolist() == [plain(wanted, each) for each in lists]


def test_class_lists_are_tasks():
    lists = [resolved("apple", "bus"), resolved("bus"), resolved("crab", "apple", "bus")]
    found = ClassLists.of(lists)
    assert [found[i] for i in range(len(found))] == lists
    assert len(found.classes) == 3 and found.ends.tolist() == [2, 3, 6]
