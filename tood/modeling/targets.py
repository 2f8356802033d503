"""From ground truth to labels: the points of a batch, and what an assigner makes of them.

Shapes: **N** images, **L** levels, **Hi, Wi** the map of level i, **R** points over all levels,
**M** ground truths of one image, **K** classes. Pixels are those of the network's input.
"""

import torch
from torch import Tensor

from .assigners import IGNORED, Assigner, AssignerInput, Assignment
from .structures import AnchorGrid, DenseTargets, FlatPredictions


def _round_up(value: int, divisor: int) -> int:
    return -(-value // divisor) * divisor if divisor > 1 else value


def _take_rows(values: Tensor, idxs: Tensor) -> Tensor:
    """The rows ``idxs``, of which there are no two alike and none out of order."""
    return values if len(idxs) == len(values) else values[idxs]


@torch.no_grad()
def compute_targets(
    assigner: Assigner,
    predictions: FlatPredictions,
    points: AnchorGrid,
    image_sizes: list[tuple[int, int]],
    size_divisor: int,
    gt_boxes: list[Tensor],
    gt_classes: list[Tensor],
) -> tuple[DenseTargets, list[Assignment]]:
    """What each point of a batch is to predict; each image on its own.

    Args:
        assigner: decides.
        predictions: of the batch.
        points: the batch's points.
        image_sizes: (height, width) of each image without any padding.
        size_divisor: what the backbone needs sizes to be multiples of. Cells beyond an image's own
            size, rounded up to that, are padding of the batch: they take no part in the
            assignment, nor in any loss.
        gt_boxes: per image (M, 4) pixels.
        gt_classes: per image (M,) int64.

    Returns:
        The labels, and each image's assignment of the points inside it.
    """
    assignments, labels = [], []
    for scores, boxes, size, image_gt_boxes, image_gt_classes in zip(
        predictions.scores,
        predictions.boxes * points.strides,
        image_sizes,
        gt_boxes,
        gt_classes,
        strict=True,
    ):
        inside, counts = points.indices_inside(
            *(_round_up(int(side), size_divisor) for side in size)
        )
        samples = AssignerInput(
            _take_rows(scores, inside),
            _take_rows(boxes, inside),
            _take_rows(points.anchors, inside),
            _take_rows(points.centers, inside),
            _take_rows(points.strides[:, 0], inside),
            counts,
        )
        assignment = assigner.assign(samples, image_gt_boxes.float(), image_gt_classes)
        assignments.append(assignment)
        labels.append(
            _scatter_to_batch(assignment, inside, image_gt_boxes.float(), len(points.anchors))
        )
    classes, boxes, metrics = zip(*labels, strict=True)
    return DenseTargets(
        gt_classes=torch.stack(classes),
        gt_boxes=torch.stack(boxes) / points.strides,
        points=points.centers / points.strides,
        norm_alignment_metrics=None if metrics[0] is None else torch.stack(metrics),
    ), assignments


def _scatter_to_batch(
    assignment: Assignment, inside: Tensor, gt_boxes: Tensor, num_points: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Spread an assignment of the points ``inside`` an image over all R points of the batch."""
    gt_classes = assignment.gt_classes.new_full((num_points,), IGNORED)
    gt_classes[inside] = assignment.gt_classes
    # Index -1, background, picks the box of zeros at the end.
    boxes = torch.cat([gt_boxes, gt_boxes.new_zeros(1, 4)])
    matched_boxes = gt_boxes.new_zeros(num_points, 4)
    matched_boxes[inside] = boxes[assignment.matched_idxs]
    metrics = assignment.norm_alignment_metrics
    if metrics is not None:
        metrics = metrics.new_zeros(num_points).index_copy(0, inside, metrics)
    return gt_classes, matched_boxes, metrics
