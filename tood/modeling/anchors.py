"""Anchors of a batch's feature maps."""

import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from torch import Tensor, nn

from .tracing import is_tracing


def generate_anchors(generator: nn.Module, maps: list[Tensor]) -> list[Tensor]:
    """Anchors (Hi * Wi, 4) of each level in pixels, one per cell, row by row.

    Args:
        generator: detectron2's, with one anchor per location.
        maps: per level (N, C, Hi, Wi).
    """
    # Also outside of a trace: detectron2 main copies the cells' coordinates from the host, which
    # waits for a GPU twice per level.
    is_known = type(generator) is DefaultAnchorGenerator
    if is_known or (is_tracing() and isinstance(generator, DefaultAnchorGenerator)):
        return [
            (_grid(level, stride, generator.offset) + cell).float()
            for level, stride, cell in zip(
                maps, generator.strides, generator.cell_anchors, strict=True
            )
        ]
    return [boxes.tensor for boxes in generator(maps)]


def _grid(level: Tensor, stride: int, offset: float) -> Tensor:
    """Each cell's (x, y, x, y), where its anchor is centered: (Hi * Wi, 4).

    detectron2's generator turns the map's size into numbers; this reads it from the map.
    """
    height, width = level.shape[-2:]
    rows = torch.arange(height, device=level.device) * stride + offset * stride
    columns = torch.arange(width, device=level.device) * stride + offset * stride
    y, x = torch.meshgrid(rows.float(), columns.float(), indexing="ij")
    return torch.stack((x, y, x, y), dim=-1).reshape(-1, 4)
