import ast
from pathlib import Path

import pytest

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


def test_tests_of_the_module_run_before_those_of_its_room() -> None:
    first, second, *others = mutations.suites("mvp_edge/zoo/store.py")
    assert (first, second) == (["tests/zoo/test_store.py"], ["tests/zoo"])
    assert all(Path(p).parent.name != "zoo" for suite in others for p in suite)
    assert mutations.suites("mvp_edge/config/training.py")[0] == ["tests/test_config.py"]
