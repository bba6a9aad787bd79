"""Files from elsewhere: what is read of them, and what is not."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import pytest

from mvp_edge.core.untrusted import check_printable, read_bytes, read_json, unzipped


def test_only_gzip_is_unpacked() -> None:
    for data in (zlib.compress(b"1"), b"no archive"):
        with pytest.raises(ValueError):
            unzipped(data)


def test_json_that_is_too_deep_or_too_large(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too deeply"):
        read_json(b"[" * 100_000)
    (tmp_path / "zoo.json").write_bytes(b" " * 2000)
    with pytest.raises(ValueError, match=r"larger than 1,000"):
        read_bytes(tmp_path / "zoo.json", 1000)


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[31m", 7, None, "\ud800"])
def test_names_that_a_terminal_would_obey(name: Any) -> None:
    with pytest.raises(ValueError, match="name|character"):
        check_printable(["fine", "café <b>", name])
