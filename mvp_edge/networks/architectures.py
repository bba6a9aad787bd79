"""Networks for small images that timm has in its sizes for large ones only."""

from __future__ import annotations

from collections.abc import Callable

import timm
from timm.models.vision_transformer import VisionTransformer
from torch import nn


def resnet18_cifar(num_classes: int) -> nn.Module:
    """Return timm's ResNet-18 with the usual stem for 32x32 images: 3x3, stride 1, no max-pooling."""
    model = timm.create_model("resnet18", num_classes=num_classes)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


def vit_cifar(num_classes: int) -> nn.Module:
    """Return timm's vision transformer for 32x32 images: 64 patches of 4x4, width 192, 9 blocks of six heads of 32.

    It has no class token: the mean over the patches is classified, so that 64 tokens fill whole vector lanes.
    """
    return VisionTransformer(
        img_size=32, patch_size=4, embed_dim=192, depth=9, num_heads=6,
        class_token=False, global_pool="avg", num_classes=num_classes,
    )  # fmt: skip


ARCHITECTURES: dict[str, Callable[[int], nn.Module]] = {"resnet18-cifar": resnet18_cifar, "vit-cifar": vit_cifar}
