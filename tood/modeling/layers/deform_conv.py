"""Deformable convolution with modulation (DCNv2), without compiled code: on CPU and GPU."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn


def deform_conv2d(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
) -> Tensor:
    """Deformable convolution: the function of ``torchvision.ops.deform_conv2d``.

    On a GPU torchvision's operator computes it. On a CPU it is one ``embedding_bag``, which gathers
    and weights the four cells around each sample for all channels at once, and one matrix product:
    several times faster than torchvision's, and equal to rounding, borders, far offsets and
    gradients included.

    Args:
        x: (N, C, H, W).
        offset: (N, 2 * G * kh * kw, H', W') in cells of x: (dy, dx) of each kernel point of each
            of G groups of channels, which follow from its shape.
        weight: (C', C / groups, kh, kw); the number of groups follows from its shape.
        bias: (C',).
        mask: (N, G * kh * kw, H', W'), the factor of each sample; None for 1 (DCNv1).
        stride: of the output's cells, in cells of x.
        padding: cells of zeros around x.
        dilation: distance of the kernel's points.

    Returns:
        (N, C', H', W').

    Raises:
        ValueError: shapes that do not fit together (on a GPU: torchvision's RuntimeError).
    """
    if x.device.type != "cpu":
        return torchvision.ops.deform_conv2d(
            x, offset, weight, bias, stride=stride, padding=padding, dilation=dilation, mask=mask
        )
    _check_shapes(x, offset, weight, mask, stride, padding, dilation)
    n, channels = x.shape[:2]
    out_channels, group_channels, *kernel_size = weight.shape
    samples = _gather_samples(x, offset, mask, kernel_size, stride, padding, dilation)
    if group_channels == channels:
        flat_weight = weight.flatten(2).transpose(1, 2).flatten(1)
        out = samples.flatten(2).matmul(flat_weight.t()).transpose(1, 2)
    else:  # a convolution over the kernel's points reads the groups where they lie
        flat_weight = weight.flatten(2)[:, :, None]
        out = F.conv2d(samples.permute(0, 3, 1, 2), flat_weight, groups=channels // group_channels)
    out = out.reshape(n, out_channels, *offset.shape[-2:])
    # As PyTorch's convolution has it: the layout of the input.
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    out = out.contiguous(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )
    return out if bias is None else out + bias.view(-1, 1, 1)


def _check_shapes(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    stride: int,
    padding: int,
    dilation: int,
) -> None:
    """Raise a ValueError where they do not fit together."""
    n, channels, *in_size = x.shape
    num_points = weight.shape[2] * weight.shape[3]
    num_groups = max(offset.shape[1] // (2 * num_points), 1)
    size = [
        (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for side, kernel in zip(in_size, weight.shape[2:], strict=True)
    ]
    expected = (n, 2 * num_groups * num_points, *size)
    if offset.shape != expected:
        raise ValueError(f"offset has the shape {tuple(offset.shape)}; it must be {expected}")
    expected = (n, num_groups * num_points, *size)
    if mask is not None and mask.shape != expected:
        raise ValueError(f"mask has the shape {tuple(mask.shape)}; it must be {expected}")
    if channels % num_groups or channels % weight.shape[1]:
        raise ValueError(
            f"{channels} channels of x do not divide into the {num_groups} groups of the offset, "
            f"or into the groups of {weight.shape[1]} channels of the weight"
        )


def _gather_samples(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    kernel_size: list[int],
    stride: int,
    padding: int,
    dilation: int,
) -> Tensor:
    """What each of the kernel's points sees at each of L = H' * W' cells: (N, L, kh * kw, C)."""
    n, channels, in_height, in_width = x.shape
    height, width = offset.shape[-2:]
    num_points = kernel_size[0] * kernel_size[1]
    num_groups = offset.shape[1] // (2 * num_points)
    num_cells = height * width

    # Everything about the samples has the shape (N, L, kh * kw, G).
    point = torch.arange(num_points)
    rows = torch.arange(height).repeat_interleave(width)[:, None] * stride - padding
    cols = torch.arange(width).repeat(height)[:, None] * stride - padding
    rows = rows + point // kernel_size[1] * dilation
    cols = cols + point % kernel_size[1] * dilation
    offset = offset.reshape(n, num_groups, num_points, 2, num_cells)
    dy, dx = offset.permute(3, 0, 4, 2, 1)
    rows = _interpolation_cells(rows[:, :, None] + dy, in_height)
    cols = _interpolation_cells(cols[:, :, None] + dx, in_width)
    if mask is not None:
        mask = mask.reshape(n, num_groups, num_points, num_cells).permute(0, 3, 2, 1)
        rows = [(cell, weight * mask) for cell, weight in rows]
    # A cell's channels of one group are a row of the table below.
    start = torch.arange(n * num_groups, dtype=torch.int32).view(n, 1, 1, num_groups)
    start = start * (in_height * in_width)
    rows = [(start + cell * in_width, weight) for cell, weight in rows]
    index = torch.stack([row + col for row, _ in rows for col, _ in cols], dim=-1)
    weight = torch.stack([a * b for _, a in rows for _, b in cols], dim=-1)
    table = x.reshape(n, num_groups, channels // num_groups, in_height * in_width).transpose(2, 3)
    samples = F.embedding_bag(
        index.flatten(0, -2),
        table.flatten(0, -2),
        mode="sum",
        per_sample_weights=weight.flatten(0, -2),
    )
    return samples.view(n, num_cells, num_points, channels)


def _interpolation_cells(position: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    """The two cells around positions on an axis, and the weight of each, 0 outside of the map."""
    # Two cells outside, everything is 0 and flat: clamping there changes no value and no gradient,
    # and keeps far positions in the range of integers.
    position = position.clamp(-2, size + 1)
    low = position.detach().floor()
    fraction = position - low
    cell = low.to(torch.int32)
    return [
        (cell.clamp(0, size - 1), (1 - fraction) * ((cell >= 0) & (cell < size))),
        ((cell + 1).clamp(0, size - 1), fraction * ((cell >= -1) & (cell < size - 1))),
    ]


class DeformConv(nn.Module):
    """A deformable convolution whose offsets and masks are given; square kernels.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: side k of the kernel.
        stride, padding, dilation, groups: as of a convolution.
        bias: whether the convolution has a bias.
        norm: a normalization layer that is applied to the output.
        activation: a function that is applied after the normalization.
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

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        """Convolve (N, C, H, W); see :func:`deform_conv2d` for offset and mask."""
        # float16 cannot hold far positions to a fraction of a cell, and torchvision's operator
        # has no half-precision kernel everywhere.
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
        if not torch.is_autocast_enabled(x.device.type):  # a model of half precision stays one
            out = out.to(x.dtype)
        if self.norm is not None:
            out = self.norm(out)
        return out if self.activation is None else self.activation(out)


def predict_offsets(
    conv: nn.Conv2d, x: Tensor, modulated: bool = True
) -> tuple[Tensor, Tensor | None]:
    """Offsets and masks for a :class:`DeformConv`, in float32 at least.

    Read as three equal parts o1, o2, m, as MMDetection and detectron2 do: the offsets are
    cat(o1, o2) in the order (group, kernel point, (dy, dx)), the masks sigmoid(m).

    Args:
        conv: predicts both, with 3 * G * k * k channels; or 2 * G * k * k, the offsets alone.
        x: (N, C, H, W).
        modulated: whether it predicts masks.

    Returns:
        Offsets (N, 2 * G * k * k, H', W') in cells, and masks (N, G * k * k, H', W') or None.
    """
    # Positions in bfloat16, to 1/128 of a cell at best, moved a loss of the golden data by 2.6 %.
    dtype = torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
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


class ModulatedDeformConv(DeformConv):
    """A modulated deformable convolution that predicts its own offsets and masks.

    The layer that MMDetection calls ``ModulatedDeformConv2dPack``: ``conv_offset`` has a bias,
    3 * deform_groups * k * k channels (see :func:`predict_offsets`) and starts at 0, so that the
    first output is half of a plain convolution's. The padding keeps the size of the map.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: side k of the kernel.
        deform_groups: how many groups of input channels have a field of offsets of their own.
        **kwargs: see :class:`DeformConv`.

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
        **kwargs: object,
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
        return super().forward(x, *predict_offsets(self.conv_offset, x))
