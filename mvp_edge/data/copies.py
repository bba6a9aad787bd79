"""Copies of one picture among many: the same pixels, or nearly the same, as in bursts and resized pictures.

Candidates are pairs whose perceptual hashes (pHash: the signs of the lowest frequencies of a cosine transform) differ
in few bits; they are copies if the values of their thumbnails correlate as well. Among 12,000 images of the first 20
classes of CIFAR-100, 5,895 of Caltech-101 and 4,000 of Flowers-102, 55, 55 and 4 groups were found, none with two
classes. Of 500 photographs each of Caltech-101, Pascal VOC and animals at 64 x 64 pixels, all that were halved or saved
again as JPEG of quality 60 were found, at least 96 % of those made brighter by a fifth, and at least 98, 65 and 4 % of
those cropped by 1, 2 and 4 % on each side.

The package imagehash computes this hash as well, by the same transform of scipy, and finds as many of these copies to
within a percentage point; on 1,500 photographs neither has a false candidate. Ours stays, as it takes half of the time
(60 against 133 microseconds for a picture of 64 x 64 pixels, with the thumbnail) and does not need PyWavelets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

DISTANCE = 7  # bits of 64; `_candidates` needs it to be below 8
AGREEMENT = 0.97  # correlation of the values of two thumbnails
PLAIN = 4.0  # standard deviation of a thumbnail: below it there is no pattern to compare
SIDE, _HASHED = 16, 32  # of thumbnails, and of what is hashed
ALIKE, MANY = 0.25, 10  # of the pictures; pictures in a group
NOTE = (
    "many images look alike, as those of a fixed camera or a video do: only exact copies are counted. If they are "
    "frames, the accuracy is too good: keep each series on one side of the split, with --group-by where it is ours"
)
_CHUNK, _ROUND = 1024, 8
_PIXELS = 1 << 22  # at once; in float32 they take 48 MiB
_BLOCK = 1 << 22


@dataclass(frozen=True, eq=False)
class Prints:
    """What is compared of pictures.

    Attributes:
        hashes: uint64 `(N,)`.
        thumbnails: uint8 RGB `(N, 3 * 16 * 16)`.
    """

    hashes: np.ndarray
    thumbnails: np.ndarray

    def __len__(self) -> int:
        return len(self.hashes)

    def at(self, index: np.ndarray) -> Prints:
        """Return those of some pictures."""
        return Prints(self.hashes[index], self.thumbnails[index])


@dataclass(frozen=True)
class Copies:
    """Copies among image files.

    Attributes:
        group: Of each path; copies have the same number.
        alike: Whether many pictures look so much alike that only exact copies count.
    """

    group: Mapping[str, int]
    alike: bool


def prints(images: Tensor) -> Prints:
    """Return what is compared of uint8 images `(N, 3, H, W)`."""
    most = max(1, _PIXELS // max(1, images.shape[2] * images.shape[3]))
    parts = [_prints(part) for part in images.split(min(_CHUNK, most))]
    hashes, thumbnails = zip(*parts, strict=True) if parts else ((), ())
    return Prints(
        np.concatenate([np.empty(0, np.uint64), *hashes]),
        np.concatenate([np.empty((0, 3 * SIDE**2), np.uint8), *thumbnails]),
    )


def copies(given: Prints, *, near: bool = True) -> np.ndarray:
    """Return the group `(N,)` of each picture: copies of each other, and of copies, are in one group.

    Groups are numbered by their first pictures. Pictures without a pattern are copies only of pictures with the same
    thumbnail.

    Args:
        given: What is compared of the pictures.
        near: Whether pictures that are nearly the same are copies; else only those with the same thumbnail.
    """
    rows = np.ascontiguousarray(given.thumbnails).view(np.dtype((np.void, given.thumbnails.shape[1])))[:, 0]
    _, first, same = np.unique(rows, return_index=True, return_inverse=True)
    groups = np.arange(len(first))
    if near:
        patterned = np.flatnonzero(
            np.concatenate([np.empty(0, bool), *(_pattern(p) for p in _parts(given.thumbnails[first]))])
        )
        groups[patterned] = patterned[_near(given.at(first[patterned]))]
    groups = groups[same]
    _, first, same = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[same]


def trusted_copies(given: Prints, labels: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return groups of copies, and whether these are exact copies only, as most pictures look alike.

    Pictures of a fixed camera differ as little as near copies do.

    Args:
        given: What is compared of the pictures.
        labels: `(N,)`, the classes.
    """
    groups = copies(given)
    if not alike(groups, labels):
        return groups, False
    exact = copies(given, near=False)
    return exact, not np.array_equal(exact, groups)


def joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return groups `(N,)` that hold together what is in one group of either kind; groups are whole numbers."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(one):
        return one
    first, second = (np.unique(groups, return_inverse=True)[1].reshape(-1) for groups in (one, other))
    ends = first, len(one) + second  # each picture is an edge from its one group to its other
    graph = coo_array((np.ones(len(one), bool), ends), shape=(2 * len(one),) * 2)
    return connected_components(graph, directed=False)[1][first]


def conflicts(groups: np.ndarray, labels: np.ndarray) -> list[tuple[int, int]]:
    """Return the positions of the first picture of a group and of a copy of it that has another class, for each such.

    Args:
        groups: `(N,)`, numbers from 0.
        labels: `(N,)`, the classes.
    """
    first: dict[int, int] = {}
    pairs = ((first.setdefault(int(groups[i]), i), i) for i in np.flatnonzero(np.bincount(groups)[groups] > 1).tolist())
    return [(one, other) for one, other in pairs if labels[one] != labels[other]]


def conflict_warnings(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return a warning about copies with different classes, given the paths of each two; none without such."""
    if not pairs:
        return []
    more = f" ({len(pairs):,} such pairs)" if len(pairs) > 1 else ""
    return [f"the same image has two classes: {pairs[0][0]} and {pairs[0][1]}{more}; remove one of them"]


def alike(groups: np.ndarray, labels: np.ndarray) -> bool:
    """Return whether many pictures are in groups that hold several classes, or most of a class.

    Args:
        groups: `(N,)`, numbers from 0.
        labels: `(N,)`, the classes.
    """
    if len(groups) == 0:
        return False
    table, count = np.unique(np.stack([groups, labels], axis=1), axis=0, return_counts=True)
    several = np.bincount(table[:, 0]) > 1  # by group
    of_class = np.bincount(labels)
    most = (count >= MANY) & (2 * count > of_class[table[:, 1]])
    return float(count[several[table[:, 0]] | most].sum()) > ALIKE * len(groups)


def _near(given: Prints) -> np.ndarray:
    """Return a position of each group of near copies, for each picture; the pictures have a pattern."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    group = np.arange(len(given))
    for pairs in _candidates(given.hashes, group):
        # Pairs are sorted by their first picture. A few of each at a time, as most others then are in one group.
        rank = np.arange(len(pairs)) - np.searchsorted(pairs[:, 0], pairs[:, 0])
        for start in range(0, int(rank.max(initial=-1)) + 1, _ROUND):
            now = pairs[(rank >= start) & (rank < start + _ROUND)]
            found = []
            for some in _parts(now[group[now[:, 0]] != group[now[:, 1]]]):
                one, other = (_standardised(given.thumbnails[some[:, i]]) for i in (0, 1))
                found.append(some[(one * other).sum(1) > AGREEMENT])
            edges = group[np.concatenate([np.empty((0, 2), int), *found])]
            if len(edges):
                graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(len(group),) * 2)
                _, joined = connected_components(graph, directed=False)
                _, first = np.unique(joined, return_index=True)
                group[:] = first[joined][group]
    return group


def _prints(images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    from scipy.fft import dct  # takes a while to import

    pixels = images.float()
    small = adaptive_avg_pool2d(pixels, SIDE).round().to(torch.uint8).flatten(1).numpy()
    grey = adaptive_avg_pool2d(pixels.mean(1), _HASHED).numpy()
    waves = np.asarray(dct(np.eye(_HASHED, dtype=np.float32), axis=0))[:8]
    low = (waves @ grey @ waves.T).reshape(len(grey), 64)
    bits = low > np.median(low[:, 1:], axis=1, keepdims=True)
    bits[:, 0] = False  # the mean brightness
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0], small


def _candidates(hashes: np.ndarray, group: np.ndarray) -> Iterator[np.ndarray]:
    """Yield pairs of positions `(P, 2)` whose hashes differ in at most `DISTANCE` bits; a pair may come twice.

    Of four quarters with at most seven different bits in all, one has at most one: for each quarter pictures are found
    by that quarter with none or one bit changed. Pairs of one `group` are left out; it may change meanwhile.
    """
    for quarter in range(4):
        key = (hashes >> np.uint64(16 * quarter)).astype(np.uint16)
        order = np.argsort(key, kind="stable")
        size = np.bincount(key, minlength=1 << 16)
        ends = np.cumsum(size)
        filled = np.flatnonzero(size)
        for changed in (0, *(1 << bit for bit in range(16))):
            wanted = key ^ np.uint16(changed)
            least, most = np.full(1 << 16, -1), np.full(1 << 16, -1)
            if len(filled):
                least[filled] = np.minimum.reduceat(group[order], (ends - size)[filled])
                most[filled] = np.maximum.reduceat(group[order], (ends - size)[filled])
            asked = np.flatnonzero((size[wanted] > 0) & ((least[wanted] != group) | (most[wanted] != group)))
            for part in np.array_split(asked, 1 + int(size[wanted[asked]].sum()) // _BLOCK):
                some, stop = size[wanted[part]], ends[wanted[part]]
                one = np.repeat(part, some)
                step = np.arange(len(one)) - np.repeat(np.cumsum(some) - some, some)
                other = order[np.repeat(stop - some, some) + step]
                near = (one < other) & (np.bitwise_count(hashes[one] ^ hashes[other]) <= DISTANCE)
                near &= group[one] != group[other]
                yield np.stack([one[near], other[near]], axis=1)


def _parts(rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), _CHUNK):
        yield rows[start : start + _CHUNK]


def _standardised(thumbnails: np.ndarray) -> np.ndarray:
    """Return thumbnails that show a pattern with mean 0 and length 1, so that brightness and contrast do not count."""
    values = thumbnails.astype(np.float32)
    values -= values.mean(1, keepdims=True)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def _pattern(thumbnails: np.ndarray) -> np.ndarray:
    """Return which thumbnails `(N, 768)` show more than one colour."""
    return thumbnails.reshape(len(thumbnails), 3, -1).std(2).max(1) >= PLAIN
