"""Convolutions in bfloat16 as matrix products, for CPUs with matrix units (AMX), while a network is trained.

oneDNN's backward passes of depthwise convolutions in bfloat16 take up to thirty times as long as in float32, so that
phone networks (MobileNet, EfficientNet-Lite) train slower in bfloat16 than without it. Here pointwise convolutions are
products over channels-last memory, the gradient of a depthwise input is a convolution with the mirrored kernel, and
that of a kernel is a batch of products, one a channel, of every output position with every input position.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn
from torch.nn import functional as F

PRODUCTS = 64 * 64  # output times input positions of a map up to which the batch of products is the faster


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
        size, positions = kernel.shape[2], grad.shape[2:].numel() * images.shape[2:].numel()
        of_images = of_kernel = None
        if ctx.stride == 1:
            mirrored = kernel.flip(2, 3).contiguous()
            of_images = F.conv2d(grad, mirrored, None, 1, size - 1 - ctx.padding, 1, len(kernel))
        if positions <= PRODUCTS and (size > 3 or min(images.shape[2:]) <= 2):
            of_kernel = _kernel_gradient(images, grad, size, ctx.stride, ctx.padding)
        if of_images is None or of_kernel is None:
            # In float32 where oneDNN has no quick bfloat16 form: strides, large kernels.
            slow = of_images is None or size > 3
            dtype = torch.float32 if slow else images.dtype
            found = torch.ops.aten.convolution_backward(
                grad.to(dtype), images.to(dtype), kernel.to(dtype), None, [ctx.stride] * 2, [ctx.padding] * 2, [1, 1],
                False, [0, 0], len(kernel), [of_images is None, of_kernel is None, False],
            )  # fmt: skip
            of_images = found[0].to(images.dtype) if of_images is None else of_images
            of_kernel = found[1].to(kernel.dtype) if of_kernel is None else of_kernel
        return of_images, of_kernel, None, None


def _kernel_gradient(images: Tensor, grad: Tensor, size: int, stride: int, padding: int) -> Tensor:
    channels = images.shape[1]
    inputs = images.permute(1, 0, 2, 3).flatten(2)  # (C, N, H W)
    outputs = grad.permute(1, 2, 3, 0).flatten(1, 2)  # (C, H' W', N)
    products = torch.bmm(outputs, inputs).float().flatten(1)  # (C, H' W' H W)
    places = _taps(tuple(images.shape[2:]), tuple(grad.shape[2:]), size, stride, padding)
    return (products @ places).reshape(channels, 1, size, size).to(images.dtype)


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
def matrix_convolutions(network: nn.Module) -> Iterator[None]:
    """Let a channels-last network on the CPU compute its convolutions as matrix products for a while.

    Modules keep their parameters, names and settings, so that it may be saved, copied and sliced meanwhile.
    """
    former: list[tuple[nn.Module, type[nn.Module]]] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and (form := _form(module)) is not None:
            former.append((module, type(module)))
            cast(Any, module).__class__ = form
    try:
        yield
    finally:
        for module, form in former:
            cast(Any, module).__class__ = form


def _form(module: nn.Conv2d) -> type[nn.Module] | None:
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
