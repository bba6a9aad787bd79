"""Do the tests notice a broken line? Seeded random mutations over the rooms, each against the tests of its room.

    python -m benchmarks mutations [--count 100] [--seed 0] [--timeout 600]

A mutation changes one comparison, operator, number, truth value or condition of a module in a copy of the tree. The
room's own tests run first, then those of the rooms and commands that use it, until one fails. Mutations that survive
are listed: each is a missing test, or changes nothing that can be told apart.
"""

from __future__ import annotations

import ast
import copy
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.command import Script, log
from benchmarks.records import ROOT
from mvp_edge.core.streams import rng

SWAPS: dict[type[ast.AST], type[Any]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
WIDER = ("tests/prune", "tests/cli")  # what uses a room whose own tests see nothing


@dataclass(frozen=True)
class Mutation:
    """One change: the module, the line, and the module's text with it."""

    module: str
    line: int
    change: str
    text: str


def places(tree: ast.Module) -> list[int]:
    """Return the positions, in the order of `ast.walk`, of the nodes that can be changed: none in declarations."""
    types = {id(inner) for part in _types(tree) for inner in ast.walk(part)}
    nodes = list(ast.walk(tree))
    return [i for i, node in enumerate(nodes) if id(node) not in types and _change(copy.deepcopy(node))]


def mutated(path: Path, place: int) -> Mutation:
    """Return a module with the node at one of its `places` changed."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    node = list(ast.walk(tree))[place]
    change = _change(node)
    return Mutation(str(path.relative_to(ROOT)), getattr(node, "lineno", 0), change, ast.unparse(tree))


def _change(node: ast.AST) -> str:
    """Change a node in place and return what was done; empty if it is of no kind that is changed."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        before = ast.unparse(node)
        swapped: Any = SWAPS[type(node.ops[0])]()
        node.ops[0] = swapped
        return f"{before} -> {ast.unparse(node)}"
    if isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in SWAPS:
        before = ast.unparse(node)
        operator: Any = SWAPS[type(node.op)]()
        node.op = operator
        return f"{before} -> {ast.unparse(node)}"
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        node.value = not node.value
        return f"{not node.value} -> {node.value}"
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        node.value += 1
        return f"{node.value - 1} -> {node.value}"
    if isinstance(node, ast.If | ast.IfExp):
        before = ast.unparse(node.test)
        node.test = ast.fix_missing_locations(ast.UnaryOp(ast.Not(), node.test))
        return f"if {before} -> if not"
    return ""


def _types(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield what only declares: annotations, what is imported for them alone, and decorators."""
    for node in ast.walk(tree):
        yield from (part for part in (getattr(node, "annotation", None), getattr(node, "returns", None)) if part)
        yield from getattr(node, "decorator_list", [])
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield node


def chosen(count: int, seed: int) -> list[Mutation]:
    """Return random mutations: a room by its turn, a module by its lines, a line at random."""
    draw, found = rng(seed, "mutations"), []
    rooms = sorted(p.parent for p in (ROOT / "mvp_edge").glob("*/__init__.py"))
    for turn in range(count):
        room = rooms[turn % len(rooms)]
        modules = sorted(p for p in room.glob("*.py") if p.name != "__init__.py")
        sizes = [len(p.read_text(encoding="utf-8").splitlines()) for p in modules]
        module = modules[int(draw.choice(len(modules), p=[s / sum(sizes) for s in sizes]))]
        able = places(ast.parse(module.read_text(encoding="utf-8")))
        if able:
            found.append(mutated(module, able[int(draw.integers(len(able)))]))
    return found


def suites(module: str) -> list[str]:
    """Return the tests to run for a module, the nearest first."""
    room, name = Path(module).parent.name, Path(module).stem
    near = [f"tests/{room}/test_{name}.py", f"tests/{room}", *WIDER]
    return [n for n in near if (ROOT / n).exists()]


def notices(mutation: Mutation, timeout_s: float) -> str:
    """Return which tests notice a mutation; empty if none does."""
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", "__pycache__", "results"), symlinks=True)
        (tree / "benchmarks" / "results").symlink_to(ROOT / "benchmarks" / "results")
        (tree / mutation.module).write_text(mutation.text, encoding="utf-8")
        alias = Path(scratch) / "alias"
        alias.mkdir()
        (alias / "mvp_edge_cli").symlink_to(tree / "cli")
        environment = {**os.environ, "PYTHONPATH": f"{tree}{os.pathsep}{alias}", "PYTHONDONTWRITEBYTECODE": "1"}
        for suite in suites(mutation.module):
            words = [
                sys.executable,
                "-m",
                "pytest",
                "-x",
                "-q",
                "-n",
                "0",
                "-p",
                "no:cacheprovider",
                "-m",
                "not slow",
                suite,
            ]
            try:
                done = subprocess.run(words, cwd=tree, env=environment, capture_output=True, timeout=timeout_s)
            except subprocess.TimeoutExpired:
                return f"{suite}, by not ending"
            if done.returncode not in (0, 5):  # 5: no test in that file runs here
                return suite
    return ""


def main(argv: Sequence[str]) -> None:
    """Try mutations and append a record."""
    script = Script("mutations", __doc__, "seed")
    script.add("--count", type=int, default=100)
    script.add("--timeout", type=float, default=600.0, metavar="S")
    args = script.parse(argv)
    rows = []
    for number, mutation in enumerate(chosen(args.count, args.seed)):
        by = notices(mutation, args.timeout)
        log.info("%d %s:%d %s: %s", number, mutation.module, mutation.line, mutation.change, by or "SURVIVED")
        rows.append({"module": mutation.module, "line": mutation.line, "change": mutation.change, "by": by})
    noticed = sum(bool(row["by"]) for row in rows)
    script.record({"seed": args.seed, "count": len(rows)}, {"noticed": noticed, "of": len(rows), "rows": rows})
