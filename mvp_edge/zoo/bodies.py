"""The ready-made networks of a zoo as ONNX graphs: what a class list without images needs, without torch.

    zoo.json                       its key `bodies` describes them
    base.safetensors.gz            weights of the base, norms folded
    weights/NAME.safetensors.gz    weights that were trained for fewer pixels, or of fewer units, with the plan of these
    bodies/ID.onnx.gz              the graph of one body, its tensors named after the weights, which lie beside it
    features/ID.safetensors.gz     what it sees in labelled pictures, and what tells that a picture shows nothing listed
    ranges/ID.safetensors.gz       of an INT8 body: ranges of activations, and corrected biases

One set of weights may serve several bodies, each at its own pixels. A *form* of a body has the graph of that body and
other arithmetic (INT8) or other weights; what it sees is stored as differences from what the body sees.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import numpy_helper

from mvp_edge.core.errors import PlanError, ZooError
from mvp_edge.core.packed import Stored, in_full, read_stored
from mvp_edge.core.untrusted import MAX_SIDE, is_file_name, is_file_path, read_json, typed, unzipped
from mvp_edge.models.plan import KeepPlan
from mvp_edge.names import wordnet
from mvp_edge.names.known import FewRows
from mvp_edge.names.tasks import Task
from mvp_edge.zoo.location import damaged, read_file, read_zoo_file, repair

BASE = "base"  # the name of the base's own weights
MANY = 1_000_000  # names, and more than there are
KNOWN, FEW = "known.", ("basis", "rows", "bias", "mean")  # how the parts of `FewRows` are named in a file
STEP = 0.1  # of a logit: how finely differences of a form are stored


@dataclass(frozen=True)
class Body:
    """A network of a zoo at some pixels.

    Attributes:
        id: Its name, such as `lite0-64`.
        pixels: Side of its square images.
        weights: Name of its weights, `base` for those of the base itself. A form's are those of its body where it has
            none of its own.
        macs: Multiply-adds of one image up to the features, as fvcore counts them.
        params: Parameters up to the features.
        keep: Fraction of the base's units.
        temperature: What logits are divided by before the softmax, so that it tells how often it is right.
        curve: By number of names, ascending: percent right on lists of so many, on pictures that it was not trained on.
        thresholds: By number of listed classes of the base, ascending: the `known` score that 95 % of pictures of
            listed classes reach.
        sha256: Checksums of its files, by their path in the zoo.
        recipe: How its weights were made.
        like: Of a form, the id of its body.
        arithmetic: Of its convolutions and sums.
    """

    id: str
    pixels: int
    weights: str
    macs: int
    params: int
    keep: float = 1.0
    temperature: float = 1.0
    curve: tuple[tuple[int, float], ...] = ()
    thresholds: tuple[tuple[int, float], ...] = ()
    sha256: Mapping[str, str] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    like: str = ""
    arithmetic: Literal["fp32", "int8"] = "fp32"

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready value; `from_json` is its inverse."""
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Body:
        """Read what `to_json` wrote; KeyError, TypeError or ValueError if it is not that."""
        found = typed(asdict(Body(**value)), Body)
        points = (*found.curve, *found.thresholds)
        if not is_file_name(found.id) or not is_file_name(found.weights) or not all(map(is_file_path, found.sha256)):
            raise ValueError(f"{found.id!r} names files outside the zoo")
        if not 1 <= found.pixels <= MAX_SIDE or not all(1 <= n <= MANY and math.isfinite(v) for n, v in points):
            raise ValueError(f"{found.id} has {found.pixels} pixels, or figures for no class")
        if not all(0 <= n <= MANY**2 for n in (found.macs, found.params)) or not 0 < found.temperature < math.inf:
            raise ValueError(f"{found.id} has {found.macs} multiply-adds or a temperature of {found.temperature}")
        return found

    def expected_top1(self, names: int) -> float | None:
        """Return the percent right on lists of so many names, between those that were measured; None if none was.

        For more names than were measured it is that of the most.
        """
        return _between(self.curve, names)

    @property
    def most_names(self) -> int:
        """How many names the longest lists have that were measured; 0 if none was."""
        return self.curve[-1][0] if self.curve else 0

    def threshold(self, listed: int) -> float | None:
        """Return the `known` score that 95 % of pictures of so many listed classes of the base reach.

        None if none was measured, or none of so many: with more listed classes ever more other pictures reach it.
        """
        if not self.thresholds or listed > self.thresholds[-1][0]:
            return None
        return _between(self.thresholds, listed)


@dataclass(frozen=True, eq=False)
class Features:
    """What a body sees in labelled pictures, in a few dimensions.

    Attributes:
        basis: `(K, D)`: turns features into coordinates.
        rows: `(C, K)`: turns coordinates into logits of all classes, nearly.
        bias: `(C,)`.
        coordinates: `(N, K)` of the pictures.
        labels: `(N,)`: their classes.
        exact: `(N, L)`: logits of the classes that are labels, for which a few dimensions are not near enough.
        exact_classes: `(L,)`: which classes these are.
        few: What tells how near a picture is to unlisted classes; None if `known` cannot be told.
        stored: The parts of `few` as they are stored.
    """

    basis: np.ndarray
    rows: np.ndarray
    bias: np.ndarray
    coordinates: np.ndarray
    labels: np.ndarray
    exact: np.ndarray
    exact_classes: np.ndarray
    few: FewRows | None = None
    stored: Mapping[str, Stored] = field(default_factory=dict)

    def logits(self, index: np.ndarray) -> np.ndarray:
        """Return logits `(len(index), C)` of some of the pictures."""
        found = self.coordinates[index] @ self.rows.T + self.bias
        found[:, self.exact_classes] = self.exact[index]
        return found


@dataclass(frozen=True)
class BodyZoo:
    """The part of a zoo that its `bodies` are: classes of the base and networks that know all of them.

    Attributes:
        path: Its directory.
        name: For people.
        base: Name of the base.
        arch: Architecture of the base.
        pixels: Side of the base's own images.
        licence: Of the weights.
        classes: What the base knows, resolved, in the order of its outputs.
        bodies: The networks, the most multiply-adds first.
        forms: Other forms of these, in the same order.
        near: Pairs of classes that the base confuses (`names.known.near_duplicates`).
        pictures: What the labelled pictures are, in words.
        about: The base as `models.bases.Base.to_json` tells it.
    """

    path: Path
    name: str
    base: str
    arch: str
    pixels: int
    licence: str
    classes: Task
    bodies: tuple[Body, ...]
    near: tuple[tuple[int, int], ...]
    pictures: str
    about: Mapping[str, Any] = field(repr=False)
    forms: tuple[Body, ...] = ()
    _seen: dict[str, Features] = field(default_factory=dict, init=False, repr=False, compare=False)

    def weights(self, body: Body) -> dict[str, np.ndarray]:
        """Return the tensors of a body by their names in torch, float32.

        Raises:
            ZooError: they are missing or damaged.
        """
        return in_full(self.stored(body))

    def stored(self, body: Body) -> dict[str, Stored]:
        """Return the tensors of a body as they are stored.

        Raises:
            ZooError: they are missing or damaged.
        """
        name = "base.safetensors.gz" if body.weights == BASE else f"weights/{body.weights}.safetensors.gz"
        own = self._tensors(body, name)[0]
        whole = self._whole(body)
        return own if whole is body or whole.weights == body.weights else self.stored(whole) | own

    def kept(self, body: Body) -> KeepPlan | None:
        """Return which of the base's units a body keeps; None if it keeps them all.

        Raises:
            ZooError: this is missing or damaged.
        """
        if body.keep == 1:
            return None
        whole = self._whole(body)
        about = self._tensors(whole, f"weights/{whole.weights}.safetensors.gz")[1]
        try:
            return KeepPlan.from_json(read_json(about["plan"].encode()))
        except (KeyError, TypeError, ValueError, PlanError) as e:
            raise ZooError(f"{body.id} has no record of the units it keeps ({e}); {repair(self.path)}") from e

    def int8(self, body: Body) -> Body | None:
        """Return the INT8 form of a body, if there is one."""
        return next((f for f in self.forms if f.like == body.id and f.arithmetic == "int8"), None)

    def features(self, body: Body) -> Features:
        """Return what a body sees in labelled pictures; it is read once.

        Raises:
            ZooError: they are missing or damaged.
        """
        if body.id not in self._seen:
            self._seen[body.id] = self._features(body)
        return self._seen[body.id]

    def _features(self, body: Body) -> Features:
        tensors = self._tensors(body, f"features/{body.id}.safetensors.gz")[0]
        try:
            stored = {name: tensors[KNOWN + name] for name in FEW if KNOWN + name in tensors}
            few: dict[str, Any] = {"few": FewRows(**in_full(stored)), "stored": stored} if stored else {}
            if body.like:
                whole = self.features(self._whole(body))
                change = {k: STEP * np.asarray(tensors[k], np.float32) for k in ("coordinates", "exact")}
                found = replace(whole, **{k: getattr(whole, k) + v for k, v in change.items()}, **few)
                _check_shapes(found, len(self.classes.classes))
                return found
            parts = {name: tensors[name] for name in ("basis", "rows", "bias", "coordinates", "exact")}
            named = {name: np.asarray(tensors[name], np.int64) for name in ("labels", "exact_classes")}
            found = Features(**in_full(parts), **named, **few)
            _check_shapes(found, len(self.classes.classes))
            return found
        except (KeyError, TypeError, ValueError) as e:
            raise ZooError(f"the features of {body.id} are damaged ({e}); {repair(self.path)}") from e

    def graph(self, body: Body, weights: Mapping[str, np.ndarray]) -> onnx.ModelProto:
        """Return a body as an ONNX model with its weights, its output the logits `(N, C)` of all classes.

        That of an INT8 form is in float32 still (see `rounding`).

        Raises:
            ZooError: its graph is missing or damaged, or is that of other weights.
        """
        try:
            model = onnx.load_from_string(unzipped(self._read(body, f"bodies/{body.like or body.id}.onnx.gz")))
        except Exception as e:  # protobuf's errors share no other base class
            if isinstance(e, ZooError):
                raise
            raise ZooError(f"the graph of {body.like or body.id} is damaged ({e}); {repair(self.path)}") from e
        if any(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer):
            raise ZooError(f"the graph of {body.id} reads tensors from other files, which no graph of a zoo may")
        stored = {t.name for t in model.graph.initializer}
        needed = {name for node in model.graph.node for name in node.input} - stored
        needed -= {name for node in model.graph.node for name in node.output} | {i.name for i in model.graph.input}
        if missing := needed - weights.keys():
            raise ZooError(f"the weights of {body.like or body.id} lack {min(missing)}; {repair(self.path)}")
        model.graph.initializer.extend(numpy_helper.from_array(weights[name], name) for name in sorted(needed))
        return model

    def rounding(self, body: Body) -> tuple[dict[str, list[float]], dict[str, np.ndarray]]:
        """Return what `export.static_int8.quantise` needs for an INT8 form: ranges of activations, shifts of biases.

        Raises:
            ZooError: they are missing or damaged.
        """
        tensors, about = self._tensors(body, f"ranges/{body.id}.safetensors.gz")
        try:
            ranges = np.asarray(tensors.pop("ranges"), np.float32)
            named = dict(zip(read_json(about["tensors"].encode()), ranges.tolist(), strict=True))
            return named, {name: np.asarray(v, np.float32) for name, v in tensors.items()}
        except (AttributeError, KeyError, TypeError, ValueError) as e:
            raise ZooError(f"the ranges of {body.id} are damaged ({e}); {repair(self.path)}") from e

    def body(self, name: str) -> Body | None:
        """Return the body or form of this id, if there is one."""
        return next((b for b in (*self.bodies, *self.forms) if b.id == name), None)

    def files(self) -> dict[str, Path]:
        """Return where its files are, by their path in the zoo."""
        return {file: self.path / file for body in (*self.bodies, *self.forms) for file in body.sha256}

    def verify(self) -> list[str]:
        """Check the files of all bodies against their checksums and return what is wrong, one line a problem."""
        problems: dict[str, None] = {}  # bodies share weights
        for body in (*self.bodies, *self.forms):
            for check in (*(partial(self._read, body, file) for file in body.sha256), partial(self._load, body)):
                try:
                    check()
                except ZooError as e:
                    problems[str(e)] = None
        return list(problems)

    def _load(self, body: Body) -> None:
        self._features(body)
        self.graph(body, self.weights(body))
        self.kept(body)
        if body.arithmetic == "int8":
            self.rounding(body)

    def _whole(self, body: Body) -> Body:
        """Return the body that a form is one of; a body itself."""
        return next((b for b in self.bodies if b.id == body.like), body)

    def _tensors(self, body: Body, file: str) -> tuple[dict[str, Stored], dict[str, str]]:
        try:
            return read_stored(self._read(body, file))
        except ValueError as e:
            raise ZooError(f"{self.path / file} is damaged ({e}); {repair(self.path)}") from e

    def _read(self, body: Body, file: str) -> bytes:
        try:
            data = read_file(self.path, file)
        except OSError as e:
            raise ZooError(f"{self.path / file} cannot be read ({e.strerror}); {repair(self.path)}") from e
        if hashlib.sha256(data).hexdigest() != body.sha256.get(file):
            raise ZooError(f"{self.path / file} does not match its checksum; {repair(self.path)}")
        return data


def open_bodies(name: str | None) -> BodyZoo | None:
    """Open the ready-made networks of a zoo, named as for `open_zoo`; None if it has none.

    Raises:
        ZooError: there is no such zoo, or it is damaged.
    """
    path, value = read_zoo_file(name)
    if "bodies" not in value:
        return None
    try:
        base = value["base"]
        found = sorted(map(Body.from_json, value["bodies"]), key=lambda b: -b.macs)
        whole = {b.id for b in found if not b.like}
        if strange := sorted({b.like for b in found if b.like} - whole):
            raise ValueError(f"there is no body {strange[0]}")
        near = typed(value["near"], tuple[tuple[int, int], ...])
        if not all(0 <= i < len(base["classes"]) for pair in near for i in pair):
            raise ValueError("its near duplicates are none of its classes")
        texts = typed([base["arch"], base["licence"], value["pictures"]], tuple[str, str, str])
        if not whole or typed(base["input_size"], tuple[int, int])[0] < 1:
            raise ValueError("it has no bodies, or images without pixels")
        return BodyZoo(
            path=path,
            name=value["name"],
            base=base["name"],
            arch=texts[0],
            pixels=base["input_size"][0],
            licence=texts[1],
            classes=wordnet.resolve_names(base["classes"]),
            bodies=tuple(b for b in found if not b.like),
            forms=tuple(b for b in found if b.like),
            near=near,
            pictures=texts[2],
            about=base,
        )
    except (KeyError, TypeError, ValueError) as e:
        raise damaged(path, e) from e


def _check_shapes(features: Features, classes: int) -> None:
    """Raise ValueError if the arrays do not fit each other or the classes."""
    n, (k, width), listed = len(features.labels), features.basis.shape, len(features.exact_classes)
    wanted: dict[str, tuple[int, ...]] = {
        "rows": (classes, k),
        "bias": (classes,),
        "coordinates": (n, k),
        "exact": (n, listed),
    }
    _check(features, wanted)
    if few := features.few:
        k = len(few.basis)
        _check(few, {"basis": (k, width), "rows": (classes, k), "bias": (classes,), "mean": (width,)})
    for name in ("labels", "exact_classes"):
        values = getattr(features, name)
        if values.ndim != 1 or (len(values) and not 0 <= values.min() <= values.max() < classes):
            raise ValueError(f"{name} names no classes")


def _check(arrays: Features | FewRows, wanted: Mapping[str, tuple[int, ...]]) -> None:
    for name, shape in wanted.items():
        if (found := getattr(arrays, name).shape) != shape:
            raise ValueError(f"{name} has the shape {found}, not {shape}")


def _between(points: Sequence[tuple[int, float]], at: int) -> float | None:
    if not points:
        return None
    places, values = zip(*points, strict=True)
    return float(np.interp(np.log(at), np.log(places), values))
