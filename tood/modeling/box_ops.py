"""Geometry of boxes and points: pure functions of tensors.

Boxes are (x1, y1, x2, y2), points (x, y). Every function works in whatever unit its arguments
share. Shapes: **R** points or predictions, **M** ground truths of one image.
"""

import torch
from torch import Tensor

# A point is inside a box if its distance to every side exceeds this (pixels), as in both
# references. Strict, so points on an edge are outside.
INSIDE_MARGIN = 0.01


# Pixels. No image reaches this far, and float32 still holds products of such sides.
MAX_FINITE_COORDINATE = 1e8


def is_usable_box(boxes: Tensor) -> Tensor:
    """Whether boxes can be ground truth: finite, in reach of an image, and not empty.

    Args:
        boxes: (..., 4) in pixels.

    Returns:
        (...) bool.
    """
    x1, y1, x2, y2 = boxes.unbind(-1)
    # False for NaN: comparisons with it are.
    return (boxes.abs().amax(-1) <= MAX_FINITE_COORDINATE) & (x2 > x1) & (y2 > y1)


def box_area(boxes: Tensor) -> Tensor:
    """Areas of boxes; an inverted box has area 0.

    Args:
        boxes: (..., 4).

    Returns:
        (...) areas, never negative.
    """
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x2 - x1).clamp(min=0) * (y2 - y1).clamp(min=0)


def box_iou(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-6) -> Tensor:
    """Intersection over union of boxes that broadcast against each other.

    Equal to MMDetection's ``bbox_overlaps`` for boxes that are not inverted. Works in place on its
    own temporaries, so call it without gradients.

    Args:
        boxes1: (..., 4).
        boxes2: (..., 4), of a shape that broadcasts with ``boxes1``.
        eps: lower bound of the union, in the unit of the area.

    Returns:
        (...) values in [0, 1], also for inverted and zero-sized boxes.
    """
    x1, y1, x2, y2 = boxes1.unbind(-1)
    u1, v1, u2, v2 = boxes2.unbind(-1)
    inter = torch.minimum(x2, u2).sub_(torch.maximum(x1, u1)).clamp_(min=0)
    inter.mul_(torch.minimum(y2, v2).sub_(torch.maximum(y1, v1)).clamp_(min=0))
    union = (box_area(boxes1) + box_area(boxes2)).sub_(inter).clamp_(min=eps)
    # At most 1 despite rounding; a soft label above 1 would break binary cross entropy.
    return inter.div_(union)


def points_inside_boxes(points: Tensor, boxes: Tensor, margin: float = INSIDE_MARGIN) -> Tensor:
    """Test whether points lie inside boxes by more than ``margin`` on all four sides.

    Args:
        points: (..., 2) in pixels.
        boxes: (..., 4) in pixels, of a shape that broadcasts with ``points``.
        margin: in pixels; the comparison is strict.

    Returns:
        (...) bool.
    """
    x, y = points.unbind(-1)
    x1, y1, x2, y2 = boxes.unbind(-1)
    nearest = torch.minimum(torch.minimum(x - x1, x2 - x), torch.minimum(y - y1, y2 - y))
    return nearest > margin


def box_centers(boxes: Tensor) -> Tensor:
    """Centers (..., 2) of boxes (..., 4)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def centerness(points: Tensor, boxes: Tensor) -> Tensor:
    """FCOS's centerness: 1 at the center of a box, 0 on its edges and outside.

    sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)), with the distances l, t, r, b of the point
    to the four sides. A point on an edge, or an empty box, gives 0 instead of the plain formula's
    0 / 0.

    Args:
        points: (..., 2).
        boxes: (..., 4), of a shape that broadcasts with ``points``.

    Returns:
        (...) values in [0, 1].
    """
    x, y = points.unbind(-1)
    x1, y1, x2, y2 = boxes.unbind(-1)
    left, top, right, bottom = x - x1, y - y1, x2 - x, y2 - y
    tiny = torch.finfo(x.dtype).tiny
    horizontal = torch.minimum(left, right) / torch.maximum(left, right).clamp(min=tiny)
    vertical = torch.minimum(top, bottom) / torch.maximum(top, bottom).clamp(min=tiny)
    return (horizontal.clamp(min=0) * vertical.clamp(min=0)).sqrt()


def distances_to_boxes(points: Tensor, distances: Tensor) -> Tensor:
    """Boxes around points; MMDetection's ``distance2bbox``, for the anchor-free variant.

    Args:
        points: (..., 2).
        distances: (..., 4) to the left, top, right and bottom side, in the unit of the points.

    Returns:
        (..., 4) boxes.
    """
    return torch.cat([points - distances[..., :2], points + distances[..., 2:]], dim=-1)


def boxes_to_distances(points: Tensor, boxes: Tensor) -> Tensor:
    """Distances of points to the sides of boxes; the inverse of :func:`distances_to_boxes`.

    Args:
        points: (..., 2).
        boxes: (..., 4), of a shape that broadcasts with ``points``.

    Returns:
        (..., 4) distances to the left, top, right and bottom side, negative beyond it.
    """
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], dim=-1)


def deltas_to_boxes(
    anchors: Tensor,
    deltas: Tensor,
    weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0),
    max_log_ratio: float = 4.135166556742356,
) -> Tensor:
    """Decode (dx, dy, dw, dh) like MMDetection's ``DeltaXYWHBBoxCoder``.

    Args:
        anchors: (..., 4).
        deltas: (..., 4).
        weights: divisors of the deltas, the inverse of the coder's standard deviations 0.1, 0.1,
            0.2, 0.2.
        max_log_ratio: dw and dh are clamped to plus and minus this, |ln(16 / 1000)|.

    Returns:
        (..., 4) boxes in the unit of the anchors.
    """
    size = anchors[..., 2:] - anchors[..., :2]
    # One by one: a tensor of weights would be copied from the host, which synchronizes.
    dx, dy, dw, dh = (deltas[..., i] / weight for i, weight in enumerate(weights))
    center = box_centers(anchors) + size * torch.stack([dx, dy], dim=-1)
    log_ratio = torch.stack([dw, dh], dim=-1).clamp(-max_log_ratio, max_log_ratio)
    half = size * log_ratio.exp() / 2
    return torch.cat([center - half, center + half], dim=-1)
