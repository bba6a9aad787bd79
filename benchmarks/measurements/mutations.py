"""Do the tests notice a broken line? Seeded random mutations over the rooms, each against the tests that run its line.

    COVERAGE_FILE=FILE pytest --cov=mvp_edge --cov-context=test --cov-report=
    python -m benchmarks mutations --covered FILE [--count 100] [--seed 0] [--limit 600] [--again]

A mutation changes one comparison, operator, number, truth value or condition of a module in a copy of the tree. Tests
that run its statement run until one fails; then the module's own tests and its room's, for what happens at import or in
fixtures that tests share. Tests marked `slow` or `real` do not run. Each mutation is one record, and a run continues
where it was stopped. A mutation that survives is a missing test, or changes nothing that can be observed. `--again`
tries the survivors anew, at another commit with more tests.
"""

from __future__ import annotations

import ast
import copy
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import coverage

from benchmarks.command import Script
from benchmarks.records import ROOT, code, read

HUNG_S = 1800  # by the clock, which other programs slow down
COVERING = 40  # tests of one line, at most: those of its room first

SWAPS: dict[type[ast.AST], type[Any]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
KINDS = (ast.Compare, ast.BinOp, ast.BoolOp, ast.Constant, ast.If, ast.IfExp)


@dataclass(frozen=True)
class Mutation:
    """One change: the module, the line, the lines of its statement, and the module's text with it."""

    module: str
    line: int
    statement: range
    change: str
    text: str


def places(tree: ast.Module) -> list[int]:
    """Return the positions, in the order of `ast.walk`, of the nodes that can be changed: none in declarations."""
    types = {id(inner) for part in _types(tree) for inner in ast.walk(part)}
    nodes = list(ast.walk(tree))
    able = (i for i, node in enumerate(nodes) if isinstance(node, KINDS) and id(node) not in types)
    return [i for i in able if _change(copy.deepcopy(nodes[i]))]


def mutated(path: Path, place: int) -> Mutation:
    """Return a module with the node at one of its `places` changed."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    node = list(ast.walk(tree))[place]
    line = getattr(node, "lineno", 0)
    statement = _statement(tree, line)
    change = _change(node)
    return Mutation(str(path.relative_to(ROOT)), line, statement, change, ast.unparse(tree))


def _statement(tree: ast.Module, line: int) -> range:
    """Return the lines of the innermost statement at a line; of a compound one its head."""
    within = [n for n in ast.walk(tree) if isinstance(n, ast.stmt) and n.lineno <= line <= (n.end_lineno or 0)]
    found = max(within, key=lambda n: n.lineno)
    body: list[ast.stmt] = getattr(found, "body", [])
    return range(found.lineno, body[0].lineno if body else (found.end_lineno or line) + 1)


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


def drawn(seed: int, number: int) -> Mutation:
    """Return a random mutation: rooms take turns, a module is drawn by its lines, a place at random."""
    draw = random.Random(f"{seed}/mutations/{number}")
    rooms = sorted(p.parent for p in (ROOT / "mvp_edge").glob("*/__init__.py"))
    modules = sorted(p for p in rooms[number % len(rooms)].glob("*.py") if p.name != "__init__.py")
    able = {p: found for p in modules if (found := places(ast.parse(p.read_text(encoding="utf-8"))))}
    (module,) = draw.choices(list(able), [len(p.read_text(encoding="utf-8").splitlines()) for p in able])
    return mutated(module, draw.choice(able[module]))


def repeated(module: str, line: int, change: str) -> Mutation | None:
    """Return the same change of a module as it now is, the nearest to where it once was; None if there is none."""
    path = ROOT / module
    able = places(ast.parse(path.read_text(encoding="utf-8"))) if path.exists() else []
    same = [m for m in (mutated(path, place) for place in able) if m.change == change]
    return min(same, key=lambda m: abs(m.line - line), default=None)


def collected() -> set[str]:
    """Return the tests that there are; the coverage data may be of an older commit and know others."""
    words = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n", "0", "-m", "not slow and not real"]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {_short(line) for line in found.splitlines() if line.startswith("tests/")}


def _short(test: str) -> str:
    return test.partition("[/")[0]  # a path as a parameter is not that of the copy


def suites(mutation: Mutation, covered: coverage.CoverageData, there: Container[str]) -> list[list[str]]:
    """Return the tests to run for a mutation: those that run its statement, its module's and its room's."""
    room, name = Path(mutation.module).parent.name, Path(mutation.module).stem
    files = [f for f in covered.measured_files() if f.endswith(f"/{mutation.module}")]
    by_line = covered.contexts_by_lineno(files[0]) if files else {}
    ran = {_short(c.rpartition("|")[0]) for line in mutation.statement for c in by_line.get(line, []) if c}
    nearest = sorted(
        (t for t in ran if t in there), key=lambda t: (f"test_{name}.py" not in t, f"/{room}/" not in t, t)
    )[:COVERING]
    near = [f"tests/{room}/test_{name}.py", f"tests/{room}", f"tests/test_{room}.py"]
    return [*([nearest] if nearest else []), *([n] for n in near if (ROOT / n).exists())]


@dataclass
class Tree:
    """A copy of the code.

    Attributes:
        path: Where it is.
        limit_s: Seconds of processor time that a suite may take; independent of what else runs on the machine.
        there: Its tests.
    """

    path: Path
    limit_s: int
    there: Container[str]

    def __post_init__(self) -> None:
        ignored = shutil.ignore_patterns(".git", "__pycache__", "results")
        shutil.copytree(ROOT, self.path, ignore=ignored, symlinks=True)
        (self.path / "benchmarks" / "results").symlink_to(ROOT / "benchmarks" / "results")
        (self.path / "alias").mkdir()
        (self.path / "alias" / "mvp_edge_cli").symlink_to(self.path / "cli")

    def notices(self, mutation: Mutation, covered: coverage.CoverageData) -> str:
        """Return which tests notice a mutation; empty if none does.

        Raises:
            RuntimeError: these tests fail without the mutation, too.
        """
        module = self.path / mutation.module
        whole = module.read_text(encoding="utf-8")
        for suite in suites(mutation, covered, self.there):
            module.write_text(mutation.text, encoding="utf-8")
            try:
                failed, _ = self._run(suite)
            finally:
                module.write_text(whole, encoding="utf-8")
            if failed:
                again, told = self._run(suite)  # all of it: a test may fail for those before it
                if again:
                    raise RuntimeError(f"{' '.join(again)} fails without a mutation: {told}")
                return " ".join(dict.fromkeys(t.partition("::")[0] for t in failed))
        return ""

    def _run(self, suite: Sequence[str]) -> tuple[list[str], str]:
        """Return what fails of a suite, nothing if it passes and all of it if it does not end, and its last lines."""
        words = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider"]
        environment = {k: v for k, v in os.environ.items() if k != "MVP_EDGE_DATA"}
        environment["PYTHONPATH"] = os.pathsep.join([str(self.path), str(self.path / "alias")])
        try:
            done = subprocess.run(
                [*words, "-m", "not slow and not real", *suite], cwd=self.path, env=environment, text=True, check=False,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=HUNG_S,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (self.limit_s, self.limit_s + 5)),
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return list(suite), ""
        if done.returncode in (0, 5):  # 5: no tests
            return [], ""
        found = re.search(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
        return [found[1]] if found else list(suite), done.stdout[-2000:]


def main(argv: Sequence[str]) -> None:
    """Try mutations that have no record yet."""
    script = Script("mutations", __doc__, "seed")
    script.add("--count", type=int, default=100)
    script.add("--covered", type=Path, required=True, metavar="FILE", help="coverage data with a context for each test")
    script.add("--limit", type=int, default=600, metavar="S", help="seconds of processor time for one suite")
    script.add("--again", action="store_true", help="the mutations that survived, with the tests that are there now")
    args = script.parse(argv)
    done = script.done()
    covered = coverage.CoverageData(str(args.covered))
    covered.read()
    with tempfile.TemporaryDirectory() as scratch:
        tree = Tree(Path(scratch) / "tree", args.limit, collected())
        for about, mutation in _survivors() if args.again else _new(args.seed, args.count):
            if about not in done:
                found = mutation()
                if found is not None:
                    change = {"module": found.module, "line": found.line, "change": found.change}
                    script.record(about, {**change, "by": tree.notices(found, covered)})


Wanted = Iterator[tuple[dict[str, Any], Callable[[], Mutation | None]]]


def _new(seed: int, count: int) -> Wanted:
    for number in range(count):
        yield {"seed": seed, "number": number}, partial(drawn, seed, number)


def _survivors() -> Wanted:
    tried = read("mutations")
    settled = [{k: v for k, v in r["config"].items() if k != "again"} for r in tried if r["result"]["by"]]
    for r in tried:
        if not r["result"]["by"] and "again" not in r["config"] and r["config"] not in settled:
            was = {k: r["result"][k] for k in ("module", "line", "change")}
            yield r["config"] | {"again": code()["commit"]}, partial(repeated, **was)
