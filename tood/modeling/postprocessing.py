"""From dense predictions to detections: candidates per level, then clipping and NMS.

The two halves, :func:`select_candidates` and :func:`finalize`, are separate so that predictions of
several views of an image can be merged between them.

Shapes: **Ri** points of level i, **K** classes, **D** candidates or detections. Boxes
(x1, y1, x2, y2) in pixels of the network's input.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms

from .structures import ImageDetections


def select_candidates(
    scores: Tensor,
    boxes: Tensor,
    score_thresh: float,
    topk: int,
    centerness: Tensor | None = None,
    class_ids: Sequence[int] | None = None,
) -> ImageDetections:
    """Select the best (point, class) pairs of one level.

    Args:
        scores: (Ri, K) probabilities.
        boxes: (Ri, 4).
        score_thresh: pairs must score more than this, before centerness.
        topk: maximum number of pairs, ranked by score times centerness.
        centerness: (Ri, 1) probabilities, from heads that predict it.
        class_ids: pairs of these classes only; None for all.

    Returns:
        At most ``topk`` candidates, best first.
    """
    num_points = len(scores)
    if class_ids is not None:
        columns = torch.tensor(class_ids, dtype=torch.int64, device=scores.device)
        scores = scores[:, columns]
    # Class-major, as the head's maps are stored, so flattening does not copy.
    flat_scores = scores.t().flatten()
    idxs = (flat_scores > score_thresh).nonzero().squeeze(1)
    found = flat_scores[idxs]
    if centerness is not None:
        found = found * centerness[idxs % num_points, 0]
    found, order = found.topk(min(topk, len(found)))
    idxs = idxs[order]
    classes = idxs.div(num_points, rounding_mode="floor")
    if class_ids is not None:
        classes = columns[classes]
    return ImageDetections(boxes[idxs % num_points], found, classes)


def merge_candidates(parts: list[ImageDetections]) -> ImageDetections:
    """Concatenate candidates, for example of all levels of one image."""
    return ImageDetections(*(torch.cat(values) for values in zip(*parts, strict=True)))


def finalize(
    candidates: ImageDetections,
    *,
    nms_thresh: float,
    max_detections: int,
    image_size: tuple[int, int] | None,
) -> ImageDetections:
    """Turn candidates of one image into detections: clip, drop empty boxes, NMS, keep the best.

    Clipping comes before NMS, as in the authors' code.

    Args:
        candidates: in any order.
        nms_thresh: boxes of one class with a larger IoU suppress each other.
        max_detections: maximum number of detections; negative for all of them.
        image_size: (height, width) to clip to; None leaves the boxes as predicted, as MMDetection
            does.

    Returns:
        The detections, best first.
    """
    boxes, scores, classes = candidates
    if image_size is not None:
        height, width = image_size
        x1, y1, x2, y2 = boxes.unbind(1)
        boxes = torch.stack(
            [x1.clamp(0, width), y1.clamp(0, height), x2.clamp(0, width), y2.clamp(0, height)],
            dim=1,
        )
    # Drops NaN boxes too: comparisons with NaN are false.
    has_area = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, scores, classes = boxes[has_area], scores[has_area], classes[has_area]
    # batched_nms moves classes apart by the largest coordinate, which clipping makes enough.
    nms_per_class = _nms_of_each_class if image_size is None else batched_nms
    # In float32, also for half-precision models.
    keep = nms_per_class(boxes.float(), scores.float(), classes, nms_thresh)
    if max_detections >= 0:
        keep = keep[:max_detections]
    return ImageDetections(boxes[keep], scores[keep], classes[keep])


def _nms_of_each_class(boxes: Tensor, scores: Tensor, classes: Tensor, nms_thresh: float) -> Tensor:
    """The same as torchvision's ``batched_nms``, also for boxes with negative coordinates.

    torchvision moves classes apart on one plane. There, a box far left of the image or above it
    reaches another class, and a box far to the right rounds the coordinates of all others.

    Returns:
        (D',) indices of the boxes that are kept, best first.
    """
    kept = torch.zeros_like(classes, dtype=torch.bool)
    for label in classes.unique():
        rows = (classes == label).nonzero().squeeze(1)
        kept[rows[nms(boxes[rows], scores[rows], nms_thresh)]] = True
    idxs = kept.nonzero().squeeze(1)
    return idxs[scores[idxs].sort(descending=True, stable=True).indices]


def image_candidates(
    scores: list[Tensor],
    boxes: list[Tensor],
    centerness: list[Tensor] | None = None,
    *,
    score_thresh: float,
    topk_candidates: int,
    class_ids: Sequence[int] | None = None,
) -> ImageDetections:
    """Candidates of all levels of one image; see :func:`select_candidates`.

    Args:
        scores: per level (Ri, K) probabilities.
        boxes: per level (Ri, 4).
        centerness: per level (Ri, 1) probabilities, from heads that predict it.
        score_thresh: candidates must score more than this, before centerness.
        topk_candidates: maximum number of candidates per level.
        class_ids: candidates of these classes only; None for all.
    """
    parts = [
        select_candidates(
            level_scores, level_boxes, score_thresh, topk_candidates, level_centerness, class_ids
        )
        for level_scores, level_boxes, level_centerness in zip(
            scores, boxes, centerness or [None] * len(scores), strict=True
        )
    ]
    return merge_candidates(parts)


def postprocess_single_image(
    scores: list[Tensor],
    boxes: list[Tensor],
    centerness: list[Tensor] | None = None,
    *,
    score_thresh: float,
    topk_candidates: int,
    nms_thresh: float,
    max_detections: int,
    image_size: tuple[int, int] | None,
) -> ImageDetections:
    """Detections of one image.

    Args:
        scores: per level (Ri, K) probabilities.
        boxes: per level (Ri, 4).
        centerness: per level (Ri, 1) probabilities, from heads that predict it: candidates are
            ranked, and detections scored, by the score times this (FCOS, ATSS).
        score_thresh: candidates must score more than this, before centerness.
        topk_candidates: maximum number of candidates per level.
        nms_thresh: see :func:`finalize`.
        max_detections: see :func:`finalize`.
        image_size: see :func:`finalize`.

    Returns:
        The detections, best first.
    """
    candidates = image_candidates(
        scores, boxes, centerness, score_thresh=score_thresh, topk_candidates=topk_candidates
    )
    return finalize(
        candidates,
        nms_thresh=nms_thresh,
        max_detections=max_detections,
        image_size=image_size,
    )
