"""Bilinear sampling with one offset per channel and cell."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Cells of zeros above and left of the map; below and right of it is one more.
_BORDER = 2


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
    # and a border of zeros holds every corner, so that none needs a test.
    y = (rows[:, None] + dy).clamp(-_BORDER, height + 1)
    x = (columns + dx).clamp(-_BORDER, width + 1)
    top, left = y.detach().floor(), x.detach().floor()
    down, right = y - top, x - left

    padded = F.pad(values, (_BORDER, _BORDER + 1, _BORDER, _BORDER + 1))
    flat, stride = padded.flatten(2), width + 2 * _BORDER + 1
    index = ((top.long() + _BORDER) * stride + (left.long() + _BORDER)).flatten(2)
    # NaN has no integer value, but its index must be valid.
    index = index.clamp(0, (height + 2 * _BORDER) * stride - 2)

    def corner(step: int) -> Tensor:
        """Values that far behind the top left corner."""
        return flat.gather(2, index + step).view_as(values)

    upper = corner(0) * (1 - right) + corner(1) * right
    lower = corner(stride) * (1 - right) + corner(stride + 1) * right
    return upper * (1 - down) + lower * down
