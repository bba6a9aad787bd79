"""The meaning of class names: WordNet nouns, and how similar two of them are."""

from __future__ import annotations

import difflib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from textwrap import shorten

from mvp_edge.core.errors import TaskError
from mvp_edge.names.dictionary import Synset, nouns
from mvp_edge.names.tasks import Task, TaskClass, canonical

IMAGENET_CLASSES = 1000
_MAX_WORDS = 4
_MAX_SHOWN = 5
_LONG_PART = 5  # letters: `phone` in `telephone`; shorter ones are in too many words, as `ray` is in `crayon`
_NEAR = 0.92  # Wu-Palmer: a lion and a tiger, a desk and a table; not a car and a motorcycle


def resolve(task: Task) -> Task:
    """Bind every class to a WordNet noun, where there is one.

    In this order: the `= synset` of the class list, the hand-checked table of known data sets, a wnid, and the
    first noun sense of the name (`ambiguous` lists the names for which that is a guess). Otherwise it stays `None`.

    Raises:
        TaskError: A synset given with `=` does not exist; the message shows the nearest that do, for all such classes.

    Example:
        >>> resolve(Task((TaskClass("sweet pepper"), TaskClass("n02012849"), TaskClass("zxqv")))).classes
        ... # doctest: +NORMALIZE_WHITESPACE
        (TaskClass(name='sweet pepper', synset='sweet_pepper.n.02'),
         TaskClass(name='n02012849', synset='crane.n.05'),
         TaskClass(name='zxqv', synset=None))
    """
    check_synsets(task)
    return Task(tuple(replace(c, synset=_synset_name(c)) for c in task.classes))


def resolve_names(names: Sequence[str]) -> Task:
    """Return the resolved task of the names that a base knows; names of ImageNet-1k's classes have its synsets.

    If all names are wnids, as in ImageNet's label sets, the classes are called by words instead: each by the first of
    its words that means no other class; without such a word, by its synset, as the two cranes are.
    """
    if len(names) == IMAGENET_CLASSES and tuple(names) == imagenet_classes().names:
        return imagenet_classes()
    if names and all(map(nouns().has_wnid, names)):
        return _in_words(tuple(names))
    return resolve(Task(tuple(map(TaskClass, names))))


def imagenet_classes() -> Task:
    """Return the 1,000 classes of ImageNet-1k in the order of all its classifiers' outputs, with their synsets."""
    return _in_words(_imagenet_wnids())


@cache
def _in_words(wnids: tuple[str, ...]) -> Task:
    synsets = list(map(_existing, wnids))
    own = {s.offset for s in synsets}

    def label(synset: Synset) -> str:
        for word in synset.words:
            if own.intersection(nouns().offsets(word.lower())) == {synset.offset}:
                return word.replace("_", " ")
        return synset.name

    return Task(tuple(TaskClass(label(s), s.name) for s in synsets))


def check_synsets(task: Task) -> None:
    """Refuse synsets of a class list that WordNet does not have.

    Raises:
        TaskError: There are such; the message shows the nearest that do exist, for all such classes.
    """
    problems = [
        f"class {c.name!r}: there is no noun synset {c.synset!r} in WordNet 3.0; {_nearest(c)}"
        for c in task.classes
        if c.synset is not None and nouns().find(c.synset) is None
    ]
    if problems:
        raise TaskError("; ".join(problems) + ". Correct it in the class list, or leave out `= synset`.")


def describe(synset: str) -> str:
    """Return the name of a synset with what it means, shortened: `crane.n.05 (large long-necked wading bird ...)`.

    Raises:
        TaskError: there is no such synset.
    """
    return _in_short(_existing(synset))


def ambiguous(task: Task) -> dict[str, tuple[str, ...]]:
    """Return the names whose sense `resolve` would only guess, with all their senses, the guess first.

    Pass the task as it was read: a class that already has a synset is no longer ambiguous. The senses read
    `crane.n.05: large long-necked wading bird ...`, so that a user can copy the one that is meant behind an `=`.
    """
    candidates = {c.name: _senses(c.name) for c in task.classes if c.synset is None and _known(c.name) is None}
    return {name: tuple(map(_describe, senses)) for name, senses in candidates.items() if len(senses) > 1}


def checked_sense(name: str) -> Synset | None:
    """Return the sense that the hand-checked table of known data sets gives a name, or None."""
    return nouns().find(_curated().get(canonical(name), ""))


def meanings(name: str) -> Iterator[tuple[str, list[Synset], int]]:
    """Yield the words that a name may be, their senses, and how many of these WordNet's tagged texts use.

    Its spellings with `_`, `-` or nothing between words come one after the other, each before its singulars. The most
    frequent sense comes first.
    """
    for spelling in _spellings(name):
        for form in nouns().forms(spelling):
            yield form, nouns().senses_of(form), nouns().used(form)


def class_similarity(x: TaskClass, y: TaskClass) -> float:
    """Return the similarity of two resolved classes, in [0, 1].

    With synsets it is Wu-Palmer's. Otherwise it is 1 if their names are equal under `canonical`, else 0.

    Raises:
        TaskError: A class has a synset that does not exist.

    References:
        Wu and Palmer (1994), as NLTK's `wup_similarity` computes it.
    """
    if x.synset is None or y.synset is None:
        return float(canonical(x.name) == canonical(y.name))
    return _wup(*sorted((x.synset, y.synset)))


def nearest_classes(wanted: TaskClass, known: Task, count: int) -> list[str]:
    """Return the names of at most `count` classes of a resolved task that may be meant; none where nothing is near.

    First those that share a word with the wanted class (`maple` and `maple_tree`) or a long part of one; for a name
    that is not in WordNet, else those spelled alike; then synonyms, then those to which one of its senses comes near.
    """
    name, words = canonical(wanted.name), _singulars(wanted.name)
    spelled = {canonical(c.name): c.name for c in known.classes}

    def shared(other: str) -> float:
        own = _singulars(other)
        if both := len(words & own):
            return both / len(words | own)
        short, long = sorted((name, other), key=len)
        return len(short) / len(long) / 2 if len(short) >= _LONG_PART and short in long else 0.0

    found = [n for n in sorted(spelled, key=lambda n: -shared(n)) if shared(n) > 0]
    if not found and not _senses(wanted.name):
        found = difflib.get_close_matches(name, list(spelled), count, cutoff=0.8)
    near = [spelled[n] for n in found]
    meant = {c.name: _nearness(wanted, c) for c in known.classes}
    near += [n for n in sorted(meant, key=lambda n: -meant[n]) if meant[n] >= _NEAR]
    return list(dict.fromkeys(near))[:count]


def _singulars(name: str) -> set[str]:
    return {next(iter(nouns().forms(word)), word) for word in canonical(name).split("_")}


def _nearness(wanted: TaskClass, known: TaskClass) -> float:
    """Return how near any sense that the wanted class may have comes to a known class, in [0, 1].

    Without `= synset` that is any sense of its name if it is the very same (a TV is first of all a broadcast), else
    those of the kind of the first: a cat is also a man, but `man` is not what its writer looks for.
    """
    goal = known.synset
    if wanted.synset is None or goal is None:
        return 0.0
    senses = _senses(wanted.name)
    if wanted.synset not in [s.name for s in senses[:1]]:
        return class_similarity(wanted, known)
    if goal in [s.name for s in senses]:
        return 1.0
    return max(_wup(*sorted((s.name, goal))) for s in senses if s.kind == senses[0].kind)


@cache
def _wup(first: str, second: str) -> float:
    return nouns().wup(_existing(first), _existing(second))


def _existing(name: str) -> Synset:
    if (synset := nouns().find(name)) is None:
        raise TaskError(f"there is no noun synset {name!r} in WordNet 3.0; resolve the task's classes first.")
    return synset


@cache
def _imagenet_wnids() -> tuple[str, ...]:
    return tuple((files("mvp_edge") / "assets" / "imagenet1k.txt").read_text(encoding="ascii").split())


@cache
def _curated() -> dict[str, str]:
    sections = json.loads((files("mvp_edge") / "assets" / "synsets.json").read_text(encoding="utf-8"))
    return {canonical(name): synset for section in sections.values() for name, synset in section.items()}


def _synset_name(c: TaskClass) -> str | None:
    found = nouns().find(c.synset) if c.synset is not None else _known(c.name) or next(iter(_senses(c.name)), None)
    return None if found is None else found.name


def _known(name: str) -> Synset | None:
    """Return the noun of a name that needs no guess: one of the curated table, or a wnid."""
    return nouns().find(_curated().get(canonical(name), name.strip().lower()))


def _senses(name: str) -> list[Synset]:
    """Return the noun senses of a name, the most frequent first; plurals are reduced to singulars."""
    for spelling in _spellings(name):
        if senses := nouns().senses(spelling):
            return senses
    return []


def _spellings(name: str) -> Iterator[str]:
    yield "_".join(name.lower().split())
    # WordNet writes black-eyed_susan, cellphone and ice_cream; a user may write any of these with blanks.
    words = canonical(name).split("_")
    for joints in itertools.product(("_", "-", ""), repeat=len(words) - 1 if len(words) <= _MAX_WORDS else 0):
        joints = joints or ("_",) * (len(words) - 1)
        yield "".join(word + joint for word, joint in zip(words, (*joints, ""), strict=True))


def _describe(synset: Synset) -> str:
    return f"{synset.name}: {synset.meaning}"


def _in_short(synset: Synset) -> str:
    return f"{synset.name} ({shorten(synset.meaning, 60)})"


def _nearest(c: TaskClass) -> str:
    word = (c.synset or "").rsplit(".", 2)[0]
    senses = _senses(word) or _senses(c.name)
    if senses:
        return "candidates: " + ", ".join(map(_in_short, senses[:_MAX_SHOWN]))
    lemmas = [lemma for lemma in nouns().words() if lemma[0] == word[0]]
    close = difflib.get_close_matches(word, lemmas, n=_MAX_SHOWN)
    return f"nearest words: {', '.join(close)}" if close else "no word comes near it"
