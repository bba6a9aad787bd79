"""What is recorded of runtimes that agree, disagree, or do not run."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from PIL import Image

from benchmarks import delivered, records
from benchmarks.measurements import runtimes
from benchmarks.runtimes import chromium, web
from benchmarks.runtimes.chromium import BrowserError
from benchmarks.runtimes.others import RUNTIMES
from benchmarks.tables import phones
from benchmarks.tables.phones import agreement
from mvp_edge.core.places import cache_dir
from mvp_edge.timing.session import open_session
from tests.onnx_files import save_pool

LOGITS = [np.array([[1.0, 3.0, 2.0]], np.float32), np.array([[5.0, 4.0, 0.0], [0.0, 1.0, 2.0]], np.float32)]
CACHE = cache_dir()  # read here, because other tests give the cache another place
in_browser = pytest.mark.skipif(
    web.web_version() is None,
    reason="no Chromium, or no onnxruntime-web in the cache, where `python -m benchmarks runtimes` puts it",
)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's cache."""
    monkeypatch.setenv("MVP_EDGE_CACHE", str(CACHE))


@pytest.fixture
def no_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search path without any program."""
    monkeypatch.setenv("PATH", str(tmp_path))


def test_the_largest_difference_over_all_batches_counts() -> None:
    near = [LOGITS[0] + np.float32(2e-4), LOGITS[1] - np.float32(9e-4)]
    found = runtimes.judged(near, LOGITS)
    assert found["max_abs_diff"] == pytest.approx(9e-4, rel=1e-3)
    assert (found["agrees"], found["same_top1"], found["images"]) == (True, 3, 3)


def test_another_class_and_a_large_difference_are_told() -> None:
    far = [LOGITS[0], LOGITS[1] + np.array([[0, 1.5, 0], [0, 0, 0]], np.float32)]
    found = runtimes.judged(far, LOGITS)
    assert (found["agrees"], found["same_top1"]) == (False, 2)
    assert "above 0.001; same top-1 on 2 of 3 images" in agreement(found)


def test_not_a_number_does_not_agree() -> None:
    found = runtimes.judged([LOGITS[0], LOGITS[1] * np.float32("nan")], LOGITS)
    assert found == {"failed": "outputs are not finite"}


def test_outputs_of_another_shape_are_no_comparison() -> None:
    assert runtimes.judged([LOGITS[0][:, :2], LOGITS[1]], LOGITS)["failed"].startswith("outputs of shape (1, 2)")


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_runtime_that_is_missing_or_fails_is_recorded_with_the_reason(
    name: str, no_browser: None, tmp_path: Path
) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    found = runtimes.ask(name, tmp_path / "broken.onnx", [np.zeros((1, 3, 8, 8), np.float32)])
    assert isinstance(found, dict)
    assert found["failed"]
    if runtimes.installed()[name] is None:
        assert found["failed"].startswith(("ModuleNotFoundError: No module named", "RuntimeError: no Chromium"))
    assert agreement(found).startswith("failed: ")


def test_no_browser_is_not_installed(no_browser: None, cache: None, tmp_path: Path) -> None:
    assert runtimes.installed()["onnxruntime-web"] is None
    with pytest.raises(RuntimeError, match="no Chromium"), web.with_ort_web(save_pool(tmp_path / "pool.onnx")):
        pass


def test_a_browser_without_onnxruntime_web_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "find_chromium", lambda: "chromium")
    monkeypatch.setenv("MVP_EDGE_CACHE", str(tmp_path))
    assert web.web_version() is None


@in_browser
def test_no_bit_is_lost_between_here_and_the_browser(cache: None, tmp_path: Path) -> None:
    path = save_pool(tmp_path / "identity.onnx", ("batch", 3, 1, 1))
    draw = np.random.default_rng(0)
    with web.with_ort_web(path) as run:
        for batch in (1, 7):
            images = draw.normal(size=(batch, 3, 1, 1)).astype(np.float32)
            np.testing.assert_array_equal(run(images), images[:, :, 0, 0], strict=True)
        with pytest.raises(BrowserError, match="invalid dimensions"):
            run(np.zeros((1, 4, 1, 1), np.float32))


@in_browser
def test_the_browser_takes_bytes(cache: None, tmp_path: Path) -> None:
    path = save_pool(tmp_path / "pool.onnx", dtype=TensorProto.UINT8)
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 8), dtype=np.uint8)
    with web.with_ort_web(path) as run:
        assert runtimes.judged([run(images)], [open_session(path).run(images)])["agrees"] is True


@in_browser
def test_a_file_that_the_browser_cannot_load(cache: None, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with (
        pytest.raises(BrowserError, match=r"\AError: Can't create a session\..*protobuf parsing failed"),
        web.with_ort_web(tmp_path / "broken.onnx"),
    ):
        pass


@in_browser
def test_what_a_script_throws_is_one_line(tmp_path: Path) -> None:
    with closing(chromium.Page(str(chromium.find_chromium()), tmp_path)) as page:
        assert page.run("Promise.resolve(6 * 7)") == 42
        with pytest.raises(BrowserError, match=r"\ATypeError: no such thing\Z"):
            page.run("Promise.reject(new TypeError('no such thing'))")
        with pytest.raises(BrowserError, match=r"\A7\Z"):
            page.run("(() => { throw 7; })()")
        with pytest.raises(BrowserError, match="No.such"):
            page.call("No.such")


def test_every_runtime_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_pool(tmp_path / "pool.onnx")
    monkeypatch.setattr(runtimes, "ask", lambda name, file, feeds: {"failed": f"{name} {len(feeds)}"})
    found = runtimes.compare(path, np.zeros((5, 3, 8, 8), np.uint8))
    assert {k: v for k, v in found.items() if k in RUNTIMES} == {n: {"failed": f"{n} 3"} for n in RUNTIMES}
    assert found["largest_logit"] > 0


def record(network: str, difference: float, versions: dict[str, str | None]) -> dict[str, Any]:
    """A record of one file, as it is read."""
    agreed = {"max_abs_diff": difference, "agrees": difference <= runtimes.AGREES, "same_top1": 9, "images": 9}
    failed = {"failed": "no such module"}
    found = {name: failed if version is None else agreed for name, version in versions.items()}
    return {
        "dirty": False,
        "config": {"network": network, "versions": versions},
        "environment": {"packages": {"onnxruntime": "1.2"}},
        "result": {"fp32": {"largest_logit": 8.04, **found}},
    }


def test_the_last_record_of_each_network_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        record("resnet", 1.0, {"MNN": "3"}),
        record("vit", 2e-4, {"MNN": "3", "onnxruntime-web": None}),
        record("resnet", 3e-4, {"MNN": "3", "onnxruntime-web": "1.30.0"}),
    ]
    monkeypatch.setattr(records, "read", lambda question: rows)
    first, second = (part.splitlines() for part in phones.runtimes().split("\n\n"))
    assert first == [
        "| resnet: largest difference from ONNX Runtime 1.2 | MNN 3 | onnxruntime-web 1.30.0 | largest logit |",
        "|---|---|---|---|",
        "| fp32 | 3.0e-04; same top-1 on 9 of 9 images | 3.0e-04; same top-1 on 9 of 9 images | 8.0 |",
    ]
    assert second[0].startswith("| vit: ") and "| onnxruntime-web |" in second[0]
    assert second[2] == "| fp32 | 2.0e-04; same top-1 on 9 of 9 images | failed: no such module | 8.0 |"


def test_every_file_of_a_result_is_compared_on_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[tuple[dict[str, Any], dict[str, Any]]] = []
    monkeypatch.setattr(records, "append", lambda question, config, result, device: kept.append((config, result)))
    monkeypatch.setattr(runtimes, "ask", lambda name, file, feeds: {"failed": f"{len(feeds[-1])} pictures"})
    path = save_pool(tmp_path / "pool.onnx")
    result = SimpleNamespace(
        models={"fp32": path, "int8": path}, report=SimpleNamespace(body=None), base=SimpleNamespace(name="resnet")
    )
    monkeypatch.setattr(runtimes, "read_result", lambda directory: result)
    monkeypatch.setattr(delivered, "OnnxClassifier", lambda path: SimpleNamespace(input_size=(8, 8)))
    for i in range(3):
        Image.new("RGB", (20, 10), (i, 0, 0)).save(tmp_path / f"{i}.png")
    runtimes.main([str(tmp_path), "--pictures", str(tmp_path), "--allow-dirty"])
    ((config, found),) = kept
    assert config["network"] == "resnet" and config["pictures"] == 3 and set(config["versions"]) == set(RUNTIMES)
    assert set(found) == {"fp32", "int8"} and found["int8"]["tract"] == {"failed": "3 pictures"}
