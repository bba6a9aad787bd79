"""ncnn files (`.param`, `.bin`), converted from a delivered ONNX file by ncnn's own converter, pnnx."""

from __future__ import annotations

import re
import subprocess
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mvp_edge.core.errors import ExportError
from mvp_edge.export.classifier import Interface

NEEDED = "ncnn files need the packages pnnx and ncnn; install them with: pip install 'mvp-edge[ncnn]'"
TIMEOUT_S = 300
# pnnx leaves this operator as it is, which ncnn calls Reduction: 4 is the maximum, over the only axis, which is kept.
GREATEST = re.compile(r"^ReduceMax( +\S+ +1 1 \S+ \S+).*$", re.MULTILINE)
REDUCTION = r"Reduction\1 0=4 1=0 -23303=1,0 4=1 5=1"
NO_AXES, FIRST_AXIS = " -23303=0 ", " -23303=1,0 "  # pnnx leaves out the axis of a mean over tokens


def convert(source: Path, target: Path, interface: Interface) -> None:
    """Write an ONNX file whose batch is one image as `target` (`.param`) and the `.bin` file beside it.

    Weights are in half precision; inputs and outputs have the names of the ONNX file.

    Raises:
        ExportError: pnnx is not installed or fails, or the file takes bytes.
    """
    if find_spec("pnnx") is None or find_spec("ncnn") is None:
        raise ExportError(NEEDED)
    if interface.dtype != "float32":
        raise ExportError("ncnn takes float32 images; make the result again without --input uint8-nhwc")
    import pnnx  # pyright: ignore[reportMissingImports]

    with TemporaryDirectory() as scratch:
        copy = Path(scratch) / "model.onnx"
        copy.write_bytes(source.read_bytes())
        height, width = interface.size
        command = [pnnx.EXEC_PATH, str(copy), f"inputshape=[1,3,{height},{width}]"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, cwd=scratch, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as e:
            raise ExportError(f"pnnx cannot be run ({e}); install it again, or use --target ort") from e
        made = [Path(scratch) / f"model.ncnn.{end}" for end in ("param", "bin")]
        if done.returncode or not all(f.is_file() for f in made):
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise ExportError(f"pnnx cannot convert {source.name} ({''.join(last) or 'no message'}); use --target ort")
        text = GREATEST.sub(REDUCTION, made[0].read_text(encoding="utf-8")).replace(NO_AXES, FIRST_AXIS)
        names = {"in0": interface.input_name, "out0": interface.output_name, "out1": "known"}
        text = re.sub(r"(?<= )(in0|out0|out1)(?= |$)", lambda m: names[m[1]], text, flags=re.MULTILINE)
        target.write_text(text, encoding="utf-8")
        target.with_suffix(".bin").write_bytes(made[1].read_bytes())


def outputs(path: Path, images: np.ndarray, interface: Interface) -> list[np.ndarray]:
    """Return logits `(N, classes)`, and `known` `(N,)` if the file has it, of uint8 RGB images `(N, 3, H, W)`.

    Raises:
        ExportError: ncnn is not installed, or does not know an operator of the file.
    """
    if find_spec("ncnn") is None:
        raise ExportError(NEEDED)
    ncnn: Any = import_module("ncnn")

    kinds = {line.split()[0] for line in path.read_text(encoding="utf-8").splitlines()[2:]}
    unknown = sorted(kind for kind in kinds if ncnn.layer_to_index(kind) < 0)
    if unknown:
        raise ExportError(f"ncnn has no operator {', '.join(unknown)}, which {path.name} needs; use --target ort")
    net = ncnn.Net()
    net.opt.use_vulkan_compute = net.opt.use_fp16_arithmetic = False
    if net.load_param(str(path)) or net.load_model(str(path.with_suffix(".bin"))):
        raise ExportError(f"ncnn cannot load {path.name}; use --target ort")
    names = [interface.output_name] + (["known"] if interface.known_threshold is not None else [])
    found = []
    for image in images.astype(np.float32) / np.float32(255):
        extractor = net.create_extractor()
        extractor.input(interface.input_name, ncnn.Mat(np.ascontiguousarray(image)).clone())
        found.append([np.array(extractor.extract(name)[1]).ravel() for name in names])
    if (count := found[0][0].size) != len(interface.labels):
        raise ExportError(f"{path.name} gives {count} logits in ncnn, not {len(interface.labels)}; use --target ort")
    made = [np.stack([f[k] for f in found]) for k in range(len(names))]
    return [m if k == 0 else m[:, 0] for k, m in enumerate(made)]
