import ast
from pathlib import Path

import pytest
from coverage import CoverageData

from benchmarks.measurements import mutations

TEXT = '''
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    WIDTH = 3

@dataclass(frozen=True)
class A:
    size: tuple[int, 3]

    def grow(self, by: float) -> bool:
        """Return 7."""
        return self.size < by and True
'''


def test_what_only_declares_is_left_alone() -> None:
    found = {mutations._change(node) for node in at(TEXT)}
    assert found == {"self.size < by and True -> self.size < by or True", "self.size < by -> self.size <= by",
                     "True -> False"}  # fmt: skip


def at(text: str) -> list[ast.AST]:
    """Return the nodes of a text that can be changed."""
    tree = ast.parse(text)
    chosen = mutations.places(tree)
    return [node for i, node in enumerate(ast.walk(tree)) if i in chosen]


@pytest.mark.parametrize("number", range(16))
def test_a_mutation_is_one_change_that_its_seed_and_number_repeat(number: int) -> None:
    found = mutations.drawn(0, number)
    assert found == mutations.drawn(0, number)
    whole = (mutations.ROOT / found.module).read_text(encoding="utf-8")
    compile(found.text, found.module, "exec")
    before, after = ast.unparse(ast.parse(whole)).splitlines(), found.text.splitlines()
    assert len(before) == len(after)
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1, found.change


def test_tests_that_run_the_statement_go_before_those_of_the_module_and_its_room(tmp_path: Path) -> None:
    module = "mvp_edge/zoo/store.py"
    found = CoverageData(str(tmp_path / "covered"))
    for test, line in [
        ("tests/prune/test_a.py::a|run", 8),
        ("tests/zoo/test_b.py::b|setup", 9),
        ("", 9),
        ("c|run", 11),
        ("tests/zoo/test_b.py::gone|run", 9),
    ]:
        found.set_context(test)
        found.add_lines({str(mutations.ROOT / module): [line]})
    there = {"tests/zoo/test_b.py::b", "tests/prune/test_a.py::a", "c"}
    suites = mutations.suites(mutations.Mutation(module, 9, range(8, 11), "", ""), found, there)
    assert suites == [
        ["tests/zoo/test_b.py::b", "tests/prune/test_a.py::a"],
        ["tests/zoo/test_store.py"],
        ["tests/zoo"],
    ]
    assert mutations.suites(mutations.Mutation(module, 12, range(12, 13), "", ""), found, there) == suites[1:]


def test_the_statement_of_a_line_is_all_its_lines_or_the_head_of_a_compound_one() -> None:
    tree = ast.parse("def f(\n    a,\n):\n    x = (a +\n         1)\n    return x\n")
    assert [mutations._statement(tree, n) for n in (2, 4, 5, 6)] == [range(1, 4), range(4, 6), range(4, 6), range(6, 7)]


def test_a_change_is_found_again_where_its_line_has_moved() -> None:
    for number in range(4):
        found = mutations.drawn(0, number)
        assert mutations.repeated(found.module, found.line, found.change) == found
        moved = mutations.repeated(found.module, found.line + 1000, found.change)
        assert moved is not None and moved.change == found.change
    assert mutations.repeated("mvp_edge/zoo/store.py", 1, "never -> there") is None
    assert mutations.repeated("mvp_edge/zoo/gone.py", 1, "1 -> 2") is None
