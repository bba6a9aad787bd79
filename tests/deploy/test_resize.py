"""The page's own scaling against the evaluation's; run by Node where it is installed."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mvp_edge.deploy
from mvp_edge.data.images import decode

NODE = shutil.which("node")
SCRIPT = Path(mvp_edge.deploy.__file__).parent / "web" / "resize.js"
pytestmark = pytest.mark.skipif(NODE is None, reason="Node is not installed")


def run_node(code: str, **values: Any) -> Any:
    source = f"{SCRIPT.read_text()}\nconst given = JSON.parse(require('fs').readFileSync(0, 'utf8'));\n{code}"
    done = subprocess.run(
        [str(NODE), "-e", source], input=json.dumps(values), capture_output=True, text=True, check=True
    )  # fmt: skip
    return json.loads(done.stdout)


def scaled(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return what the page makes of `pixels` `(h, w, 3)`, as `(H, W, 3)`."""
    rgba = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    data = run_node(
        "const data = Buffer.from(given.data, 'base64');"
        "const out = cover({ data, width: given.width, height: given.height }, ...given.size);"
        "console.log(JSON.stringify(Buffer.from(out).toString('base64')));",
        data=base64.b64encode(rgba.tobytes()).decode(),
        width=pixels.shape[1],
        height=pixels.shape[0],
        size=[size[1], size[0]],
    )
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(*size, 4)[..., :3]


@pytest.mark.parametrize(
    ("width", "height", "size", "off"),
    [
        (32, 32, (32, 32), 0),  # not touched
        (50, 40, (32, 32), 0),
        (33, 32, (32, 32), 0),
        (20, 10, (32, 32), 0),  # enlarged
        (333, 317, (32, 32), 0),  # reduced in blocks first
        (640, 480, (32, 32), 0),
        (1000, 700, (224, 224), 0),
        (600, 400, (24, 32), 0),
        (40, 90, (32, 32), 1),  # tall: the order of the passes depends on Pillow's version
        (97, 901, (32, 48), 1),
        (1, 7, (32, 32), 1),
    ],
)
def test_agrees_with_the_evaluation(tmp_path: Path, width: int, height: int, size: tuple[int, int], off: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = decode(tmp_path / "a.png", size).astype(int)
    assert np.abs(scaled(pixels, size) - expected).max() <= off


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_input(dtype: str, layout: str) -> None:
    pixels = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)  # height 2, width 3, RGBA
    found = run_node(
        "console.log(JSON.stringify(Array.from(toInput(given.rgba, given))));",
        rgba=pixels.reshape(-1).tolist(), dtype=dtype, layout=layout, width=3, height=2,
    )  # fmt: skip
    colours = pixels[..., :3]
    wanted = (colours.transpose(2, 0, 1) if layout == "NCHW" else colours).reshape(-1)
    np.testing.assert_array_equal(np.float32(found), wanted / np.float32(255) if dtype == "float32" else wanted)
