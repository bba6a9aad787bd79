"""How many instructions does an inference take on a phone's processor, and how well does that tell its latency?

    python -m benchmarks instructions RESULT_DIR [RESULT_DIR ...] --arm ROOT

ONNX Runtime for aarch64 runs the files of results of `prune` in qemu-user, which counts (`runtimes/count.c`). Networks
with published phone latencies run in the same way: built by timm with random weights, which do not change the count,
and exported as the results are. ROOT is as for `phones`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import timm

from benchmarks.command import Script
from benchmarks.delivered import name_of
from benchmarks.runtimes.aarch64 import CPU, count_instructions
from mvp_edge.deploy.result import read_result
from mvp_edge.export import export_onnx

TIMEOUT_S = 5400
SLIM = "github.com/tensorflow/models, research/slim/nets/mobilenet/README.md"
LITE = "github.com/tensorflow/tpu, models/official/efficientnet/lite/README.md"
PIXEL_1, PIXEL_4 = "Pixel 1, one large core", "Pixel 4, four threads"


@dataclass(frozen=True)
class Known:
    """A network whose latency on a phone is published, in float32 with TensorFlow Lite.

    Attributes:
        network: As timm calls it.
        family: Networks of one family differ in width only.
        pixels: Height and width of the image.
        source: Where the latency is published.
    """

    network: str
    family: str
    pixels: int
    phone: str
    ms: float
    source: str


def _v2(width: str, *latencies: tuple[int, float]) -> list[Known]:
    return [Known(f"mobilenetv2_{width}", "MobileNetV2", size, PIXEL_1, ms, SLIM) for size, ms in latencies]


KNOWN = (
    *_v2("140", (224, 138.0)),
    *_v2("100", (224, 73.8), (160, 40.2), (96, 17.6)),
    *_v2("075", (224, 55.8), (128, 21.9)),
    *_v2("050", (224, 28.7), (160, 14.9), (96, 6.4)),
    *_v2("035", (224, 19.7), (128, 6.9)),
    Known("mobilenetv3_large_100", "MobileNetV3", 224, PIXEL_1, 51.2, SLIM),
    Known("mobilenetv3_small_100", "MobileNetV3", 224, PIXEL_1, 15.8, SLIM),
    Known("tf_mobilenetv3_large_minimal_100", "MobileNetV3, minimalistic", 224, PIXEL_1, 44.1, SLIM),
    Known("tf_mobilenetv3_small_minimal_100", "MobileNetV3, minimalistic", 224, PIXEL_1, 12.2, SLIM),
    Known("efficientnet_lite0", "EfficientNet-Lite", 224, PIXEL_4, 12.0, LITE),
    Known("efficientnet_lite1", "EfficientNet-Lite", 240, PIXEL_4, 18.0, LITE),
    Known("efficientnet_lite2", "EfficientNet-Lite", 260, PIXEL_4, 26.0, LITE),
)


def build(known: Known, path: Path) -> Path:
    """Write a network with random weights as an ONNX file."""
    model = timm.create_model(known.network, pretrained=False).eval()
    export_onnx(
        model, path, input_size=(known.pixels, known.pixels), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5),
        labels=[str(i) for i in range(1000)], metadata={},
    )  # fmt: skip
    return path


def main(argv: Sequence[str]) -> None:
    """Count and append a record."""
    script = Script("instructions", __doc__)
    script.add("results", nargs="+", type=Path, metavar="RESULT_DIR")
    script.add("--arm", type=Path, metavar="ROOT", required=True)
    args = script.parse(argv)
    delivered: list[tuple[str, str, Path]] = []
    for directory in args.results:
        result = read_result(directory)
        delivered += [(name_of(result), precision, path) for precision, path in result.models.items()]
    with TemporaryDirectory() as name:
        scratch = Path(name)
        files = [build(known, scratch / f"{i}.onnx") for i, known in enumerate(KNOWN)]
        counts = count_instructions([*files, *(path for *_, path in delivered)], args.arm, scratch, TIMEOUT_S)
    result = {
        "known": [asdict(k) | {"instructions": n} for k, n in zip(KNOWN, counts, strict=False)],
        "delivered": [
            {"network": network, "precision": precision, "instructions": n}
            for (network, precision, _), n in zip(delivered, counts[len(KNOWN) :], strict=True)
        ],
    }
    script.record({"processor": CPU}, result)
