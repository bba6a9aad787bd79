"""Networks in the form that is sliced and delivered: parallel branches fused, one linear classifier.

What is fused computes the same as before. It can be trained further, but no longer as it was pre-trained.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.std_conv import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from timm.models import reparameterize_model
from torch import Tensor, nn
from torch.nn import functional as F

_FUSES = ("fuse", "reparameterize", "switch_to_deploy")  # what timm's `reparameterize_model` calls
_MARK = "branches_are_fused"  # on the network: its layers keep the methods above
_STANDARDISED = (StdConv2d, StdConv2dSame, ScaledStdConv2d, ScaledStdConv2dSame)


def inference_form(model: nn.Module) -> nn.Module:
    """Return a network with fused branches and one linear classifier; itself if it has that form already.

    Weights that are standardised in each pass, over input channels that slicing would take away, are stored as they
    come out.

    Args:
        model: A network of timm, in evaluation mode.
    """
    children = [m for m in model.modules() if m is not model]
    if not hasattr(model, _MARK) and any(hasattr(m, name) for m in children for name in _FUSES):
        with torch.no_grad():
            model = _fused(model)
    if any(isinstance(m, _STANDARDISED) for m in children):
        model = copy.deepcopy(model)
        for name, layer in [(n, m) for n, m in model.named_modules() if isinstance(m, _STANDARDISED)]:
            _replace(model, name, _plain_convolution(layer))
    return with_linear_head(model.requires_grad_(True).eval())


def _fused(model: nn.Module) -> nn.Module:
    fused = reparameterize_model(model)
    setattr(fused, _MARK, True)
    try:
        cast(Any, fused).get_classifier()
    except AttributeError:  # of a head that was fused, too, which not all networks of timm expect
        cast(Any, fused).head = copy.deepcopy(cast(Any, model).head)
    return fused


def with_linear_head(model: nn.Module) -> nn.Module:
    """Return a network whose classifier is one linear layer; itself if it is, or cannot be had.

    A 1x1 convolution becomes a linear layer. Two heads on the same features become their mean, which is what timm's
    distilled networks return; two heads on different tokens stay two.
    """
    found: Any = cast(Any, model).get_classifier()
    if type(found) is nn.Conv2d and found.kernel_size == (1, 1):
        model = copy.deepcopy(model)
        set_classifier(model, _name_of(model, cast(Any, model).get_classifier()), _as_linear(found))
    elif _is_pair(found) and _read_the_same(model, *cast(Any, found)):
        model = copy.deepcopy(model)
        head, other = cast(Any, model).get_classifier()
        mean = nn.Linear(head.in_features, head.out_features)
        with torch.no_grad():
            mean.weight.copy_((head.weight + other.weight) / 2)
            mean.bias.copy_((head.bias + other.bias) / 2)
        names = [_name_of(model, layer) for layer in (head, other)]
        _replace(model, names[0], mean)
        _replace(model, names[1], Again(mean))
    return model


class HeadOfMaps(nn.Linear):
    """A linear classifier of feature maps `(N, C, 1, 1)`, where timm has a convolution."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Return logits `(N, K, 1, 1)`."""
        return super().forward(input.flatten(1))[:, :, None, None]


class Again(nn.Module):
    """Computes what another layer does, in place of a second head."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self._layer = [layer]  # in a list, so that its weights are stored once

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output."""
        return self._layer[0](x)


def set_classifier(model: nn.Module, name: str, head: nn.Linear) -> None:
    """Exchange the classifier called `name`, in place."""
    old = model.get_submodule(name)
    if isinstance(old, (HeadOfMaps, nn.Conv2d)) and not isinstance(head, HeadOfMaps):
        maps = HeadOfMaps(head.in_features, head.out_features, head.bias is not None)
        maps.weight, maps.bias = head.weight, head.bias
        head = maps
    _replace(model, name, head)
    for path, module in list(model.named_modules()):
        if isinstance(module, Again):
            _replace(model, path, Again(head))


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    path, _, leaf = name.rpartition(".")
    owner = model.get_submodule(path)
    if leaf.isdigit() and isinstance(owner, (nn.Sequential, nn.ModuleList)):
        owner[int(leaf)] = layer
    else:
        setattr(owner, leaf, layer)


def _name_of(model: nn.Module, layer: nn.Module) -> str:
    return next(name for name, module in model.named_modules() if module is layer)


def _as_linear(layer: nn.Conv2d) -> nn.Linear:
    head = nn.Linear(layer.in_channels, layer.out_channels, bias=layer.bias is not None)
    with torch.no_grad():
        head.weight.copy_(layer.weight.flatten(1))
        if layer.bias is not None:
            head.bias.copy_(layer.bias)
    return head


def _is_pair(found: Any) -> bool:
    return isinstance(found, tuple) and len(found) == 2 and all(type(h) is nn.Linear for h in found)


def _read_the_same(model: nn.Module, first: nn.Module, second: nn.Module) -> bool:
    """Say whether two heads classify the same features."""
    seen: list[Tensor] = []
    handles = [h.register_forward_pre_hook(lambda _, args: seen.append(args[0])) for h in (first, second)]
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, *cast(Any, model).pretrained_cfg["input_size"][1:]))
    finally:
        for handle in handles:
            handle.remove()
    return len(seen) == 2 and seen[0] is seen[1]


def _plain_convolution(layer: Any) -> nn.Conv2d:
    """Return a convolution with the weights that a standardised one computes in each pass."""
    kind: Any = Conv2dSame if getattr(layer, "same_pad", False) else nn.Conv2d
    plain: nn.Conv2d = kind(
        layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation,
        layer.groups, layer.bias is not None,
    )  # fmt: skip
    gain = (layer.gain * layer.scale).view(-1) if hasattr(layer, "gain") else None
    with torch.no_grad():
        flat = layer.weight.reshape(1, layer.out_channels, -1)
        weight = F.batch_norm(flat, None, None, weight=gain, training=True, momentum=0.0, eps=layer.eps)
        plain.weight.copy_(weight.reshape_as(layer.weight))
        if layer.bias is not None and plain.bias is not None:
            plain.bias.copy_(layer.bias)
    return plain
