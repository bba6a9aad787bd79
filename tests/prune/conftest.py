"""A zoo of ready-made bodies that tests with photographs share."""

from __future__ import annotations

from pathlib import Path

import pytest

from mvp_edge.zoo.bodies import BodyZoo, open_bodies
from tests.prune.body_zoo import make_body_zoo

KNOWN = ("apple", "crab", "rose")


@pytest.fixture(scope="module")
def bodies(images: Path, tmp_path_factory: pytest.TempPathFactory) -> BodyZoo:
    """Two bodies, at 48 and 32 pixels, that know three coloured squares."""
    zoo = open_bodies(str(make_body_zoo(tmp_path_factory.mktemp("zoo") / "tiny", images, KNOWN)))
    assert zoo is not None
    return zoo
