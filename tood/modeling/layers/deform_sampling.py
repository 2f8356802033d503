"""Bilinear sampling with one offset per channel and cell."""

import torch
from torch import Tensor


def deform_sampling(values: Tensor, offsets: Tensor) -> Tensor:
    """Resample each channel of a map at positions shifted cell by cell (paper: eq. 6).

    ``out[n, c, i, j] = bilinear(values[n, c], i + dy, j + dx)`` with ``(dy, dx) =
    offsets[n, 2c:2c + 2, i, j]`` and zeros outside the map: the same function as torchvision's
    ``deform_conv2d`` with a 1x1 kernel of ones and one group per channel, which both reference
    implementations call. This version uses gathers: exact up to rounding, also at the borders, in
    the dtype of ``values``, with no compiled extension.

    Args:
        values: (N, C, H, W).
        offsets: (N, 2C, H, W) in cells: dy and dx of channel 0, then of channel 1, and so on.

    Returns:
        (N, C, H, W). Gradients flow to both arguments.

    Raises:
        ValueError: the offsets do not have two channels per channel of the values.
    """
    n, c, height, width = values.shape
    if offsets.shape != (n, 2 * c, height, width):
        raise ValueError(
            f"offsets of shape {tuple(offsets.shape)} do not fit values of shape "
            f"{tuple(values.shape)}: expected {(n, 2 * c, height, width)}"
        )
    dy, dx = offsets.view(n, c, 2, height, width).unbind(2)
    rows = torch.arange(height, device=values.device, dtype=offsets.dtype)
    columns = torch.arange(width, device=values.device, dtype=offsets.dtype)
    # Two cells outside of the map all values and gradients are 0: clamping there changes neither,
    # and keeps the integer positions below in range.
    y = (rows[:, None] + dy).clamp(-2, height + 1)
    x = (columns + dx).clamp(-2, width + 1)
    top, left = y.detach().floor(), x.detach().floor()

    flat = values.flatten(2)

    def corner(row: Tensor, column: Tensor) -> Tensor:
        """Values at integer positions; 0 outside of the map."""
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        # Clamp after the conversion too: NaN has no integer value, and its index must be valid.
        row_index = row.long().clamp(0, height - 1)
        column_index = column.long().clamp(0, width - 1)
        index = row_index * width + column_index
        picked = flat.gather(2, index.flatten(2)).view_as(values)
        return torch.where(inside, picked, picked.new_zeros(()))

    down, right = y - top, x - left
    upper = corner(top, left) * (1 - right) + corner(top, left + 1) * right
    lower = corner(top + 1, left) * (1 - right) + corner(top + 1, left + 1) * right
    return upper * (1 - down) + lower * down
