"""Windows of timm's Swin blocks for maps whose size is no multiple of the window.

timm rolls such a map before it pads it. The border that the rolling moves then lies before the
padding, but the mask expects it at the end, so that pixels of opposite sides attend to each other.
Here the map is padded first, as in Swin's own detectors (Liu et al., ICCV 2021). Maps that need no
padding give what timm computes.
"""

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# What keeps a pixel from attending to one of another region: timm's value.
_MASKED = -100.0


def pad_before_rolling(net: nn.Module) -> int:
    """Let the Swin blocks of a network pad their maps before they roll them.

    Args:
        net: changed in place.

    Returns:
        The number of blocks.
    """
    blocks = [module for module in net.modules() if _is_swin_block(module)]
    for block in blocks:
        vars(block)["_attn"] = MethodType(_attend, block)
    return len(blocks)


def _is_swin_block(module: nn.Module) -> bool:
    kind = type(module)
    return kind.__name__ == "SwinTransformerBlock" and kind.__module__.startswith("timm.")


def _attend(block: Any, x: Tensor) -> Tensor:
    """Attention within windows (N, H, W, C) -> (N, H, W, C)."""
    (size_y, size_x), (shift_y, shift_x) = block.window_size, block.shift_size
    height, width, channels = x.shape[1:]
    x = F.pad(x, (0, 0, 0, -width % size_x, 0, -height % size_y))
    padded_height, padded_width = x.shape[1:3]
    grid = (padded_height // size_y, size_y, padded_width // size_x, size_x)
    mask = None
    if shift_y or shift_x:
        x = torch.roll(x, (-shift_y, -shift_x), dims=(1, 2))
        mask = _shift_mask(x, grid, (shift_y, shift_x))
    windows = x.reshape(-1, *grid, channels).transpose(2, 3)
    windows = windows.reshape(-1, size_y * size_x, channels)
    windows = block.attn(windows, mask=mask)
    windows = windows.reshape(-1, grid[0], grid[2], size_y, size_x, channels).transpose(2, 3)
    x = windows.reshape(-1, padded_height, padded_width, channels)
    if shift_y or shift_x:
        x = torch.roll(x, (shift_y, shift_x), dims=(1, 2))
    return x[:, :height, :width].contiguous()


def _shift_mask(x: Tensor, grid: tuple[int, int, int, int], shift: tuple[int, int]) -> Tensor:
    """What is added to the attention of each window of a rolled map: (windows, area, area)."""
    rows_of, size_y, columns_of, size_x = grid
    rows = _regions(x.shape[1], size_y, shift[0], x)
    columns = _regions(x.shape[2], size_x, shift[1], x)
    regions = (3 * rows[:, None] + columns).reshape(rows_of, size_y, columns_of, size_x)
    regions = regions.transpose(1, 2).reshape(-1, size_y * size_x)  # (windows, area)
    return (regions[:, None] != regions[:, :, None]).to(x.dtype) * _MASKED


def _regions(length: int, window: int, shift: int, x: Tensor) -> Tensor:
    """For each row the region that it may attend to: whole windows, the rest, what was moved."""
    places = torch.arange(length, device=x.device)
    return (places >= length - window).long() + (places >= length - shift).long()
