"""Other forms of the bodies of a zoo: INT8, and weights in a codebook; measured as they are delivered.

    python -m benchmarks forms ZOO --pictures DIR --calibrate DIR [--calibrate DIR] [--small ID=FILE]

INT8 forms are made where there are none. Pictures below `--calibrate`, as many of each directory, give the ranges of
activations and the corrections of biases; labelled pictures `DIR/WNID/*`, which neither training nor calibration has
seen, tell how often a form is right. `--small` adds a form with weights of its own (`python -m benchmarks codebook`).
Both tell of each layer how far it is off, on the pictures that calibrate. `python -m benchmarks known` adds what tells
that a picture shows nothing listed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import numpy_helper
from safetensors import safe_open
from safetensors.torch import save

from benchmarks.command import Script, log
from benchmarks.measurements import teach
from benchmarks.measurements.bodies import curve, pictures, seen, temperature, write
from mvp_edge.core.errors import ConfigError
from mvp_edge.core.packed import Packed, Stored, in_full
from mvp_edge.core.streams import rng
from mvp_edge.export.static_int8 import quantise
from mvp_edge.models.tensors import compress
from mvp_edge.zoo.bodies import STEP, Body, BodyZoo, open_bodies

BATCH = 32
LEFT_OUT = 20
WORST = 5  # layers that are told
Ranges = dict[str, list[float]]
Rounding = Callable[[onnx.ModelProto, Ranges, dict[str, np.ndarray]], onnx.ModelProto]


def main(argv: Sequence[str]) -> None:
    """Make the forms of a zoo anew."""
    script = Script("photographs", __doc__, command="forms")
    script.add("zoo", type=Path)
    script.add("--pictures", action="append", type=Path, required=True)
    script.add("--calibrate", action="append", type=Path, required=True)
    script.add("--calibrating", type=int, default=240, help="pictures that calibrate, in all")
    script.add("--each", type=int, default=20, help="labelled pictures of a class; as for `bodies`")
    script.add("--small", action="append", default=[], metavar="ID=FILE")
    args = script.parse(argv)
    path, zoo = args.zoo, opened(args.zoo)
    files, labels = pictures(args.pictures, args.each)
    chosen = calibration_files(args.calibrate, args.calibrating)
    bodies, forms = list(zoo.bodies), list(zoo.forms)
    for body in bodies:
        if zoo.int8(body) is None:
            form = int8_form(opened(path), body, chosen)
            describe(path, [*bodies, *forms, form])
            forms.append(measured(opened(path), form, files, labels))
            describe(path, [*bodies, *forms])
    for text in args.small:
        name, _, file = text.partition("=")
        form = small_form(path, next(b for b in bodies if b.id == name), Path(file))
        describe(path, [*bodies, *forms, form])
        forms.append(measured(opened(path), form, files, labels))
        describe(path, [*bodies, *forms])


def small_form(path: Path, body: Body, source: Path) -> Body:
    """Write weights of `codebook` into a zoo and return a form with them, without what is measured."""
    with safe_open(source, "pt") as tensors:
        about = tensors.metadata()
        recipe = json.loads(about.pop("recipe"))
        data = compress(save({name: tensors.get_tensor(name) for name in tensors.keys()}, about))  # noqa: SIM118
    name = f"{body.id}-small"
    write(path / f"weights/{name}.safetensors.gz", data)
    sums = {**body.sha256, f"weights/{name}.safetensors.gz": hashlib.sha256(data).hexdigest()}
    return replace(body, id=name, like=body.id, weights=name, recipe=recipe, sha256=sums, thresholds=())


def opened(path: Path) -> BodyZoo:
    """Return the zoo at a path."""
    zoo = open_bodies(str(path))
    if zoo is None:
        raise ConfigError(f"{path} has no bodies; make some with: python -m benchmarks bodies")
    return zoo


def describe(path: Path, bodies: Sequence[Body]) -> None:
    """Write bodies and forms into a zoo's description."""
    value = json.loads((path / "zoo.json").read_text(encoding="utf-8"))
    value["bodies"] = [b.to_json() for b in bodies]
    (path / "zoo.json").write_text(json.dumps(value, indent=1), encoding="utf-8")


def calibration_files(directories: Sequence[Path], count: int) -> list[Path]:
    """Return as many pictures of each directory, in all `count`, at random."""
    chosen = []
    for directory in directories:
        found = training_files(directory)
        order = rng(0, f"calibration {directory.name}").permutation(len(found))[: count // len(directories)]
        chosen += [found[i] for i in order]
    return chosen


def training_files(directory: Path) -> list[Path]:
    """Return the pictures of a directory without those that are left out for choices, as in `teach`."""
    return [p for i, p in enumerate(teach.pictures(directory)) if i % LEFT_OUT]


def images(files: Sequence[Path], pixels: int) -> np.ndarray:
    """Return pictures `(N, 3, P, P)` in [0, 1] without those that cannot be read."""
    read = [teach.read(p, 2 * pixels) for p in files]
    squares = [teach.squares(i, teach.centre(*i.size), (pixels,))[0] for i in read if i is not None]
    return np.stack(squares).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)


def stored_bytes(zoo: BodyZoo, body: Body) -> int:
    """Return the bytes of a body's weights in a delivered file, without those of its last layer."""
    stored = zoo.stored(body)
    graph = zoo.graph(body, in_full(stored)).graph
    last = graph.node[-1].input
    used = {t.name for t in graph.initializer} & stored.keys() - set(last)
    return sum(_bytes(stored[name]) for name in used)


def _bytes(form: Stored) -> int:
    if isinstance(form, Packed):
        return form.levels.nbytes + form.scale.nbytes + (0 if form.book is None else form.book.nbytes)
    return form.nbytes


def outputs(model: onnx.ModelProto, names: Sequence[str], given: np.ndarray) -> list[list[np.ndarray]]:
    """Return tensors of a network that are not its outputs, in batches."""
    inner = onnx.ModelProto()
    inner.CopyFrom(model)
    del inner.graph.output[:]
    inner.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(inner.SerializeToString(), options)
    parts = [session.run(list(names), {"image": given[i : i + BATCH]}) for i in range(0, len(given), BATCH)]
    return [[np.asarray(part[k]) for part in parts] for k in range(len(names))]


def results(model: onnx.ModelProto) -> dict[str, str]:
    """Return the name of what each convolution gives, behind the Clip that follows it, by the name of its bias."""
    clips = {n.input[0]: n.output[0] for n in model.graph.node if n.op_type == "Clip"}
    return {n.input[2]: clips.get(n.output[0], n.output[0]) for n in model.graph.node if n.op_type == "Conv"}


def int8_form(zoo: BodyZoo, body: Body, files: Sequence[Path]) -> Body:
    """Write ranges and shifts of a body's INT8 form, and return it without what is measured."""
    model, given = zoo.graph(body, zoo.weights(body)), images(files, body.pixels)
    ranges = ranges_of(model, given)
    shifts, errors = shifts_of(model, ranges, given)
    form = replace(
        body, id=f"{body.id}-int8", like=body.id, arithmetic="int8",
        recipe={
            "method": "static INT8, ranges from the least to the greatest value, biases corrected",
            "pictures": len(given),
            "files_sha256": hashlib.sha256("".join(p.name for p in files).encode()).hexdigest(),
            "worst_layers": {k: errors[k] for k in sorted(errors, key=lambda k: -errors[k])[:WORST]},
        },
    )  # fmt: skip
    names = sorted(ranges)
    tensors = {"ranges": torch.tensor([ranges[n] for n in names])}
    tensors |= {name: torch.from_numpy(v).half() for name, v in shifts.items()}
    file = f"ranges/{form.id}.safetensors.gz"
    write(zoo.path / file, compress(save(tensors, {"tensors": json.dumps(names)})))
    log.info("%s: worst layers %s", form.id, form.recipe["worst_layers"])
    return replace(form, sha256={**body.sha256, file: checksum(zoo.path / file)})


def checksum(file: Path) -> str:
    """Return a file's checksum."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def ranges_of(model: onnx.ModelProto, given: np.ndarray) -> Ranges:
    """Return the least and the greatest value of every tensor that is rounded."""
    clips = {n.input[0]: n.output[0] for n in model.graph.node if n.op_type == "Clip"}
    chosen = [n for n in model.graph.node if n.op_type in ("Conv", "Add")]
    names = {n.input[0] for n in chosen} | {clips.get(n.output[0], n.output[0]) for n in chosen}
    found: Ranges = {name: [0.0, 0.0] for name in sorted(names)}
    for start in range(0, len(given), BATCH):
        values = outputs(model, list(found), given[start : start + BATCH])
        for name, (value,) in zip(found, values, strict=True):
            low, high = found[name]
            found[name] = [min(low, float(value.min())), max(high, float(value.max()))]
    colours = next(n for n in model.graph.node if n.op_type == "Sub")
    (mean,) = (numpy_helper.to_array(t) for t in model.graph.initializer if t.name == colours.input[1])
    found[colours.output[0]] = [float(-mean.max()), float(1 - mean.min())]  # so that bytes are rounded to themselves
    return found


def shifts_of(
    model: onnx.ModelProto, ranges: Ranges, given: np.ndarray, rounded: Rounding = quantise
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Return what moves the mean of each channel back, layer by layer, and how far each layer is off afterwards.

    That is the mean square of the difference, relative to the variance.
    """
    made, shifts = results(model), {}
    whole = dict(zip(made.values(), means(model, list(made.values()), given), strict=True))
    for bias, name in made.items():
        (now,) = means(rounded(model, ranges, shifts), [f"{name}.dq"], given)
        shifts[bias] = (whole[name] - now).astype(np.float16).astype(np.float32)
    names, few = list(made.values()), given[:BATCH]
    before = outputs(model, names, few)
    after = outputs(rounded(model, ranges, shifts), [f"{name}.dq" for name in names], few)
    pairs = zip(names, before, after, strict=True)
    return shifts, {n: round(float(np.square(x[0] - y[0]).mean() / x[0].var()), 5) for n, x, y in pairs}


def means(model: onnx.ModelProto, names: Sequence[str], given: np.ndarray) -> list[np.ndarray]:
    """Return the mean of each channel of tensors `(N, C, H, W)` of a network."""
    inner = onnx.ModelProto()
    inner.CopyFrom(model)
    for name in names:
        inner.graph.node.append(onnx.helper.make_node("GlobalAveragePool", [name], [f"{name}.mean"]))
    return [np.concatenate(v).mean((0, 2, 3)) for v in outputs(inner, [f"{name}.mean" for name in names], given)]


def classified(zoo: BodyZoo, form: Body, files: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Return the features `(N, D)` and logits `(N, C)` of pictures, of a form as it is delivered."""
    weights = zoo.weights(form)
    model = zoo.graph(form, weights)
    if form.arithmetic == "int8":
        model = quantise(model, *zoo.rounding(form))
    features, last = seen(model, files, form.pixels), model.graph.node[-1].input
    return features, features @ weights[last[1]].T + weights[last[2]]


def measured(zoo: BodyZoo, form: Body, files: Sequence[Path], labels: np.ndarray) -> Body:
    """Write what a form sees, as it is delivered, and return it with its accuracy.

    An INT8 form keeps the temperature of its body.
    """
    whole = zoo.body(form.like)
    assert whole is not None
    before = zoo.features(whole)
    features, logits = classified(zoo, form, files)
    now = {"coordinates": features @ before.basis.T, "exact": logits[:, before.exact_classes]}
    stored = {}
    for name, values in now.items():
        steps = np.rint((values - getattr(before, name)) / STEP)
        if np.abs(steps).max() > 127:
            log.warning("%s: %d values are too far off", form.id, int((np.abs(steps) > 127).sum()))
        stored[name] = torch.from_numpy(steps.clip(-127, 127).astype(np.int8))
    file = f"features/{form.id}.safetensors.gz"
    write(zoo.path / file, compress(save(stored)))
    made = replace(form, curve=curve(logits, labels), sha256={**form.sha256, file: checksum(zoo.path / file)})
    own = temperature(logits, labels)
    log.info("%s: %s, float %s, temperature %g", form.id, made.curve, whole.curve, own)
    return made if form.arithmetic == "int8" else replace(made, temperature=own)
