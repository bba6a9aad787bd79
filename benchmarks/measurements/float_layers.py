"""Does INT8 gain if its worst layers stay in float32?

    python -m benchmarks float-layers --body lite0-96-pruned --pictures DIR --calibrate DIR [--calibrate DIR]
    python -m benchmarks float-layers --zoo DIR --data DIR

The first line is about a body of the bundled zoo, calibrated anew and tested on labelled pictures `DIR/WNID/*` that
neither training nor calibration has seen; the second about specialists of a zoo, on training images that did not
calibrate. The worst layers are those with the largest mean square error, relative to the variance, where all are in
integers, on pictures that calibrate. What such a layer reads stays rounded, and what it gives where integers follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
from onnx import numpy_helper

from benchmarks.command import Script
from benchmarks.measurements.bodies import curve, pictures, seen
from benchmarks.measurements.edge_latency import export, ratio
from benchmarks.measurements.forms import (
    Ranges,
    calibration_files,
    images,
    opened,
    outputs,
    ranges_of,
    results,
    shifts_of,
)
from mvp_edge.data import ImageSet
from mvp_edge.export import precision
from mvp_edge.export.static_int8 import ROUNDED, quantise
from mvp_edge.prune.accuracy import predict_file
from mvp_edge.timing.latency import Contender, time_in_turns
from mvp_edge.training.loop import accuracy

LEFT = (0, 1, 3, 5)  # layers in float32
CALIBRATING = 120
ERRORS_ON = 32  # images
ROUNDS = 16
Shifts = Mapping[str, np.ndarray]


def main(argv: Sequence[str]) -> None:
    """Measure and append a record for each network."""
    script = Script("float-layers", __doc__, "zoo")
    script.add("--data", help="images of a zoo's specialists")
    script.add("--members", type=int, default=1, help="specialists")
    script.add("--body", help="a body of the bundled zoo")
    script.add("--pictures", action="append", type=Path, default=[])
    script.add("--calibrate", action="append", type=Path, default=[])
    args = script.parse(argv)
    with TemporaryDirectory() as name:
        scratch = Path(name)
        if args.body:
            chosen = calibration_files(args.calibrate, CALIBRATING)
            script.record({"network": args.body}, of_body(args.body, args.pictures, chosen, scratch))
        infos = (
            sorted((i for i in script.zoo.infos() if i.kind == "specialist"), key=lambda i: i.id) if args.data else []
        )
        for info in infos[: args.members]:
            model = script.zoo.load(info).network(script.prunable)
            train = script.source.load(info.task.names, "train", script.zoo.base.input_size)
            file = export(script.zoo.base, model, scratch / "model.onnx")
            script.record({"network": script.zoo.base.name, "member": info.id}, of_file(file, train, scratch))


def of_body(name: str, directories: Sequence[Path], chosen: Sequence[Path], scratch: Path) -> dict[str, Any]:
    """Return how a body's INT8 form does with so many layers in float32."""
    zoo = opened(Path("imagenet-lite0"))
    body = zoo.body(name)
    assert body is not None, name
    weights = zoo.weights(body)
    model, given = zoo.graph(body, weights), images(chosen, body.pixels)
    files, labels = pictures(directories, 20)
    last = model.graph.node[-1].input
    ranges, worst = ranges_of(model, given), list[str]()

    def logits(network: onnx.ModelProto) -> np.ndarray:
        return seen(network, files, body.pixels) @ weights[last[1]].T + weights[last[2]]

    exact, found, made = logits(model), {}, {}
    for count in LEFT:

        def rounded(
            model: onnx.ModelProto, ranges: Ranges, shifts: Shifts, layers: Sequence[str] = worst[:count]
        ) -> onnx.ModelProto:
            return in_float(model, quantise(model, ranges, shifts), shifts, layers)

        shifts, errors = shifts_of(model, ranges, given, rounded)
        worst = worst or sorted(errors, key=lambda k: -errors[k])[: max(LEFT)]
        form, made[count] = rounded(model, ranges, shifts), scratch / f"{count}.onnx"
        onnx.save(form, made[count])
        found[count] = compared(now := logits(form), exact) | {"curve": curve(now, labels)}
    return {
        "images": len(files),
        "worst": worst,
        "float32": {"curve": curve(exact, labels)},
        "left": timed(made, found),
    }


def in_float(
    model: onnx.ModelProto, rounded: onnx.ModelProto, shifts: Shifts, layers: Sequence[str]
) -> onnx.ModelProto:  # fmt: skip
    """Return an INT8 network of `quantise` with some convolutions in float32.

    Args:
        model: The network in float32.
        rounded: The same in INT8.
        shifts: What was added to biases.
        layers: What the convolutions give, behind the Clip that follows them.
    """
    made, ends = onnx.ModelProto(), results(model)
    made.CopyFrom(rounded)
    stored = {t.name: t for t in model.graph.initializer}
    whole = {n.output[0]: n for n in model.graph.node if n.op_type == "Conv" and ends[n.input[2]] in layers}
    clips = {n.output[0]: n for n in model.graph.node if n.op_type == "Clip"}
    nodes = []
    for node in rounded.graph.node:
        nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
        if node.output[0] in whole:
            weight, bias = whole[node.output[0]].input[1:]
            moved = numpy_helper.to_array(stored[bias]) + shifts.get(bias, np.float32(0))
            made.graph.initializer.extend([stored[weight], numpy_helper.from_array(moved, bias)])
            nodes[-1].input[1:] = [weight, bias]
            nodes += [clips[end]] if (end := ends[bias]) in clips else []
        elif node.op_type not in ROUNDED:
            nodes[-1].input[:] = [v.removesuffix(".dq") if v.removesuffix(".dq") in layers else v for v in node.input]
    used = {name for node in nodes for name in node.input}
    names = {t.name for t in made.graph.initializer}
    made.graph.initializer.extend(t for n, t in stored.items() if n in used - names)
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


def of_file(file: Path, train: ImageSet, scratch: Path) -> dict[str, Any]:
    """Return how the INT8 file of a classifier does with so many layers in float32."""
    every = max(1, len(train) // precision.CALIBRATION_IMAGES)
    calibrating = train.images.numpy()[::every]
    others = train.subset([i for i in range(len(train)) if i % every])
    exact, made, found, worst = predict_file(file, others), {}, {}, list[str]()
    kept, prepared = precision.kept_float, onnx.load(file)
    for count in LEFT:

        def left(graph: onnx.GraphProto, layers: Sequence[str] = worst[:count]) -> list[str]:
            prepared.graph.CopyFrom(graph)
            return [*kept(graph), *layers]

        made[count] = scratch / f"{count}.onnx"
        with patch.object(precision, "kept_float", left):
            precision.quantise_int8(file, made[count], calibrating)
        worst = worst or worst_of(prepared, onnx.load(made[count]), calibrating[:ERRORS_ON])
        now = predict_file(made[count], others)
        found[count] = compared(now.numpy(), exact.numpy()) | {"top1": round(accuracy(now, others).top1, 2)}
    top1 = round(accuracy(exact, others).top1, 2)
    return {"images": len(others), "worst": worst, "float32": {"top1": top1}, "left": timed(made, found)}


def worst_of(model: onnx.ModelProto, rounded: onnx.ModelProto, given: np.ndarray) -> list[str]:
    """Return the layers with weights that rounding moves most, by the names of their nodes."""
    stored = {t.name for t in model.graph.initializer}
    after = {name for n in rounded.graph.node for name in n.output}
    layers = [n for n in model.graph.node if n.op_type in precision.WEIGHTED and stored & set(n.input)]
    named = {n.output[0]: n.name for n in layers if n.output[0] in after}
    feed = given.astype(np.float32) / np.float32(255)
    pairs = zip(named.values(), outputs(model, list(named), feed), outputs(rounded, list(named), feed), strict=True)
    errors = {name: float(np.square(x[0] - y[0]).mean() / x[0].var()) for name, x, y in pairs}
    return sorted(errors, key=lambda k: -errors[k])[: max(LEFT)]


def compared(found: np.ndarray, exact: np.ndarray) -> dict[str, float]:
    """Return how near logits are to those in float32."""
    return {
        "mean_abs_diff": round(float(np.abs(found - exact).mean()), 4),
        "same_top1": round(100 * float((found.argmax(1) == exact.argmax(1)).mean()), 2),
    }


def timed(files: Mapping[int, Path], found: Mapping[int, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return what was found with the bytes of each file, and its time relative to that without layers in float32."""
    timings = time_in_turns([Contender(f) for f in files.values()], ROUNDS, budget_s=float("inf"))
    return {
        str(count): own | {"bytes": files[count].stat().st_size, "time": ratio(timing, timings[0])}
        for (count, own), timing in zip(found.items(), timings, strict=True)
    }
