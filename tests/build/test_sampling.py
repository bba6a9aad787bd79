import pytest

from mvp_edge.build.sampling import sample_tasks
from mvp_edge.core.errors import ConfigError


def test_no_task_is_drawn_from_as_few_classes_as_there_may_be() -> None:
    assert sample_tasks(["apple", "pear"], 5, 0, seed=0) == []
    with pytest.raises(ConfigError, match="ways is 5; the data have 2 classes"):
        sample_tasks(["apple", "pear"], 5, 1, seed=0)
