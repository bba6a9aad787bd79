from __future__ import annotations

from pathlib import Path

import pytest

from mvp_edge.core.errors import ExportError
from mvp_edge.timing.plot import LatencyBar, check_format, plot_latencies

BARS = [LatencyBar("dense.onnx", 1, 12.0, 0.2), LatencyBar("model.onnx", 2, 0.2, 0.01, "60x faster")]


def test_svg_tells_names_and_figures_and_is_the_same_every_time(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        plot_latencies(BARS, tmp_path / name, "Latency of <two>")
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    for part in ("dense.onnx, 1 thr.", "model.onnx, 2 thr.", "12 ms", "0.2 ms, 60x faster", "Latency of &lt;two&gt;"):
        assert part in text


def test_one_thread_count_is_not_repeated(tmp_path: Path) -> None:
    plot_latencies(BARS[:1], tmp_path / "a.svg", "t")
    assert "thr." not in (tmp_path / "a.svg").read_text()


def test_png(tmp_path: Path) -> None:
    plot_latencies(BARS, tmp_path / "a.PNG", "t")
    assert (tmp_path / "a.PNG").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "message"), [("a.pdf", r"\.svg or \.png"), ("a", r"\.svg or \.png"), ("no/a.svg", "mkdir -p")]
)
def test_files_that_cannot_be(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        plot_latencies(BARS, tmp_path / name, "t")
    (tmp_path / "dir.svg").mkdir()
    with pytest.raises(ExportError, match="cannot be written"):
        plot_latencies(BARS, tmp_path / "dir.svg", "t")


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvp_edge.timing.plot.find_spec", lambda name: None)
    with pytest.raises(ExportError, match="pip install matplotlib"):
        check_format(tmp_path / "a.svg")
