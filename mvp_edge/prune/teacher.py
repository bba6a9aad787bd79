"""Teacher logits for a smaller body, from the largest body of the zoo with a head fitted to the same photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from mvp_edge.core.errors import DataError
from mvp_edge.core.progress import Progress
from mvp_edge.models.architectures import head_of
from mvp_edge.prune.heads import Heads, Network, Photographs, fit_to_features
from mvp_edge.training.frozen_head import Choice, named_logits

MOST = 2000  # photographs: at 224 pixels these take two slow cores half a minute
# Of a class, on average. With 100 a teacher gains 1.8 +- 0.5 points on training images left out (eight lists of
# Clothing, 64 to 128 pixels; a trial); with 20 it loses 0.2 +- 0.7, with five 1.6 +- 0.9.
LEAST = 50


@dataclass(frozen=True, eq=False)
class Teacher:
    """A larger body with heads for the photographs.

    Attributes:
        body: Its id.
        heads: Heads on its features.
        top1: Percent right of photographs left out.
    """

    body: str
    heads: Heads
    top1: float

    def logits(self, index: Tensor) -> Tensor:
        """Return its logits `(N, names)` of all photographs, from a head that is fitted to some of them."""
        return named_logits(self.heads.fitted(index)(self.heads.features), self.heads.rows)


def teacher_for(
    given: Photographs, choice: Choice, parts: Sequence[Tensor], seed: int, progress: Progress
) -> Teacher | None:
    """Return a teacher; None if no body is larger, or its head is not more accurate on photographs left out.

    There is none, either, if the photographs are too few or too many, or have no files to read at its pixels.

    Args:
        given: The photographs, and the network that learns.
        choice: Of the head of that network.
        parts: Positions of the photographs that are left out at a time.
        seed: Of the run.
        progress: Progress reporter.

    Raises:
        DataError: a file cannot be read any more.
    """
    zoo, train, body = given.zoo, given.train, given.zoo.bodies[0]
    if body.macs <= given.body.macs or not train.files or not LEAST * len(train.classes) <= len(train) <= MOST:
        return None
    with progress.stage("Reading images for a teacher", len(train)) as stage:
        read = given.pictures.decode(train.files, train.labels.tolist(), (body.pixels, body.pixels), stage.advance)
    if read.failures:
        path, reason = read.failures[0]
        raise DataError(f"{path} changed while this ran ({reason}); run the command again")
    network = Network.of(zoo, body)
    whole, start = network.in_torch(zoo)
    larger = replace(given, network=network, pictures=replace(given.pictures, train=replace(train, images=read.images)))
    heads, its = fit_to_features(larger, head_of(whole), start, parts, seed, progress)
    return None if its is None or its.top1 <= choice.top1 else Teacher(body.id, heads, its.top1)
