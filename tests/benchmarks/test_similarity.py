from typing import Any

import pytest

from benchmarks.experiments.figures import all_ranked, grouped, similarity_groups
from benchmarks.setting import Setting


def test_groups_are_equal_intervals_of_the_score() -> None:
    assert similarity_groups([0.0, 0.19, 0.2, 0.5, 0.81, 1.0]) == [5, 5, 4, 3, 1, 1]
    assert similarity_groups([-3.0, -1.0]) == [5, 1]
    assert similarity_groups([0.4, 0.4]) == [1, 1]
    assert similarity_groups([]) == []
    # equal intervals, not equal numbers: one outlier leaves all others in the last group
    assert similarity_groups([1.0, 0.1, 0.05, 0.0]) == [1, 5, 5, 5]


@pytest.mark.parametrize("similarity", ["leep", "wordnet"])
def test_every_specialist_is_in_one_group_and_nearer_ones_come_first(similarity: Any, setting: Setting) -> None:
    ranked = all_ranked(setting, similarity)
    specialists = [i.id for i in setting.zoo.infos() if i.kind == "specialist"]
    assert sorted(n.info.id for n in ranked) == sorted(specialists)
    groups = grouped(ranked)
    assert sorted(n.info.id for g in groups.values() for n in g) == sorted(specialists)
    assert ranked[0] in groups[1]
    assert ranked[-1] in groups[5]
