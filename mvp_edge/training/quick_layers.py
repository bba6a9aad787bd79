"""Layers in forms that a CPU computes faster, while a network is trained; in float32 the results are the same.

Pointwise convolutions are matrix products over channels-last memory. The gradient of a depthwise input is a convolution
with the mirrored kernel. oneDNN is slow at the gradient of a kernel with more than three columns, up to twenty times:
it is put together of those of three columns each or, where the map is smaller than the kernel, a batch of products, one
a channel, of every output position with every input position. Clamping in place copies its input for the gradient.

oneDNN's backward passes of depthwise convolutions in bfloat16 take up to thirty times as long as in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal, cast

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn
from torch.nn import functional as F

PRODUCTS = 64 * 64  # output times input positions of a map up to which products in bfloat16 are the faster
COLUMNS = 3  # of a kernel, whose gradient oneDNN is fast at


class _Pointwise(nn.Conv2d):
    def forward(self, images: Tensor) -> Tensor:
        return F.linear(images.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class _Dense(nn.Conv2d):
    """A convolution in float32 where the map is smaller than the kernel: oneDNN's bfloat16 gradients may be NaN there.

    Seen with torch 2.14 on a processor with AMX, a 3 x 3 kernel of stride 2 on a map of one position.
    """

    def forward(self, images: Tensor) -> Tensor:
        if min(images.shape[2:]) >= self.kernel_size[0]:
            return super().forward(images)
        with torch.autocast("cpu", enabled=False):
            return super().forward(images.float())


class _Depthwise(nn.Conv2d):
    def forward(self, images: Tensor) -> Tensor:
        return _convolved(self, images, int(self.padding[0]))


class _DepthwiseSame(Conv2dSame):
    def forward(self, images: Tensor) -> Tensor:
        module = cast(nn.Conv2d, self)
        return _convolved(module, pad_same(images, list(module.kernel_size), list(module.stride)), 0)


class _Clamp(nn.ReLU6):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return F.relu6(input)


def _convolved(module: nn.Conv2d, images: Tensor, padding: int) -> Tensor:
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else images.dtype
    out = _DepthwiseProduct.apply(images.to(dtype), module.weight.to(dtype), module.stride[0], padding)
    return out if module.bias is None else out + module.bias.to(dtype)[:, None, None]


class _DepthwiseProduct(torch.autograd.Function):
    """A depthwise convolution of `(N, C, H, W)` with `(C, 1, K, K)`, both of one type."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, kernel: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(images, kernel)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(images, kernel, None, stride, padding, 1, len(kernel))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None, None]:
        images, kernel = ctx.saved_tensors
        grad = grad_outputs[0].contiguous(memory_format=torch.channels_last)
        size, stride, padding = kernel.shape[2], ctx.stride, ctx.padding
        if stride == 1:
            of_images = F.conv2d(grad, kernel.flip(2, 3).contiguous(), None, 1, size - 1 - padding, 1, len(kernel))
        else:  # in float32, as oneDNN has no quick bfloat16 form of strides
            of_images = _gradient(images.float(), grad.float(), kernel.float(), stride, (padding, padding), 0)
        if _is_small(images, grad, size):
            of_kernel = _by_products(images, grad, size, stride, padding)
        elif size > COLUMNS:
            of_kernel = _by_columns(images.float(), grad.float(), kernel.float(), stride, padding)
        else:
            dtype = images.dtype if stride == 1 else torch.float32
            given = (images.to(dtype), grad.to(dtype), kernel.to(dtype))
            of_kernel = _gradient(*given, stride, (padding, padding), 1)
        return of_images.to(images.dtype), of_kernel.to(kernel.dtype), None, None


def _is_small(images: Tensor, grad: Tensor, size: int) -> bool:
    """Return whether the gradient of a kernel is a batch of products."""
    side = min(images.shape[2:])
    if images.dtype == torch.float32:
        return side < size
    return (size > COLUMNS or side <= 2) and grad.shape[2:].numel() * images.shape[2:].numel() <= PRODUCTS


def _gradient(
    images: Tensor, grad: Tensor, kernel: Tensor, stride: int, padding: tuple[int, int], of: Literal[0, 1]
) -> Tensor:
    """Return the gradient of images (0) or kernel (1) of a depthwise convolution, as oneDNN computes it."""
    return torch.ops.aten.convolution_backward(
        grad, images, kernel, None, [stride] * 2, list(padding), [1, 1], False, [0, 0], len(kernel),
        [of == 0, of == 1, False],
    )[of]  # fmt: skip


def _by_columns(images: Tensor, grad: Tensor, kernel: Tensor, stride: int, padding: int) -> Tensor:
    images, span, parts = F.pad(images, (padding, padding)), (grad.shape[3] - 1) * stride, list[Tensor]()
    for first, part in zip(range(0, kernel.shape[3], COLUMNS), kernel.split(COLUMNS, 3), strict=True):
        seen = images[..., first : first + span + part.shape[3]]
        parts.append(_gradient(seen, grad, part, stride, (padding, 0), 1))
    return torch.cat(parts, 3)


def _by_products(images: Tensor, grad: Tensor, size: int, stride: int, padding: int) -> Tensor:
    channels = images.shape[1]
    inputs = images.permute(1, 0, 2, 3).flatten(2).contiguous()  # (C, N, H W)
    outputs = grad.permute(1, 2, 3, 0).flatten(1, 2).contiguous()  # (C, H' W', N)
    products = torch.bmm(outputs, inputs).float().flatten(1)  # (C, H' W' H W)
    places = _taps(tuple(images.shape[2:]), tuple(grad.shape[2:]), size, stride, padding)
    return (products @ places).reshape(channels, 1, size, size)


@cache
def _taps(inputs: tuple[int, int], outputs: tuple[int, int], size: int, stride: int, padding: int) -> Tensor:
    """Return `(H' W' H W, K K)`: 1 where the kernel's element joins the output's position with the input's."""
    rows, columns = (
        torch.arange(have)[None, :] - torch.arange(give)[:, None] * stride + padding
        for have, give in zip(inputs, outputs, strict=True)
    )  # (H', H) and (W', W): the element's row or column, outside 0 to K - 1 where there is none
    element = torch.arange(size)
    down = (rows[..., None] == element).float()  # (H', H, K)
    across = (columns[..., None] == element).float()
    return torch.einsum("ahi,bwj->abhwij", down, across).reshape(-1, size * size)


@contextmanager
def quick_layers(network: nn.Module) -> Iterator[None]:
    """Let a channels-last network on the CPU compute its layers in faster forms for a while.

    Modules keep their parameters, names and settings, so that it may be saved, copied and sliced meanwhile.
    """
    former: list[tuple[nn.Module, type[nn.Module]]] = []
    for module in network.modules():
        if (form := _form(module)) is not None:
            former.append((module, type(module)))
            cast(Any, module).__class__ = form
    try:
        yield
    finally:
        for module, form in former:
            cast(Any, module).__class__ = form


def _form(module: nn.Module) -> type[nn.Module] | None:
    if not isinstance(module, nn.Conv2d):
        return _Clamp if type(module) is nn.ReLU6 else None
    square = module.kernel_size[0] == module.kernel_size[1] and module.stride[0] == module.stride[1]
    if not square or module.dilation != (1, 1) or module.padding_mode != "zeros" or isinstance(module.padding, str):
        return None
    if type(module) is nn.Conv2d and module.kernel_size == (1, 1) and module.stride == (1, 1) and module.groups == 1:
        return _Pointwise if module.padding == (0, 0) else None
    if type(module) is nn.Conv2d and module.groups == 1:
        return _Dense
    if module.groups == 1 or not module.groups == module.in_channels == module.out_channels:
        return None
    if type(module) is Conv2dSame:
        return _DepthwiseSame
    return _Depthwise if type(module) is nn.Conv2d and module.padding[0] == module.padding[1] else None
