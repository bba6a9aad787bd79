"""Base models: a registry of typed metadata, and how their weights are read and written."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import ImageNetInfo, infer_imagenet_subset
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from mvp_edge.config import Embedding, Packing
from mvp_edge.core.atomic import write_atomically
from mvp_edge.core.errors import ConfigError
from mvp_edge.core.places import ASSETS
from mvp_edge.core.untrusted import MAX_SIDE, check_printable, read_bytes, read_json, typed
from mvp_edge.models.architectures import head_name, new_inference_model, new_model
from mvp_edge.models.download import download_weights
from mvp_edge.models.inference_form import inference_form, with_linear_head
from mvp_edge.models.tensors import COUNTER, content_sha256, deserialise, load_weights, serialise


@dataclass(frozen=True)
class Base:
    """A pre-trained model that sub-networks are cut from.

    Attributes:
        name: How the command line calls it.
        arch: Key of the architecture: `resnet18-cifar` or the name of a timm model.
        input_size: (H, W) in pixels.
        mean: Of the training images, per RGB channel, pixels in [0, 1].
        std: Standard deviation, likewise.
        classes: Class names in the order of the outputs.
        licence: Of the weights.
        sha256: Identity of the weights (`content_sha256`); empty until they are loaded.
        top1: Accuracy in percent on the test split of what it was trained on, if known.
        recipe: How it was trained.
        embedding: Whether sub-networks of a transformer keep its embedding whole, which every block reads and adds to,
            or a part of it, as they do of heads and hidden nodes.
    """

    name: str
    arch: str
    input_size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    classes: tuple[str, ...] = ()
    licence: str = ""
    sha256: str = ""
    top1: float | None = None
    recipe: str = ""
    embedding: Embedding = "whole"

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready value; `from_json` is its inverse."""
        return asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> Base:
        """Read what `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: the value describes no base model.
        """
        tuples = {k: tuple(value[k]) for k in ("input_size", "mean", "std", "classes")}
        found = typed(asdict(Base(**{**value, **tuples})), Base)
        check_printable([found.name, found.arch, *found.classes])
        if not all(1 <= side <= MAX_SIDE for side in found.input_size) or 0 in found.std:
            raise ValueError(f"images of {found.input_size} pixels with deviations of {found.std} cannot be computed")
        return found


CIFAR100_RESNET18 = Base(
    name="resnet18-cifar100",
    arch="resnet18-cifar",
    input_size=(32, 32),
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    licence="Apache-2.0",
)
CIFAR100_VIT = replace(CIFAR100_RESNET18, name="vit-cifar100", arch="vit-cifar")
LARGER = 16  # times: parameters of a network in timm's form to those of a file, whose branches may be fused
REGISTRY: dict[str, Base] = {base.name: base for base in (CIFAR100_RESNET18, CIFAR100_VIT)}
BASE_FILE = "base.safetensors.gz"  # of a zoo, in its directory


def load_base(name: str, weights: Path | None = None) -> tuple[Base, nn.Module]:
    """Load a base model and its weights, on the CPU, in evaluation mode.

    Args:
        name: A registered name, `timm:NAME`, the path of a safetensors file written by `mvp-edge pretrain`, or a zoo,
            by directory or bundled name, whose base is meant.
        weights: Local safetensors file to take the weights from.

    Raises:
        ConfigError: the name or file is unknown, damaged, or does not fit; weights are given for a file, which holds
            its own; or timm's weights are neither in the cache nor to be downloaded.
    """
    zoos = (place / BASE_FILE for place in (ASSETS / "zoos" / name, Path(name)))
    name = next((str(file) for file in zoos if file.is_file()), name)
    if name.endswith((".safetensors", ".safetensors.gz")):
        if weights is not None:
            raise ConfigError(
                f"{name} holds its own weights, and --weights names others ({weights}); leave --weights out, or name "
                "the network that they are of with --base"
            )
        return _from_file(Path(name), None)
    base = find_base(name)
    if weights is None and name in REGISTRY:
        raise ConfigError(
            f"no weights of {name} come with this package; train them with mvp-edge pretrain --base {name} and give "
            "the file with --base, or a zoo of that base, or your own with --weights FILE.safetensors"
        )
    return _from_file(weights or download_weights(base.arch), base)


def find_base(name: str) -> Base:
    """Return what is known of a base model without its weights.

    Raises:
        ConfigError: neither the registry nor timm know the name.
    """
    if name in REGISTRY:
        return REGISTRY[name]
    if name.startswith("timm:"):
        return _timm_base(name)
    raise ConfigError(
        f"base {name!r} is unknown; use {', '.join(REGISTRY)}, timm:NAME (such as timm:mobilenetv2_100), "
        "the directory of a zoo, or the path of a .safetensors file made by: mvp-edge pretrain"
    )


def labelled(base: Base, outputs: int) -> Base:
    """Return a base that names its classes: its own, or those of the label set of ImageNet that has so many.

    Raises:
        ConfigError: no label set has so many.
    """
    if base.classes:
        return base
    subset = infer_imagenet_subset({"num_classes": outputs})
    if subset is None:
        raise ConfigError(
            f"the labels of the {outputs:,} outputs of {base.name} are unknown: names need weights for ImageNet-1k, "
            "-12k or -21k, or a file made by mvp-edge pretrain; make a zoo of other weights with: mvp-edge zoo build"
        )
    return replace(base, classes=tuple(ImageNetInfo(subset).label_names()))


def serialise_base(model: nn.Module, base: Base, packing: Packing = "float16") -> bytes:
    """Return weights and metadata as safetensors bytes; the same model gives the same bytes."""
    # What is not stored stands for its default: files made before it was known keep their checksum.
    meta = {k: v for k, v in base.to_json().items() if k != "sha256" and (k, v) != ("embedding", "whole")}
    return serialise(model.state_dict(), packing, {"mvp_edge": json.dumps(meta)})


def save_base(model: nn.Module, base: Base, path: Path) -> None:
    """Write what `serialise_base` returns, all or nothing.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        write_atomically(path, serialise_base(model, base))
    except OSError as e:
        raise ConfigError(f"cannot write {path} ({e.strerror or e}); choose another place or make room") from e


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file, packed or not: tensors in single precision, and metadata.

    Raises:
        ConfigError: there is no such file, or it is damaged.
    """
    try:
        return deserialise(read_bytes(path))
    except FileNotFoundError as e:
        raise ConfigError(f"{path} does not exist; give a .safetensors file with the weights") from e
    except (OSError, ValueError) as e:
        raise ConfigError(
            f"{path} is not a readable safetensors file ({e}); it may be incomplete; copy or download it again"
        ) from e


def _from_file(path: Path, known: Base | None) -> tuple[Base, nn.Module]:
    tensors, meta = read_tensors(path)
    if "mvp_edge" in meta:
        stated = _stated(path, meta["mvp_edge"])
        if known is not None and stated.arch != known.arch:
            raise ConfigError(
                f"{path} holds weights for {stated.arch}, but {known.name} needs {known.arch}; leave --base out, or "
                "give other weights"
            )
        known = stated
    if known is None:
        raise ConfigError(
            f"{path} does not name the network of its weights; name it with --base, and give the file with --weights"
        )
    model = _loaded(path, known, tensors)
    return replace(known, sha256=content_sha256(model.state_dict())), model


def _loaded(path: Path, known: Base, tensors: dict[str, Tensor]) -> nn.Module:
    """Return the network in its inference form; the file may hold it in timm's own form, or as it is stored in zoos."""
    _refuse_giants(path, known, tensors)
    outputs = max(1, len(known.classes) or _outputs(known, tensors))
    problem = ""
    for form in (nn.Module.eval, with_linear_head, inference_form):
        model = form(new_model(known.arch, outputs).eval())
        expected = {k: v.shape for k, v in model.state_dict().items() if not k.endswith(COUNTER)}
        wrong = [k for k, s in expected.items() if k not in tensors or tensors[k].shape != s]
        if not wrong:
            load_weights(model, {k: v for k, v in tensors.items() if k in expected})
            return inference_form(model)
        problem = problem or f"{len(wrong)} tensors are missing or differ, {wrong[0]} first"
    raise ConfigError(f"{path} does not fit {known.arch}: {problem}; name the network that they are of with --base")


def _refuse_giants(path: Path, known: Base, tensors: dict[str, Tensor]) -> None:
    """Refuse a small file that claims to be a network many times as large, before memory is taken for that."""
    with torch.device("meta"):
        wanted = sum(p.numel() for p in new_model(known.arch, len(known.classes) or 1).parameters())
    held = sum(t.numel() for t in tensors.values())
    if wanted > LARGER * held + 1_000_000:
        raise ConfigError(
            f"{path} has {held:,} numbers, but {known.arch} has {wanted:,}; name the network that it is of with --base"
        )


def _stated(path: Path, text: str) -> Base:
    try:
        return Base.from_json({**read_json(text.encode()), "sha256": ""})
    except (KeyError, TypeError, ValueError) as e:  # this tool keeps other things than networks in such files, too
        raise ConfigError(
            f"{path} describes no base model ({e!r}); give a file made by mvp-edge pretrain, or plain weights"
        ) from e


def _outputs(base: Base, tensors: dict[str, Tensor]) -> int:
    """Return how many outputs weights have, by the last bias of what is the classifier in a network of that kind."""
    head = head_name(new_inference_model(base.arch, 1))
    biases = [t for name, t in tensors.items() if name.startswith(f"{head}.") and name.endswith("bias")]
    return len(biases[-1]) if biases else 0


def _timm_base(name: str) -> Base:
    arch = name.removeprefix("timm:")
    new_model(arch, 1)
    cfg = timm.get_pretrained_cfg(arch)
    if cfg is None or cfg.input_size is None:
        return Base(name, arch, (224, 224), IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    channels, height, width = cfg.input_size
    if channels != 3:
        raise ConfigError(f"{name} takes images of {channels} channels; use a model of RGB images")
    (r, g, b), (sr, sg, sb) = cfg.mean, cfg.std
    return Base(name, arch, (height, width), (r, g, b), (sr, sg, sb), licence=cfg.license or "")
