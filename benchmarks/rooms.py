"""Count the rooms of the code: rooms, floors, imports between rooms, modules and lines, of this tree or of any commit.

    python -m benchmarks.rooms [--at REV] [--record]

A room is a package or module directly below `mvp_edge/`; `mvp_edge/__init__.py` with the public names, `cli/` and
`benchmarks/` are rooms too. An arrow is a pair of rooms of which the first imports the second. A room's floor is the
length of the longest chain of arrows below it. Only Python's standard library is needed.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import subprocess
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = "mvp_edge"
FOLDERS = (PACKAGE, "cli", "benchmarks")
RECORDS = ROOT / "benchmarks" / "results" / "measurements" / "rooms.jsonl"


@dataclass(frozen=True)
class Count:
    """What was counted.

    Attributes:
        floors: Rooms by floor, the lowest first.
        arrows: Pairs of rooms, the importing one first.
        modules: Lines of each module that is not empty.
    """

    floors: tuple[tuple[str, ...], ...]
    arrows: frozenset[tuple[str, str]]
    modules: Mapping[str, int]

    def summary(self) -> dict[str, Any]:
        """Return the numbers that are recorded."""
        lines = Counter[str]()
        for module, length in self.modules.items():
            lines[room_of(module)] += length
        longest = max(self.modules, key=lambda module: self.modules[module])
        return {
            "rooms": sum(map(len, self.floors)),
            "floors": len(self.floors),
            "arrows": len(self.arrows),
            "modules": len(self.modules),
            "lines": sum(lines.values()),
            "longest_module": longest,
            "longest_module_lines": self.modules[longest],
            "lines_by_room": dict(sorted(lines.items())),
        }


def room_of(module: str) -> str:
    """Return the room of a module, given by its dotted name."""
    top, *below = module.split(".")
    return below[0] if top == PACKAGE and below else top


def count(sources: Mapping[str, str]) -> Count:
    """Count the rooms of modules, given by their dotted names and texts.

    Raises:
        ValueError: Rooms import each other in a circle.
    """
    arrows = {
        (room_of(module), room_of(imported)) for module, text in sources.items() for imported in _imports(text, sources)
    }
    arrows = frozenset((a, b) for a, b in arrows if a != b)
    lines = {module: len(text.splitlines()) for module, text in sources.items()}
    rooms = {room_of(module) for module in sources}
    return Count(_floors(rooms, arrows), arrows, {module: n for module, n in lines.items() if n})


def _imports(text: str, known: Mapping[str, str]) -> Iterator[str]:
    """Yield the modules that a text imports absolutely, wherever it does so; relative imports stay within a room."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found = {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found = (inner & known.keys()) | ({node.module} if inner - known.keys() else set())
        else:
            continue
        yield from found & known.keys()


def _floors(rooms: set[str], arrows: frozenset[tuple[str, str]]) -> tuple[tuple[str, ...], ...]:
    floors, left = [], set(rooms)
    while left:
        floor = left - {a for a, b in arrows if b in left}
        if not floor:
            raise ValueError(f"rooms import each other in a circle: {', '.join(sorted(left))}")
        floors.append(tuple(sorted(floor)))
        left -= floor
    return tuple(floors)


def sources(revision: str | None = None) -> dict[str, str]:
    """Return the text of all modules, on disk or in a commit, by their dotted names.

    Raises:
        subprocess.CalledProcessError: git does not know the commit.
    """
    if revision is None:
        paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
        return {_dotted(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}
    here = [name for name in _git("ls-tree", "--name-only", revision).decode().split() if name in FOLDERS]
    with tarfile.open(fileobj=io.BytesIO(_git("archive", revision, "--", *here))) as archive:
        files = {e.name: archive.extractfile(e) for e in archive if e.name.endswith(".py")}
        return {_dotted(Path(name)): file.read().decode() for name, file in files.items() if file}


def _dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _git(*words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=True).stdout


def recorded() -> list[dict[str, Any]]:
    """Return the counts on record, oldest first; each names its commit."""
    return [json.loads(line) for line in RECORDS.read_text(encoding="utf-8").splitlines()]


def table() -> str:
    """Return the first and the last count on record beside each other."""
    first, last = recorded()[0], recorded()[-1]
    rows = [f"| | before ({first['commit']}) | after ({last['commit']}) |", "|---|---|---|"]
    for key in ("rooms", "floors", "arrows", "modules", "lines"):
        rows.append(f"| {key} | {first[key]:,} | {last[key]:,} |")
    longest = [f"`{c['longest_module']}`, {c['longest_module_lines']} lines" for c in (first, last)]
    rows += [f"| longest module | {' | '.join(longest)} |", "", "| lines by room | before | after |", "|---|---|---|"]
    before, after = first["lines_by_room"], last["lines_by_room"]
    for room in sorted(after):
        rows.append(f"| `{room}` | {before.get(room, '')} | {after[room]} |")
    gone = [lines for room, lines in before.items() if room not in after]
    rows.append(f"| {len(gone)} rooms that are gone | {sum(gone)} | |")
    return "\n".join(rows)


def main() -> None:
    """Print the count, and record that of a commit if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at", metavar="REV", help="a commit; this tree if not given")
    parser.add_argument(
        "--record", action="store_true", help="append the count of --at (HEAD if not given) to the records"
    )
    args = parser.parse_args()
    revision = args.at or ("HEAD" if args.record else None)
    found = count(sources(revision))
    for number, floor in reversed(list(enumerate(found.floors, 1))):
        print(f"{number:3}  {', '.join(floor)}")
    print(json.dumps(found.summary(), indent=2))
    if args.record and revision:
        commit = _git("rev-parse", "--short=7", revision).decode().strip()
        with RECORDS.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"commit": commit, **found.summary()}) + "\n")


if __name__ == "__main__":
    main()
