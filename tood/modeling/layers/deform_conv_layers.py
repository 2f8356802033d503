"""Layers of deformable convolution.

Shapes: **N** images, **C** channels, **G** deformable groups, **k** side of the kernel.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .deform_conv import deform_conv2d


class _DeformConvBase(nn.Module):
    """Weights, normalization and activation of a deformable convolution with a square kernel.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: side k of the kernel.
        stride, padding, dilation, groups: as in ``nn.Conv2d``.
        bias: whether the convolution has a bias.
        norm: normalization layer applied to the output.
        activation: function applied after the normalization.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        norm: nn.Module | None = None,
        activation: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels // groups, kernel_size, kernel_size)
        )
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.norm = norm
        self.activation = activation
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def convolve(self, x: Tensor, offset: Tensor, mask: Tensor | None) -> Tensor:
        """Convolve (N, C, H, W), normalize and activate."""
        # float16 cannot represent far positions to a fraction of a cell, and torchvision's operator
        # lacks half-precision kernels on some devices.
        dtype = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            out = deform_conv2d(
                x.to(dtype),
                offset.to(dtype),
                self.weight.to(dtype),
                None if self.bias is None else self.bias.to(dtype),
                None if mask is None else mask.to(dtype),
                stride=self.stride,
                padding=self.padding,
                dilation=self.dilation,
            )
        if not torch.is_autocast_enabled(x.device.type):  # keep a half-precision model in half
            out = out.to(x.dtype)
        if self.norm is not None:
            out = self.norm(out)
        return out if self.activation is None else self.activation(out)


class DeformConv(_DeformConvBase):
    """Deformable convolution whose offsets and masks are inputs; arguments as in ``nn.Conv2d``."""

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        """Convolve (N, C, H, W); see :func:`deform_conv2d` for ``offset`` and ``mask``."""
        return self.convolve(x, offset, mask)


def predict_offsets(
    conv: nn.Conv2d, x: Tensor, modulated: bool = True
) -> tuple[Tensor, Tensor | None]:
    """Offsets and masks for a :class:`DeformConv`, in float32 at least.

    The prediction is split into three equal parts o1, o2, m, as in MMDetection and detectron2: the
    offsets are cat(o1, o2) in the order (group, kernel point, (dy, dx)), the masks sigmoid(m).

    Args:
        conv: predicts both with 3 * G * k * k channels, or the offsets alone with 2 * G * k * k.
        x: (N, C, H, W).
        modulated: whether it predicts masks.

    Returns:
        Offsets (N, 2 * G * k * k, H', W') in cells, and masks (N, G * k * k, H', W') or None.
    """
    # bfloat16 resolves positions to 1/128 of a cell at best, which changed a loss of the golden
    # data by 2.6 %.
    dtype = torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        if conv.weight.dtype == dtype:
            # As a module, so that its name is in exported graphs: quantization must leave it out.
            prediction = conv(x.to(dtype))
        else:
            prediction = F.conv2d(
                x.to(dtype),
                conv.weight.to(dtype),
                conv.bias.to(dtype),
                conv.stride,
                conv.padding,
                conv.dilation,
            )
    if not modulated:
        return prediction, None
    first, second, mask = prediction.chunk(3, dim=1)
    return torch.cat((first, second), dim=1), mask.sigmoid()


class ModulatedDeformConv(_DeformConvBase):
    """A modulated deformable convolution that predicts its own offsets and masks.

    MMDetection's ``ModulatedDeformConv2dPack``: ``conv_offset`` has a bias and
    3 * deform_groups * k * k channels (see :func:`predict_offsets`) and starts at 0, so that the
    first output is half of a plain convolution's. Padding keeps the size of the map.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: side k of the kernel.
        deform_groups: number of groups of input channels with their own offsets.
        **kwargs: those of :class:`DeformConv`.

    Raises:
        ValueError: the input channels do not divide into the groups.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        deform_groups: int = 1,
        **kwargs: Any,
    ) -> None:
        if in_channels % deform_groups:
            raise ValueError(
                f"{in_channels} input channels do not divide into {deform_groups} deform_groups"
            )
        padding = kernel_size // 2
        super().__init__(in_channels, out_channels, kernel_size, padding=padding, **kwargs)
        self.conv_offset = nn.Conv2d(
            in_channels, 3 * deform_groups * kernel_size**2, kernel_size, padding=padding
        )
        nn.init.zeros_(self.conv_offset.weight)
        nn.init.zeros_(self.conv_offset.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W) to (N, C_out, H, W)."""
        return self.convolve(x, *predict_offsets(self.conv_offset, x))
