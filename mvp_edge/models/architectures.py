"""Networks by name, timm's and two for small images that timm has for large ones only, and the classifier of each."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, cast

import timm
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from mvp_edge.core.errors import ConfigError
from mvp_edge.models.inference_form import Again, inference_form, set_classifier


def resnet18_cifar(num_classes: int) -> nn.Module:
    """Return timm's ResNet-18 with the usual stem for 32x32 images: 3x3, stride 1, no max-pooling."""
    model = timm.create_model("resnet18", num_classes=num_classes)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


def vit_cifar(num_classes: int) -> nn.Module:
    """Return timm's vision transformer for 32x32 images: 64 patches of 4x4, width 192, 9 blocks of six heads of 32.

    It has no class token: the mean over the patches is classified, so that 64 tokens fill whole vector registers.
    """
    return VisionTransformer(
        img_size=32, patch_size=4, embed_dim=192, depth=9, num_heads=6,
        class_token=False, global_pool="avg", num_classes=num_classes,
    )  # fmt: skip


ARCHITECTURES: dict[str, Callable[[int], nn.Module]] = {"resnet18-cifar": resnet18_cifar, "vit-cifar": vit_cifar}


def new_model(arch: str, num_classes: int) -> nn.Module:
    """Return a freshly initialised network.

    Raises:
        ConfigError: neither we nor timm know the architecture.
    """
    if arch in ARCHITECTURES:
        return ARCHITECTURES[arch](num_classes)
    if arch not in _timm_models():
        import difflib

        near = difflib.get_close_matches(arch, _timm_models(), 3)
        hint = f"did you mean {', '.join(near)}?" if near else "its models are those of: timm.list_models()"
        raise ConfigError(f"timm has no model called {arch!r}; {hint}")
    return timm.create_model(arch, num_classes=num_classes)


def new_inference_model(arch: str, num_classes: int) -> nn.Module:
    """Return a freshly initialised network in its inference form.

    Raises:
        ConfigError: see `new_model`.
    """
    return inference_form(new_model(arch, num_classes).eval())


@cache
def _timm_models() -> frozenset[str]:
    return frozenset(timm.list_models())


def head_of(model: nn.Module) -> nn.Linear:
    """Return the classifier layer of a network in its inference form.

    Raises:
        ConfigError: there is no single linear one.
    """
    head = cast(Any, model).get_classifier()
    if isinstance(head, tuple) and len(head) == 2 and isinstance(head[1], Again):
        head = head[0]
    if not isinstance(head, nn.Linear):
        raise ConfigError("this network does not end in one linear layer, which is required; use another base model")
    return head


def head_name(model: nn.Module) -> str:
    """Return the name of the classifier layer."""
    head = head_of(model)
    return next(name for name, module in model.named_modules() if module is head)


def set_head(model: nn.Module, head: nn.Linear) -> None:
    """Exchange the classifier; timm's record of the number of classes follows."""
    set_classifier(model, head_name(model), head)
    cast(Any, model).num_classes = head.out_features
