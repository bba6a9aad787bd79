"""Ready-made bodies of any base, made of its own weights: names and photographs then work as on a zoo of bodies.

base and its weights -> classes -> a body at each number of pixels that the network takes -> a zoo in the cache
"""

from __future__ import annotations

import copy
import gzip
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from mvp_edge.config import Packing
from mvp_edge.core.atomic import write_atomically
from mvp_edge.core.environment import own_version
from mvp_edge.core.errors import ConfigError, ExportError
from mvp_edge.core.progress import Progress
from mvp_edge.export import export_onnx, verify_onnx
from mvp_edge.export.body import without_weights
from mvp_edge.models.architectures import head_of
from mvp_edge.models.bases import BASE_FILE, Base, labelled, load_base
from mvp_edge.models.macs import count_macs, count_params
from mvp_edge.models.norms import fold
from mvp_edge.models.support import REFUSALS
from mvp_edge.models.tensors import compress, deserialise, load_weights, serialise
from mvp_edge.zoo.bodies import BASE, Body
from mvp_edge.zoo.location import made_zoos
from mvp_edge.zoo.store import create_zoo

SHARES = (1, 5 / 7, 4 / 7, 3 / 7, 2 / 7)  # of the base's own pixels: 224, 160, 128, 96 and 64
STEP = 32  # pixels: most networks halve an image five times
CLOSE = 1e-3  # of the largest logit: how far a network may be from itself with norms folded
LAST = "Gemm"  # operator of a classifier
PICTURES = "no pictures"
PACKAGE, MAKERS = Path(__file__).parents[1], ("export", "models", "zoo", "core")  # whose code makes zoos


def zoo_of_base(name: str, weights: Path | None, progress: Progress) -> Path:
    """Return the directory of a zoo with ready-made bodies of a base, from the cache if it was made before.

    Args:
        name: See `load_base`.
        weights: Likewise.
        progress: Progress reporter.

    Raises:
        ConfigError: the base cannot be loaded, its labels are unknown, its network has no linear classifier as its last
            layer or takes no square images, or the cache cannot be written.
        ExportError: its network cannot be exported.
    """
    with progress.stage("Loading the base"):
        base, network = load_base(name, weights)
        head = head_of(network)
        base = labelled(base, head.out_features)
    if base.input_size[0] != base.input_size[1]:
        raise ConfigError(f"{base.name} takes images of {base.input_size} pixels; use a base of square images")
    identity = f"{base.name} {base.sha256} {base.input_size} {own_version()} {_code()}"
    place = made_zoos() / f"{base.arch}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    if (place / "zoo.json").is_file():
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".", dir=place.parent) as scratch:
            made = Path(scratch) / place.name
            _make(made, base, network, progress)
            if not (place / "zoo.json").is_file():
                shutil.rmtree(place, ignore_errors=True)
                made.rename(place)
    except OSError as e:
        raise ConfigError(
            f"{place} cannot be written ({e.strerror or e}); make room, or set MVP_EDGE_CACHE to another directory"
        ) from e
    return place


def _make(place: Path, base: Base, network: nn.Module, progress: Progress) -> None:
    own = base.input_size[0]
    sizes, folded = pixels_of(network, own), folded_copy(network, base.input_size)
    create_zoo(place, base, folded, "float16", base.name)
    load_weights(folded, deserialise((place / BASE_FILE).read_bytes())[0])
    head, bodies = head_of(folded), list[Body]()
    bias = torch.zeros(head.out_features) if head.bias is None else head.bias.detach()
    nothing = unseen(head.weight.detach(), bias)
    with progress.stage("Making bodies", len(sizes)) as stage:
        for pixels in sizes:
            at = replace(base, input_size=(pixels, pixels))
            body = Body(f"{base.arch}-{pixels}", pixels, BASE, 0, 0, recipe={"weights": base.recipe})
            try:
                bodies.append(write_body(place, body, folded, exported(folded, at), nothing, "float16"))
            except ExportError:
                if pixels == own:
                    raise  # at others, positions may be interpolated in ways that ONNX has no operator for
            stage.advance()
    add_bodies(place, bodies, near=(), pictures=PICTURES)


def pixels_of(network: nn.Module, own: int) -> list[int]:
    """Return sides of square images that a network takes, its own first: steps of `STEP`, or `STEP` pixels."""
    sides = {own, *(STEP * round(own * share / STEP) for share in SHARES[1:])}
    return [p for p in sorted(sides, reverse=True) if p == own or (STEP <= p < own and _takes(network, p))]


def _takes(network: nn.Module, pixels: int) -> bool:
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, pixels, pixels))
    except REFUSALS:
        return False
    return True


@torch.no_grad()
def folded_copy(network: nn.Module, size: tuple[int, int]) -> nn.Module:
    """Return a network whose norms are folded where that changes nothing, else as it is."""
    folded = fold(_copy(network), size)
    image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    wanted, found = network(image), folded(image)
    same = bool((found - wanted).abs().max() <= CLOSE * wanted.abs().max())
    return folded if same else _copy(network)


def exported(network: nn.Module, base: Base) -> onnx.ModelProto:
    """Return a network at the pixels of `base` as an ONNX model that ends with its classifier.

    Raises:
        ConfigError: it does not.
        ExportError: an operator has no ONNX form, or the two differ.
    """
    with TemporaryDirectory() as scratch:
        whole = Path(scratch) / "body.onnx"
        export_onnx(
            network, whole, input_size=base.input_size, mean=base.mean, std=base.std, labels=list(base.classes),
            metadata={},
        )  # fmt: skip
        verify_onnx(whole, network, base.input_size, base.mean, base.std)
        model = onnx.load(whole)
    if model.graph.node[-1].op_type != LAST:
        raise ConfigError(f"the classifier of {base.name} is not its last layer; use another base")
    return model


def write_body(
    zoo: Path, body: Body, network: nn.Module, model: onnx.ModelProto, features: Mapping[str, Tensor], packing: Packing
) -> Body:
    """Write the graph and the features of a body, and return it with its costs and the checksums of its files.

    Args:
        zoo: Directory that has the weights of the body already.
        body: To complete.
        network: With the body's weights.
        model: Result of `exported`.
        features: See `zoo.bodies.Features`.
        packing: How the features are stored.
    """
    state = {k: v.numpy() for k, v in network.state_dict().items() if v.dtype == torch.float32}
    graph = without_weights(model, state).SerializeToString(deterministic=True)
    own = BASE_FILE if body.weights == BASE else f"weights/{body.weights}.safetensors.gz"
    files = {
        f"bodies/{body.id}.onnx.gz": gzip.compress(graph, 9, mtime=0),
        f"features/{body.id}.safetensors.gz": compress(serialise(features, packing)),
    }
    for name, data in files.items():
        (zoo / name).parent.mkdir(exist_ok=True)
        (zoo / name).write_bytes(data)
    head = head_of(network)
    rows, size = head.weight.numel(), head.weight.numel() + head.out_features
    return replace(
        body,
        macs=count_macs(network, (body.pixels, body.pixels)) - rows,
        params=count_params(network) - size - _norm_scales(network),
        sha256={name: hashlib.sha256((zoo / name).read_bytes()).hexdigest() for name in (own, *files)},
    )


def unseen(rows: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """Return the features of a body that has seen no pictures.

    Args:
        rows: Of its classifier `(C, D)`.
        bias: Likewise `(C,)`.
    """
    classes, width = rows.shape
    return {
        "basis": torch.zeros(0, width), "rows": torch.zeros(classes, 0), "bias": bias, "exact": torch.zeros(0, 0),
        "coordinates": torch.zeros(0, 0), "labels": torch.zeros(0, dtype=torch.int16),
        "exact_classes": torch.zeros(0, dtype=torch.int16),
    }  # fmt: skip


def add_bodies(zoo: Path, bodies: Sequence[Body], near: Sequence[tuple[int, int]], pictures: str) -> None:
    """Enter bodies into the description of a zoo.

    Args:
        zoo: Its directory.
        bodies: All of its bodies.
        near: Pairs of classes that the base confuses.
        pictures: What labelled pictures were used, in words.
    """
    value: dict[str, Any] = json.loads((zoo / "zoo.json").read_text(encoding="utf-8"))
    value |= {"bodies": [b.to_json() for b in bodies], "near": near, "pictures": pictures}
    write_atomically(zoo / "zoo.json", json.dumps(value, indent=1).encode())


def _norm_scales(network: nn.Module) -> int:
    """Return how many scales of batch norms are in the convolutions already."""
    return sum(m.weight.numel() for m in network.modules() if isinstance(m, nn.BatchNorm2d))


def _copy(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).eval().requires_grad_(False)


def _code() -> str:
    """Return a hash of the code that makes zoos, as those of another version may differ."""
    files = [Path(__file__), *(file for name in MAKERS for file in sorted((PACKAGE / name).glob("*.py")))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
