from collections.abc import Iterator

import jinja2
import pytest

from mvp_edge.core import templates


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Templates by name, instead of those in the package."""
    texts: dict[str, str] = {}
    monkeypatch.setattr(templates, "read_asset", lambda folder, name: texts[name])
    yield texts
    templates.load_template.cache_clear()


def test_lines_of_blocks_leave_no_trace(written: dict[str, str]) -> None:
    written["list.md.j2"] = "first\n  {% for x in xs %}\n- {{ x }}\n  {% endfor %}\nlast"
    assert templates.load_template("x", "list.md.j2").render(xs=[1, 2]) == "first\n- 1\n- 2\nlast"


def test_a_missing_value_is_an_error(written: dict[str, str]) -> None:
    written["a.md.j2"] = "{{ absent }}"
    with pytest.raises(jinja2.UndefinedError, match="absent"):
        templates.load_template("x", "a.md.j2").render()


def test_only_pages_escape(written: dict[str, str]) -> None:
    written["a.html.j2"] = written["a.md.j2"] = "{{ x }}"
    shown = [templates.load_template("x", name).render(x="<b>") for name in ("a.html.j2", "a.md.j2")]
    assert shown == ["&lt;b&gt;", "<b>"]
