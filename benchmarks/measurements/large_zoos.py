"""How long does it take to rank the members of a large zoo by names, and to list it?

    python -m benchmarks large-zoos [--members 200,10000,1000000]

Descriptions are simulated: each member has five classes of ImageNet. Each size is measured in a process of its own,
from the first look into WordNet to the ranked members, in processor seconds. A zoo of 10,000 directories is listed
several times; the first of these stores its catalogue.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import environ
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks.command import Script
from mvp_edge.config import VoteConfig
from mvp_edge.names.ranking import ClassLists
from mvp_edge.names.tasks import Task
from mvp_edge.names.wordnet import imagenet_classes
from mvp_edge.voting.neighbours import rank
from mvp_edge.zoo.catalogue import Catalogue
from mvp_edge.zoo.member import MemberInfo
from mvp_edge.zoo.store import Zoo

WAYS = 5
LISTED = 10_000  # members of the zoo on disk


def main(argv: Sequence[str]) -> None:
    """Rank in each size, list one zoo, and append records."""
    script = Script("large-zoos", __doc__, "zoo", "seed")
    script.add("--members", default="200,10000,1000000")
    script.add("--catalogue", type=Path, help="only print what ranking the members of this file takes")
    args = script.parse(argv)
    if args.catalogue:
        print(json.dumps(ranking(script.zoo, args.catalogue)))
        return
    about = {"ways": WAYS, "classes": len(imagenet_classes().classes), "seed": args.seed}
    with tempfile.TemporaryDirectory() as scratch:
        for members in map(int, args.members.split(",")):
            file = Path(scratch) / "catalogue"
            file.write_bytes(simulated(members, args.seed).to_bytes())
            command = [sys.executable, "-m", "benchmarks", "large-zoos", "--catalogue", str(file), "--zoo", args.zoo]
            command += ["--allow-dirty"] * args.allow_dirty
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            script.record(about | {"kind": "rank", "members": members}, json.loads(done.stdout))
        place = on_disk(script.zoo, Path(scratch) / "zoo", args.seed)
        runs = [listing(place, Path(scratch) / "cache") for _ in range(4)]
    result = {"first_processor_s": runs[0], "processor_s": sorted(runs[1:])[1]}
    script.record(about | {"kind": "list", "members": LISTED}, result)


@dataclass(frozen=True)
class Simulated:
    """A zoo of which only descriptions exist, as far as ranking looks."""

    one: MemberInfo
    simulated: Catalogue
    name: str = "simulated"

    def catalogue(self) -> Catalogue:
        return self.simulated

    def info(self, member: str) -> MemberInfo:
        return replace(self.one, id=member)


def class_lists(members: int, seed: int) -> ClassLists:
    """Return random lists of classes of ImageNet."""
    draw, classes = np.random.default_rng(seed), imagenet_classes().classes
    first, step = draw.integers(0, len(classes), members), draw.integers(1, len(classes) // WAYS, members)
    chosen = (first[:, None] + np.arange(WAYS) * step[:, None]) % len(classes)
    used, positions = np.unique(chosen, return_inverse=True)
    found = tuple(classes[i] for i in used)
    return ClassLists(found, positions.astype(np.int32).ravel(), WAYS * np.arange(1, members + 1))


def simulated(members: int, seed: int) -> Catalogue:
    """Return a catalogue of specialists."""
    return Catalogue(
        ids=[f"{n:012x}" for n in range(members)],
        tasks=class_lists(members, seed),
        generalist=np.zeros(members, bool),
        top1=np.full(members, np.nan),
        sizes=np.zeros(members, np.int64),
        stamps=np.zeros((members, 3), np.int64),
    )


def ranking(zoo: Zoo, file: Path) -> dict[str, Any]:
    """Return the processor seconds that reading a catalogue and ranking its members take, and the memory."""
    one = next(i for i in zoo.infos() if i.kind == "specialist")
    task = Task(imagenet_classes().classes[:: 1000 // WAYS])
    forget_wordnet()
    before_mib = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    begin = time.process_time()
    catalogue = Catalogue.from_bytes(file.read_bytes())
    read_s = time.process_time() - begin
    stand_in = cast(Zoo, Simulated(one, catalogue))
    found = rank(stand_in, task, VoteConfig())
    rank_s = time.process_time() - begin - read_s
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "read_s": round(read_s, 3), "rank_s": round(rank_s, 3), "catalogue_mib": round(file.stat().st_size / 2**20, 2),
        "peak_mib": round(peak_mib), "added_mib": round(peak_mib - before_mib),
        "nearest": round(found[0].similarity, 4),
    }  # fmt: skip


def forget_wordnet() -> None:
    """Let the dictionary be unpacked and read anew, as in a new process."""
    from mvp_edge.names import dictionary, wordnet

    dictionary.nouns.cache_clear()
    wordnet._wup.cache_clear()


def on_disk(zoo: Zoo, place: Path, seed: int) -> Path:
    """Write a zoo whose members have descriptions, and weights of a few bytes."""
    (place / "members").mkdir(parents=True)
    (place / "zoo.json").write_bytes((zoo.path / "zoo.json").read_bytes())
    value = next(i for i in zoo.infos() if i.kind == "specialist").to_json()
    lists = class_lists(LISTED, seed)
    for number in range(LISTED):
        classes = [{"name": c.name, "synset": c.synset} for c in lists[number].classes]
        directory = place / "members" / f"{number:012x}"
        directory.mkdir()
        (directory / "member.json").write_text(json.dumps(value | {"id": directory.name, "classes": classes}))
        (directory / "weights.safetensors.gz").write_bytes(bytes(1000))
    return place


def listing(zoo: Path, cache: Path) -> float:
    """Return the processor seconds of `zoo list`, the start of Python included."""

    def spent() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = spent()
    command = [sys.executable, "-m", "mvp_edge_cli", "zoo", "list", "--zoo", str(zoo)]
    subprocess.run(command, env=environ | {"MVP_EDGE_CACHE": str(cache)}, capture_output=True, check=True)
    return round(spent() - before, 2)
