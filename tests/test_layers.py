"""Imports go strictly down the layers, and modules of one layer do not know each other."""

import ast
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = [
    {"errors", "templates"},
    {"files", "tasks"},
    {"plan", "config", "zoo_file"},
    {"tensors"},
    {"data", "runtime", "onnx_session"},
    {"networks", "timing"},
    {"surgery", "training"},
    {"voting", "similarity", "measure", "export", "report", "zoo"},
    {"pruners", "budget", "trunk"},
    {"ranking"},
    {"electorate"},
    {"metavote"},
    {"pipeline"},
    {"building", "deploy"},
]
INNER_LAYERS = {
    "pipeline": [
        {"command"},
        {"precision", "request"},
        {"cascade", "known"},
        {"variants", "sizing", "tuning"},
        {"origin", "outcome"},
        {"costs", "evaluation"},
        {"delivery"},
        {"run"},
        {"family"},
    ],
    "building": [
        {"inversion", "preparing", "sampling"},
        {"teaching", "member"},
        {"members", "adding", "exemplars", "pretrain"},
    ],
}
LEVEL = {module: level for level, modules in enumerate(LAYERS) for module in modules}
BENCHMARK_LAYERS = [
    {"records", "superclasses", "runtimes"},
    {"setting"},
    {"methods"},
    {"suite", "baselines"},
    {"measurements"},
    {"experiments"},
    {"registry"},
    {"tables"},
    {"render"},
    {"__main__"},
]
BENCHMARK_LEVEL = {module: level for level, modules in enumerate(BENCHMARK_LAYERS) for module in modules}
FILES = sorted((ROOT / "mvp_edge").rglob("*.py"))
BENCHMARK_FILES = sorted((ROOT / "benchmarks").rglob("*.py"))


def modules(package: str) -> dict[str, Path]:
    """Return a package's modules by their full names."""
    found = {}
    for path in (ROOT / package).rglob("*.py"):
        *folders, file = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(folders if file == "__init__" else [*folders, file])] = path
    return found


MODULES = {package: modules(package) for package in ("mvp_edge", "benchmarks")}


def needed(path: Path, package: str = "mvp_edge") -> set[str]:
    """Return the modules of a package that a file imports, at run time or for type checking, by their full names.

    What `from PACKAGE import` names may be a module itself.
    """
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{a.name}" for a in node.names}
            found |= inner if inner <= MODULES[package].keys() else {node.module, *inner}
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
    return found & MODULES[package].keys()


def imported(path: Path, package: str = "mvp_edge") -> set[str]:
    """Return the top-level modules of a package that a file imports."""
    return {name.split(".")[1] for name in needed(path, package) - {package}}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    module = path.relative_to(ROOT / "mvp_edge").parts[0].removesuffix(".py")
    if module == "__init__":
        return  # the public surface re-exports lazily
    assert module in LEVEL, f"{module} has no layer yet"
    for other in imported(path) - {module}:
        assert LEVEL[other] < LEVEL[module], f"{module} imports {other}, which is not below it"


@pytest.mark.parametrize("path", BENCHMARK_FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_of_benchmarks_go_down(path: Path) -> None:
    module = path.relative_to(ROOT / "benchmarks").parts[0].removesuffix(".py")
    for other in imported(path, "benchmarks") - {module}:
        assert BENCHMARK_LEVEL[other] < BENCHMARK_LEVEL[module], f"{module} imports {other}, which is not below it"


@pytest.mark.parametrize("folder", INNER_LAYERS)
def test_imports_within_a_package_go_down(folder: str) -> None:
    level = {f"mvp_edge.{folder}.{name}": n for n, names in enumerate(INNER_LAYERS[folder]) for name in names}
    inside = {name for name in MODULES["mvp_edge"] if name.startswith(f"mvp_edge.{folder}.")}
    assert inside == level.keys()
    for module in inside:
        for other in needed(MODULES["mvp_edge"][module]) & inside:
            assert level[other] < level[module], f"{module} imports {other}, which is not below it"


@pytest.mark.parametrize("package", MODULES)
def test_there_are_no_circles(package: str) -> None:
    graph = {name: needed(path, package) - {package} for name, path in MODULES[package].items() if name != package}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
    assert len(order) == len(graph) > 20


def test_every_layer_exists() -> None:
    modules = {p.relative_to(ROOT / "mvp_edge").parts[0].removesuffix(".py") for p in FILES} - {"__init__"}
    assert modules == set(LEVEL)
    parts = {p.relative_to(ROOT / "benchmarks").parts[0].removesuffix(".py") for p in BENCHMARK_FILES} - {"__init__"}
    assert parts == set(BENCHMARK_LEVEL)


def test_every_package_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {".".join(p.parent.relative_to(ROOT).parts) for p in FILES}
    assert sorted(listed) == sorted(folders | {"mvp_edge_cli"})


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_library_does_not_print_or_unpickle(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            call = ast.unparse(node.func)
            assert call not in ("print", "torch.load", "pickle.load", "pickle.loads"), f"{path}: {call}"


def test_modules_are_small() -> None:
    for path in (p for folder in ("mvp_edge", "cli", "benchmarks", "tests") for p in (ROOT / folder).rglob("*.py")):
        assert len(path.read_text().splitlines()) <= 400, path
