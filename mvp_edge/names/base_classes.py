"""Which classes of a base stand for each name of a class list: `espresso` is one of ImageNet's, `dog` is 118."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from textwrap import shorten
from types import MappingProxyType
from typing import Any

from mvp_edge.core.errors import TaskError
from mvp_edge.core.words import in_short
from mvp_edge.names import wordnet
from mvp_edge.names.dictionary import Synset, nouns
from mvp_edge.names.tasks import Task, TaskClass, canonical, numbered

LOW_COVERAGE = 0.1  # `fish` (16 of ImageNet's classes) has 0.05, `bird` (59) 0.16
_MAX_SHOWN = 3
# Everyday words for classes of ImageNet that WordNet does not call so.
MEANT = {
    "fridge": "refrigerator.n.01",
    "rooster": "cock.n.05",
    "smartphone": "cellular_telephone.n.01",
    "tv": "television.n.02",
}


@dataclass(frozen=True)
class NamedClasses:
    """What stands for one name.

    Attributes:
        name: As the user typed it.
        synset: Its WordNet noun, such as `dog.n.01`; None if WordNet has no such noun.
        meaning: WordNet's gloss of that noun.
        classes: Positions of the base classes, ascending; none if the base does not know the name.
        taken: Base classes of this noun that belong to a more specific name of the list, by that name.
        coverage: Share of the noun's most specific kinds in WordNet that the base knows, in [0, 1]; None if unknown.
        note: Why this meaning was taken, where others come to mind.
        near: Names of base classes, or of nouns above them, that may be meant, for a name that the base does not know.
    """

    name: str
    synset: str | None
    meaning: str
    classes: tuple[int, ...]
    taken: tuple[tuple[str, tuple[int, ...]], ...] = ()
    coverage: float | None = None
    note: str = ""
    near: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resolution:
    """What stands for each name of a task, in its order.

    Attributes:
        base: The base classes, resolved, in the order of the base's outputs.
        named: One entry for each name. Each base class belongs to one name at most.
    """

    base: Task
    named: tuple[NamedClasses, ...]

    @property
    def task(self) -> Task:
        """The task with the senses that were taken. Resolving it again gives the same base classes."""
        return Task(tuple(TaskClass(n.name, n.synset) for n in self.named))

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Positions of the base classes of each name."""
        return tuple(n.classes for n in self.named)

    @property
    def unknown(self) -> tuple[NamedClasses, ...]:
        """The names that the base does not know."""
        return tuple(n for n in self.named if not n.classes)

    @property
    def any_known(self) -> bool:
        """Whether the base knows one of the names."""
        return any(n.classes for n in self.named)

    @property
    def notes(self) -> list[str]:
        """What was decided: classes that went to a more specific name, and senses that were not taken."""
        return [note for n in self.named for note in (*_overlaps(n), n.note) if note]

    @property
    def warnings(self) -> list[str]:
        """The names of which the base knows little, or one kind only."""
        return [
            f"{n.name!r} ({n.synset}) stands for {self.shown(n)} only, {100 * n.coverage:.1f} % of its kinds in "
            "WordNet; photographs of other kinds may not be recognised"
            for n in self.named
            if n.coverage is not None and n.coverage < (1 if len(n.classes) == 1 and not n.taken else LOW_COVERAGE)
        ]

    def shown(self, named: NamedClasses) -> str:
        """Return the base classes of a name in words: their names, or how many there are."""
        names = [self.base.names[i] for i in named.classes]
        more = len(names) - _MAX_SHOWN
        return ", ".join(names) if more <= _MAX_SHOWN else f"{', '.join(names[:_MAX_SHOWN])} and {more} more classes"

    def require_known(self, base: str, listing: str) -> None:
        """Refuse names that the base does not know.

        Args:
            base: How messages call the base.
            listing: The command that lists all that it knows.

        Raises:
            TaskError: There are such names; the message has the nearest known ones and the ways out.
        """
        if self.unknown:
            lines = [f"class {n.name!r} is unknown to {base}{_nearest(n)}" for n in self.unknown]
            raise TaskError(
                in_short(lines, separator="; ") + f"; write a known class (all of them: {listing}) or a wider noun, "
                "such as `dog` for a breed, or add images with --data DIR"
            )

    def to_json(self) -> list[dict[str, Any]]:
        """Return a JSON-ready value: for each name what stands for it, with names of base classes."""
        names = self.base.names
        return [
            {
                "name": n.name,
                "synset": n.synset,
                "meaning": n.meaning,
                "classes": [names[i] for i in n.classes],
                "taken": {name: [names[i] for i in classes] for name, classes in n.taken},
                "coverage": None if n.coverage is None else round(n.coverage, 4),
                "note": n.note,
                "near": list(n.near),
            }
            for n in self.named
        ]


def resolve_to_base(task: Task, base: Task, *, pictured: bool = False) -> Resolution:
    """Resolve each name of a class list to a WordNet noun, and that to the base classes at or below it.

    A base class that is itself the noun stands alone: where there are classes for whales and for dolphins, `whale`
    means other whales. Not so where the classes are a tree, as in ImageNet-21k: there the kinds of a noun belong to it.
    Of several senses the one that the base knows is taken. It may know several: then the hand-checked table decides.
    Where that has none of them, the most frequent sense is taken if it is the only one of them that WordNet's tagged
    texts use: `cat` is the pet, as they have no `cat` that is a lion. Else the user has to write which is meant.
    A base class that several names claim goes to the most specific one, which is the one with the fewest base classes.

    Args:
        task: The class list as it was read: a synset in it is taken for the user's word.
        base: What the base knows, resolved (`wordnet.resolve_names`).
        pictured: Whether there are photographs of each name, which tell apart what the base cannot.

    Returns:
        What stands for each name. A name that the base does not know stays without base classes.

    Raises:
        TaskError: A synset does not exist; or, unless the names are pictured, one has several senses that the base
            knows, two stand for the same base classes, or all base classes of one belong to more specific names. The
            message has all such names. Pictured ones stay without base classes, with a note.
    """
    wordnet.check_synsets(task)
    known = _Known.of(base)
    chosen = [_choose(c, known) for c in task.classes]
    if (problems := [problem for _, problem in chosen if problem]) and not pictured:
        raise TaskError(in_short(problems, separator="; "))
    found = _disjoint([entry for entry, _ in chosen], pictured=pictured)
    return Resolution(
        base, tuple(_by_photographs(n, why) if why else n for n, (_, why) in zip(found, chosen, strict=True))
    )


@dataclass(frozen=True)
class _Known:
    """A base's classes by name, by synset, and by all synsets above them; whether most lie below another."""

    base: Task
    by_name: dict[str, int]
    at: dict[int, tuple[int, ...]]
    below: dict[int, tuple[int, ...]]
    tree: bool

    @staticmethod
    @cache
    def of(base: Task) -> _Known:
        at: dict[int, list[int]] = {}
        below: dict[int, list[int]] = {}
        for i, c in enumerate(base.classes):
            if c.synset is not None and (synset := nouns().find(c.synset)) is not None:
                at.setdefault(synset.offset, []).append(i)
                for offset in nouns().above(synset):
                    below.setdefault(offset, []).append(i)
        inner = {i for offset, own in at.items() for i in set(below[offset]) - set(own)}
        return _Known(
            base, numbered(base.names), {k: tuple(v) for k, v in at.items()}, {k: tuple(v) for k, v in below.items()},
            tree=2 * len(inner) > len(base.classes),
        )  # fmt: skip

    def classes(self, synset: Synset) -> tuple[int, ...]:
        own = () if self.tree else self.at.get(synset.offset, ())
        return own or self.below.get(synset.offset, ())

    def coverage(self, synset: Synset) -> float:
        """Return the share of the most specific kinds of a noun that lie at or below a base class."""
        kinds = nouns().below(synset)
        leaves = {offset for offset in kinds if not nouns()[offset].below}
        covered = {leaf for offset in self.at.keys() & kinds.keys() for leaf in nouns().below(nouns()[offset])}
        return len(leaves & covered) / len(leaves)


def _choose(c: TaskClass, known: _Known) -> tuple[NamedClasses, str]:
    """Return what stands for one name, and what is wrong with it, if anything: then it is all that it may mean."""
    namesake = known.by_name.get(canonical(c.name))
    own = known.base.classes[namesake].synset if namesake is not None else None
    if namesake is not None and (c.synset is None or own is None or nouns().find(c.synset) == nouns().find(own)):
        synset = nouns().find(own or c.synset or "")
        classes = known.classes(synset) if known.tree and synset is not None else (namesake,)
        entry = _entry(c.name, synset, classes, 1.0)
        usual = wordnet.resolve(Task((c,))).classes[0].synset
        return replace(entry, note=_sense_note(entry, usual, ())), ""
    given = nouns().find(c.synset if c.synset is not None else c.name.strip().lower())
    for word, senses, used in [("", [given], 1)] if given is not None else wordnet.meanings(c.name):
        if in_base := [s for s in senses if known.classes(s)]:
            checked = wordnet.checked_sense(word)
            taken = _preferred(checked, senses[:used], in_base, known)
            if taken is None:
                every = tuple(sorted({i for s in in_base for i in known.classes(s)}))
                return _entry(c.name, None, every, None), _ambiguous(c.name, in_base, known)
            entry = _entry(c.name, taken, known.classes(taken), known.coverage(taken))
            others = [s for s in in_base if s != taken]
            return replace(entry, note=_sense_note(entry, (checked or senses[0]).name, others)), ""
    if c.synset is None and (other := nouns().find(MEANT.get(canonical(c.name), ""))) and known.classes(other):
        entry = _entry(c.name, other, known.classes(other), known.coverage(other))
        return replace(entry, note=_sense_note(entry, None, ())), ""
    (wanted,) = wordnet.resolve(Task((c,))).classes
    near = tuple(wordnet.nearest_classes(wanted, known.base, _MAX_SHOWN)) or _spelled_alike(c.name, known)
    return replace(_entry(c.name, nouns().find(wanted.synset or ""), (), None), near=near), ""


def _entry(name: str, synset: Synset | None, classes: tuple[int, ...], coverage: float | None) -> NamedClasses:
    called, meaning = (None, "") if synset is None else (synset.name, synset.meaning)
    return NamedClasses(name, called, meaning, classes, coverage=coverage)


def _preferred(
    checked: Synset | None, used: Sequence[Synset], in_base: Sequence[Synset], known: _Known
) -> Synset | None:
    """Return the sense to take of those that the base knows, or None where only the user can say.

    Args:
        checked: What the hand-checked table says.
        used: The senses that tagged texts use, the most frequent first.
        in_base: The senses that the base knows.
        known: What the base knows.
    """
    if len({known.classes(s) for s in in_base}) == 1:
        return in_base[0]
    if checked in in_base:
        return checked
    return in_base[0] if [s for s in in_base if s in used] == [in_base[0]] == list(used[:1]) else None


def _sense_note(n: NamedClasses, usual: str | None, others: Sequence[Synset]) -> str:
    """Return why a meaning was taken, if it is not the usual one, or not the only one."""
    text = f"{n.name!r} is taken as {n.synset} ({n.meaning})"
    if others:
        return f"{text}; for another meaning write {_lines(n.name, others)}"
    return "" if n.synset == usual else f"{text}, the meaning that the base knows"


def _ambiguous(name: str, in_base: Sequence[Synset], known: _Known) -> str:
    shown = Resolution(known.base, ()).shown
    what = {s.name: f": {shown(_entry(name, s, known.classes(s), None))}" for s in in_base if s.offset not in known.at}
    return (
        f"class {name!r} has several meanings that the base knows: write {_lines(name, in_base, what)}; what stands "
        "before `=` is your name for it"
    )


def _lines(name: str, senses: Sequence[Synset], what: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the lines of a class list that bind a name to each of several senses."""
    return " or ".join(f"`{name} = {s.name}` ({shorten(s.meaning, 60)}{what.get(s.name, '')})" for s in senses)


def _by_photographs(n: NamedClasses, why: str) -> NamedClasses:
    """Return a name for which nothing of the base stands, with a note; its classes do not go to other names, either."""
    return replace(n, classes=(), taken=(), coverage=None, note=f"{why}; it is learned from its photographs alone")


def _disjoint(found: Sequence[NamedClasses], *, pictured: bool) -> Iterable[NamedClasses]:
    """Give each base class to the most specific of the names that claim it.

    Raises:
        TaskError: Two names claim the same, or one is left with nothing, and there are no photographs of them.
    """
    problems = []
    alike: dict[tuple[int, ...], list[NamedClasses]] = {}
    for n in (n for n in found if n.classes):
        alike.setdefault(n.classes, []).append(n)
    for same in (same for same in alike.values() if len(same) > 1):
        names = " and ".join(repr(n.name) for n in same)
        problems.append(f"{names} stand for the same classes of the base; keep one of them")
    if problems and not pictured:
        raise TaskError(in_short(problems, separator="; "))
    owner: dict[int, NamedClasses] = {}
    for n in sorted(found, key=lambda n: (len(n.classes), n.synset or "", canonical(n.name))):
        for i in n.classes:
            owner.setdefault(i, n)
    result = []
    for n in found:
        taken: dict[str, list[int]] = {}
        for i in n.classes:
            if owner[i] is not n:
                taken.setdefault(owner[i].name, []).append(i)
        left = tuple(i for i in n.classes if owner[i] is n)
        if len(same := alike.get(n.classes, [])) > 1:
            own = _by_photographs(n, f"the base does not tell {n.name!r} from {_others(n, same)}")
        elif left or not n.classes:
            own = replace(n, classes=left, taken=tuple((name, tuple(of)) for name, of in sorted(taken.items())))
        else:
            why = f"nothing is left of {n.name!r} beside {in_short(list(map(repr, taken)))}"
            problems.append(f"{why}; leave it out")
            own = _by_photographs(n, why)
        result.append(own)
    if problems and not pictured:
        raise TaskError(in_short(problems, separator="; "))
    return result


def _others(n: NamedClasses, same: Sequence[NamedClasses]) -> str:
    return " and ".join(repr(other.name) for other in same if other is not n)


def _overlaps(n: NamedClasses) -> list[str]:
    return [f"{n.name!r} does not include {name!r} ({_count(len(of))})" for name, of in n.taken]


def _spelled_alike(name: str, known: _Known) -> tuple[str, ...]:
    """Return nouns above base classes, such as `poodle`, that are spelled like a name that is not in WordNet."""
    if any(senses for _, senses, _ in wordnet.meanings(name)):
        return ()
    words = {word.lower() for offset in known.below for word in nouns()[offset].words}
    return tuple(difflib.get_close_matches(canonical(name), sorted(words), 1, cutoff=0.8))


def _nearest(n: NamedClasses) -> str:
    return f" (nearest: {', '.join(n.near)})" if n.near else ""


def _count(classes: int) -> str:
    return "1 class" if classes == 1 else f"{classes} classes"
