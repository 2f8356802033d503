"""Deformable convolution (DCNv1, DCNv2) on CPU and GPU with no compiled extension."""

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from ..tracing import deform_conv_operator, is_tracing


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
    """Deformable convolution: the same function as ``torchvision.ops.deform_conv2d``.

    On a GPU, torchvision's operator computes it. On a CPU it is one ``embedding_bag``, which
    gathers and weights the four cells around each sample for all channels at once, and one matrix
    product: several times faster than torchvision's, and equal up to rounding, including borders,
    far offsets and gradients. Traces hold torchvision's operator, which runtimes know as
    ``DeformConv``, or the same sums as plain gathers; see
    :func:`~tood.modeling.tracing.exporting`.

    Args:
        x: (N, C, H, W).
        offset: (N, 2 * G * kh * kw, H', W') in cells of x: (dy, dx) of each kernel point of each
            of G channel groups; G follows from its shape.
        weight: (C', C / groups, kh, kw); the number of groups follows from its shape.
        bias: (C',).
        mask: (N, G * kh * kw, H', W'), the factor of each sample; None for 1 (DCNv1).
        stride: distance of output cells, in cells of x.
        padding: cells of zeros around x.
        dilation: distance of kernel points.

    Returns:
        (N, C', H', W').

    Raises:
        ValueError: the shapes do not fit together (on a GPU: torchvision's RuntimeError).
    """
    traced = is_tracing()
    if deform_conv_operator() == "torchvision" if traced else x.device.type != "cpu":
        return torchvision.ops.deform_conv2d(
            x, offset, weight, bias, stride=stride, padding=padding, dilation=dilation, mask=mask
        )
    if not traced:
        _validate_shapes(x, offset, weight, mask, stride, padding, dilation)
    n, channels = x.shape[:2]
    out_channels, group_channels, *kernel_size = weight.shape
    samples = _gather_samples(x, offset, mask, kernel_size, stride, padding, dilation)
    if group_channels == channels:
        flat_weight = weight.flatten(2).transpose(1, 2).flatten(1)
        out = samples.flatten(2).matmul(flat_weight.t()).transpose(1, 2)
    else:  # a convolution over the kernel points reads the groups in place
        flat_weight = weight.flatten(2)[:, :, None]
        out = F.conv2d(samples.permute(0, 3, 1, 2), flat_weight, groups=channels // group_channels)
    out = out.reshape(n, out_channels, *offset.shape[-2:])
    # Keep the memory format of the input, as PyTorch's convolution does.
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    out = out.contiguous(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )
    return out if bias is None else out + bias.view(-1, 1, 1)


def _validate_shapes(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    stride: int,
    padding: int,
    dilation: int,
) -> None:
    """Raise a ValueError if the shapes do not fit together."""
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
    """Samples of each kernel point at each of L = H' * W' cells: (N, L, kh * kw, C)."""
    n, channels, in_height, in_width = x.shape
    height, width = offset.shape[-2:]
    num_points = kernel_size[0] * kernel_size[1]
    num_groups = offset.shape[1] // (2 * num_points)
    num_cells = height * width

    # All quantities per sample have the shape (N, L, kh * kw, G).
    point = torch.arange(num_points)
    row, col = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    rows = row.reshape(-1, 1) * stride - padding
    cols = col.reshape(-1, 1) * stride - padding
    rows = rows + point // kernel_size[1] * dilation
    cols = cols + point % kernel_size[1] * dilation
    offset = offset.reshape(n, num_groups, num_points, 2, num_cells)
    dy, dx = offset.permute(3, 0, 4, 2, 1).unbind(0)
    rows = _interpolation_cells(rows[:, :, None] + dy, in_height)
    cols = _interpolation_cells(cols[:, :, None] + dx, in_width)
    if mask is not None:
        mask = mask.reshape(n, num_groups, num_points, num_cells).permute(0, 3, 2, 1)
        rows = [(cell, weight * mask) for cell, weight in rows]
    # One row of the table below holds a cell's channels of one group.
    start = torch.arange(n * num_groups, dtype=torch.int32).view(n, 1, 1, num_groups)
    start = start * (in_height * in_width)
    rows = [(start + cell * in_width, weight) for cell, weight in rows]
    index = torch.stack([row + col for row, _ in rows for col, _ in cols], dim=-1)
    weight = torch.stack([a * b for _, a in rows for _, b in cols], dim=-1)
    table = x.reshape(n, num_groups, channels // num_groups, in_height * in_width).transpose(2, 3)
    samples = _weighted_rows(table.flatten(0, -2), index.flatten(0, -2), weight.flatten(0, -2))
    return samples.view(n, num_cells, num_points, channels)


def _weighted_rows(table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Sums of four rows of ``table`` (T, C) with the indices and weights (S, 4): (S, C)."""
    if is_tracing():
        corners = zip(index.long().unbind(1), weight.unsqueeze(2).unbind(1), strict=True)
        first, *others = [table[rows] * factors for rows, factors in corners]
        return sum(others, start=first)
    return F.embedding_bag(index, table, mode="sum", per_sample_weights=weight)


def _interpolation_cells(position: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    """The two cells around positions on an axis, and their weights, 0 outside of the map."""
    # Two cells outside of the map all values and gradients are 0: clamping there changes neither,
    # and keeps far positions in the range of integers.
    position = position.clamp(-2, size + 1)
    low = position.detach().floor()
    fraction = position - low
    cell = low.to(torch.int32)
    return [
        (cell.clamp(0, size - 1), (1 - fraction) * ((cell >= 0) & (cell < size))),
        ((cell + 1).clamp(0, size - 1), fraction * ((cell >= -1) & (cell < size - 1))),
    ]
