from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mvp_edge.core.errors import ConfigError
from mvp_edge.core.places import cache_dir, resolved, user_directory

PLACES = [
    (cache_dir, "MVP_EDGE_CACHE", ".cache/mvp-edge"),
    (user_directory, "MVP_EDGE_HOME", ".local/share/mvp-edge"),
]


@pytest.mark.parametrize(("place", "variable", "default"), PLACES)
def test_a_place_is_named_or_in_the_home_directory(
    place: Callable[[], Path], variable: str, default: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "/somewhere")
    assert place() == Path("/somewhere")
    monkeypatch.setenv(variable, "~/there")
    assert place() == tmp_path / "there"
    monkeypatch.setenv(variable, "")
    assert place() == tmp_path / default


@pytest.mark.parametrize(("place", "variable", "default"), PLACES)
def test_nobody_has_no_home(
    place: Callable[[], Path], variable: str, default: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(variable, raising=False)
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # what it does where nobody knows the user
    with pytest.raises(ConfigError, match=f"HOME, or {variable}"):
        place()


def test_a_loop_of_links_has_no_place(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for path in (tmp_path / "a", tmp_path / "b" / "inside"):
        with pytest.raises(ConfigError, match="loop of symbolic links"):
            resolved(path)
    (tmp_path / "c").symlink_to(tmp_path / "new")
    assert resolved(tmp_path / "c" / ".." / "d") == tmp_path.resolve() / "d"
