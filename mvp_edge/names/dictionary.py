"""The nouns of WordNet 3.0, shipped inside the package: senses, meanings, and the tree above and below them.

NLTK's reader parses the whole index before its first answer, 0.7 s on a slow core with its import. This one unpacks
the files (0.1 s) and parses the lines that are needed. The tests compare it with NLTK's.
"""

from __future__ import annotations

import gzip
import re
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files

_WNID = re.compile(r"n(\d{8})")
_SENSE = re.compile(r"(\S+)\.n\.0*([1-9]\d*)")
# Morphy's rules for nouns, in its order.
_ENDINGS = (
    ("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"),
    ("ies", "y"),
)  # fmt: skip
_UP, _INSTANCE_OF, _DOWN = "@", "@i", "~"


@dataclass(frozen=True)
class Synset:
    """A meaning that one or several nouns share.

    Attributes:
        offset: The number in its wnid, `n02012849`.
        words: Its nouns as WordNet spells them, `_` between words.
        kind: Number of its lexicographer file; 5 is animals.
        above: Offsets of the synsets that it is a kind or an instance of.
        below: Offsets of its kinds. Instances, which are persons and places with names of their own, are left out.
        meaning: Its definition.
        dictionary: Where it stands.
    """

    offset: int
    words: tuple[str, ...] = field(compare=False)
    kind: int = field(compare=False)
    above: tuple[int, ...] = field(compare=False, repr=False)
    below: tuple[int, ...] = field(compare=False, repr=False)
    meaning: str = field(compare=False)
    dictionary: Dictionary = field(compare=False, repr=False)

    @cached_property
    def name(self) -> str:
        """Its first word and which of that word's senses it is, such as `crane.n.05`."""
        word = self.words[0].lower()
        return f"{word}.n.{self.dictionary.offsets(word).index(self.offset) + 1:02d}"


class Dictionary:
    """WordNet's nouns; one is enough for a process (`nouns`)."""

    def __init__(self, read: Callable[[str], bytes]) -> None:
        self._data, self._index = read("data.noun"), read("index.noun")
        self._exceptions = dict(line.split(maxsplit=1) for line in read("noun.exc").decode("ascii").splitlines())
        self._parsed: dict[int, Synset] = {}
        self._lines: dict[str, list[bytes]] = {}
        self._depths: dict[int, tuple[int, int]] = {}
        self._above: dict[int, dict[int, int]] = {}

    def at(self, offset: int) -> Synset | None:
        """Return the synset at a byte offset of the data file, which is the number of its wnid, or None."""
        if offset not in self._parsed:
            if not self._data.startswith(b"%08d " % offset, offset):
                return None
            self._parsed[offset] = self._parse(offset)
        return self._parsed[offset]

    def find(self, text: str) -> Synset | None:
        """Return the synset that `crane.n.05` or `n02012849` names, or None."""
        if wnid := _WNID.fullmatch(text):
            return self.at(int(wnid[1]))
        if sense := _SENSE.fullmatch(text.lower()):
            offsets = self.offsets(sense[1])
            return self.at(offsets[int(sense[2]) - 1]) if int(sense[2]) <= len(offsets) else None
        return None

    def has_wnid(self, text: str) -> bool:
        """Say whether a text is the wnid of a synset, such as `n02012849`."""
        return _WNID.fullmatch(text) is not None and self.find(text) is not None

    def senses(self, word: str) -> list[Synset]:
        """Return the senses of a word in WordNet's spelling or its plural, the most frequent first."""
        return [synset for form in self.forms(word) for synset in self.senses_of(form)]

    def senses_of(self, form: str) -> list[Synset]:
        """Return the senses of a word just as it is spelled, the most frequent first."""
        return [self[offset] for offset in self.offsets(form)]

    def offsets(self, form: str) -> list[int]:
        """Return the offsets of the senses of a word just as it is spelled, the most frequent first."""
        fields = self._fields(form)
        return [int(offset) for offset in fields[-int(fields[2]) :]] if fields else []

    def used(self, form: str) -> int:
        """Return how many senses of a word WordNet's tagged texts use, which are the first ones."""
        fields = self._fields(form)
        return int(fields[-1 - int(fields[2])]) if fields else 0

    def forms(self, word: str) -> list[str]:
        """Return the word and its singulars, as far as they are in the dictionary."""
        word = word.lower()
        head, joint, last = word.rpartition("_")
        if word in self._exceptions:
            found = self._exceptions[word].split()
        else:
            found = [word.removesuffix(old) + new for old, new in _ENDINGS if word.endswith(old)]
            found += [head + joint + single for single in self._exceptions.get(last, "").split()]
        return [form for form in dict.fromkeys([word, *found]) if self.offsets(form)]

    def words(self) -> Iterator[str]:
        """Yield every noun, in alphabetical order."""
        return (w.decode("ascii") for w in re.findall(rb"^[^ \n]+", self._index, re.MULTILINE))

    def above(self, synset: Synset) -> dict[int, int]:
        """Return the offsets of a synset and of all above it, each with its least number of steps from there."""
        if synset.offset not in self._above:
            self._above[synset.offset] = self._closure(synset, "above")
        return self._above[synset.offset]

    def below(self, synset: Synset) -> dict[int, int]:
        """Return the offsets of a synset and of all its kinds, each with its least number of steps from there."""
        return self._closure(synset, "below")

    def wup(self, a: Synset, b: Synset) -> float:
        """Return the Wu-Palmer similarity of two synsets, in (0, 1].

        It is NLTK's: where several paths lead to the root, a path from `a` to an ancestor may lead over one of that
        ancestor's own. But equal synsets score 1, which `apple` and `apple` do not in NLTK.
        """
        if a.offset == b.offset:
            return 1.0
        up, others = self.above(a), self.above(b)
        common = [self[offset] for offset in up.keys() & others.keys()]
        if not common:
            return 0.0
        deepest = max(self._depth(s)[0] for s in common)
        lowest = {s.name: s for s in common if self._depth(s)[0] == deepest}
        meeting = lowest[a.name if a.name in lowest else min(lowest)]
        depth = self._depth(meeting)[1] + 1
        rest = self.above(meeting).items()
        steps = sum(min(path[offset] + further for offset, further in rest) for path in (up, others))
        return 2 * depth / (steps + 2 * depth)

    def __getitem__(self, offset: int) -> Synset:
        found = self.at(offset)
        if found is None:
            raise KeyError(offset)
        return found

    def _depth(self, synset: Synset) -> tuple[int, int]:
        """Return the steps of the shortest and of the longest path to the root."""
        if synset.offset not in self._depths:
            above = [self._depth(self[offset]) for offset in synset.above]
            self._depths[synset.offset] = (
                min((low + 1 for low, _ in above), default=0),
                max((high + 1 for _, high in above), default=0),
            )
        return self._depths[synset.offset]

    def _closure(self, synset: Synset, relation: str) -> dict[int, int]:
        steps, queue = {synset.offset: 0}, deque([synset])
        while queue:
            here = queue.popleft()
            for offset in getattr(here, relation):
                if offset not in steps:
                    steps[offset] = steps[here.offset] + 1
                    queue.append(self[offset])
        return steps

    def _fields(self, word: str) -> list[bytes]:
        """Return the columns of a word's line in the index, which is sorted; none if it has no line.

        They are: word, n, number of senses, ..., number of senses in tagged texts, offsets of the senses.
        """
        if word not in self._lines:
            self._lines[word] = self._search(word)
        return self._lines[word]

    def _search(self, word: str) -> list[bytes]:
        if not word.isascii() or not word:
            return []
        wanted, index = word.encode("ascii"), self._index

        def word_at(place: int) -> bytes:
            start = index.rfind(b"\n", 0, place) + 1
            return index[start : index.find(b" ", start)]

        start = bisect_left(range(len(index)), wanted, key=word_at)
        if start == len(index) or word_at(start) != wanted:
            return []
        return index[start : index.index(b"\n", start)].split()

    def _parse(self, offset: int) -> Synset:
        # offset kind type words(hex) {word id}... pointers {symbol offset type source/target}... | meaning; "examples"
        line = self._data[offset : self._data.index(b"\n", offset)].decode("ascii")
        columns, _, gloss = line.partition(" | ")
        fields = columns.split()
        count = int(fields[3], 16)
        words = tuple(fields[4 : 4 + 2 * count : 2])
        pointers = list(zip(fields[5 + 2 * count :: 4], fields[6 + 2 * count :: 4], strict=False))
        return Synset(
            offset=offset,
            words=words,
            kind=int(fields[1]),
            # NLTK's order: kinds first, then instances.
            above=tuple(int(to) for symbol in (_UP, _INSTANCE_OF) for s, to in pointers if s == symbol),
            below=tuple(int(to) for s, to in pointers if s == _DOWN),
            meaning=re.sub(r"[\"].*?[\"]", "", gloss).strip("; "),
            dictionary=self,
        )


def _content(file: str) -> bytes:
    return gzip.decompress((files("mvp_edge") / "assets" / "wordnet" / f"{file}.gz").read_bytes())


@cache
def nouns() -> Dictionary:
    """Return the dictionary, unpacked at the first call."""
    return Dictionary(_content)
