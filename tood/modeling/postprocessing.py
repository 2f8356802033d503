"""From dense predictions to detections: candidates, clipping, non-maximum suppression.

Shapes: **Ri** points of level i, **K** classes, **D** detections. Boxes (x1, y1, x2, y2) in
pixels of the network's input.
"""

import torch
from detectron2.layers import batched_nms
from torch import Tensor

from .structures import ImageDetections


def select_candidates(
    pred_scores: Tensor,
    pred_boxes: Tensor,
    score_thresh: float,
    topk: int,
    pred_centerness: Tensor | None = None,
) -> ImageDetections:
    """The best (point, class) pairs of one level.

    Args:
        pred_scores: (Ri, K) probabilities.
        pred_boxes: (Ri, 4).
        score_thresh: pairs must score more than this, without centerness.
        topk: at most so many pairs, by their scores times centerness.
        pred_centerness: (Ri, 1) probabilities, from heads that predict it.

    Returns:
        At most ``topk`` candidates, best first.
    """
    num_points = len(pred_scores)
    # Class by class, which is how a head's maps lie in memory: flattening them copies nothing.
    scores = pred_scores.t().flatten()
    idxs = (scores > score_thresh).nonzero().squeeze(1)
    scores = scores[idxs]
    if pred_centerness is not None:
        scores = scores * pred_centerness[idxs % num_points, 0]
    scores, order = scores.topk(min(topk, len(scores)))
    idxs = idxs[order]
    classes = idxs.div(num_points, rounding_mode="floor")
    return ImageDetections(pred_boxes[idxs % num_points], scores, classes)


def postprocess_single_image(
    pred_scores: list[Tensor],
    pred_boxes: list[Tensor],
    pred_centerness: list[Tensor] | None = None,
    *,
    score_thresh: float,
    topk_candidates: int,
    nms_thresh: float,
    max_detections: int,
    image_size: tuple[int, int] | None,
) -> ImageDetections:
    """Detections of one image.

    Per level the best candidates above the threshold; boxes clipped to the image, those without
    area dropped; class-wise non-maximum suppression; the best of what is left. Clipping comes
    before the suppression, as in the authors' code.

    Args:
        pred_scores: per level (Ri, K) probabilities.
        pred_boxes: per level (Ri, 4).
        pred_centerness: per level (Ri, 1) probabilities, from heads that predict it: candidates
            are ranked, and detections scored, by the score times this (FCOS, ATSS).
        score_thresh: candidates must score more than this, without centerness.
        topk_candidates: candidates per level.
        nms_thresh: boxes of one class that overlap by more than this IoU suppress each other.
        max_detections: at most so many detections.
        image_size: (height, width) to clip to; None leaves the boxes as predicted, as
            MMDetection does.
    """
    candidates = [
        select_candidates(scores, boxes, score_thresh, topk_candidates, centerness)
        for scores, boxes, centerness in zip(
            pred_scores, pred_boxes, pred_centerness or [None] * len(pred_scores), strict=True
        )
    ]
    boxes, scores, classes = (torch.cat(parts) for parts in zip(*candidates, strict=True))
    if image_size is not None:
        height, width = image_size
        boxes = torch.stack(
            [
                boxes[:, 0].clamp(0, width),
                boxes[:, 1].clamp(0, height),
                boxes[:, 2].clamp(0, width),
                boxes[:, 3].clamp(0, height),
            ],
            dim=1,
        )
    # An unreadable box (NaN) is not larger than anything either.
    has_area = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, scores, classes = boxes[has_area], scores[has_area], classes[has_area]
    keep = batched_nms(boxes, scores, classes, nms_thresh)[:max_detections]
    return ImageDetections(boxes[keep], scores[keep], classes[keep])
