"""Box coding: from the regression output to boxes.

Shapes: **N** images, **H, W** the map of a level. Boxes are (x1, y1, x2, y2) in strides of their
level.
"""

import torch
from torch import Tensor, nn

from ..box_ops import box_centers, deltas_to_boxes, distances_to_boxes

# What the regression output means: logarithms of the distances from the point to the four sides;
# the distances themselves (FCOS), 0 where negative; or deltas to the anchor.
ANCHOR_TYPES = ("anchor_free", "anchor_free_linear", "anchor_based")

# exp() of the regression output is clamped here: e^20 strides are far outside of every image, and
# an infinite side would turn the gradients of the whole batch into NaN.
MAX_LOG_DISTANCE = 20.0


class Scale(nn.Module):
    """A learned factor, one per level."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply ``x`` by the factor."""
        return x * self.scale


def decode_boxes(
    regression: Tensor, anchors: Tensor, scale: nn.Module, stride: int, anchor_type: str
) -> Tensor:
    """Boxes (N, 4, H, W), in strides, from the regression output.

    Args:
        regression: (N, 4, H, W).
        anchors: (H * W, 4) in image pixels, row by row.
        scale: the level's :class:`Scale`.
        stride: of the level, in pixels.
        anchor_type: one of :data:`ANCHOR_TYPES`.
    """
    anchors = anchors.view(1, *regression.shape[-2:], 4) / stride
    regression = regression.permute(0, 2, 3, 1)
    if anchor_type == "anchor_based":
        boxes = deltas_to_boxes(anchors, scale(regression))
    elif anchor_type == "anchor_free":
        distances = scale(regression.clamp(max=MAX_LOG_DISTANCE).exp())
        boxes = distances_to_boxes(box_centers(anchors), distances)
    else:
        boxes = distances_to_boxes(box_centers(anchors), scale(regression).relu())
    return boxes.permute(0, 3, 1, 2)
