"""From ground truth to training targets: runs an assigner on every image of a batch.

Shapes: **N** images, **R** points over all levels, **M** ground truths of one image, **K** classes.
"""

import torch
from torch import Tensor

from .assigners import Assigner
from .box_ops import MAX_FINITE_COORDINATE, is_usable_box
from .structures import (
    IGNORED_CLASS,
    UNMATCHED,
    AnchorGrid,
    AssignerInput,
    Assignment,
    DenseTargets,
    FlatPredictions,
    GroundTruth,
)


@torch.no_grad()
def compute_targets(
    assigner: Assigner,
    predictions: FlatPredictions,
    grid: AnchorGrid,
    image_sizes: list[tuple[int, int]],
    size_divisor: int,
    ground_truth: list[GroundTruth],
) -> tuple[DenseTargets, list[Assignment]]:
    """Compute what each point of a batch has to predict; each image on its own.

    GT boxes that are empty, not finite or beyond any image get no points, and change no other box's
    points except that ``MIN_POSITIVES`` may offer them some in vain. The model removes them first
    where that does not synchronize with a GPU.

    Args:
        assigner: matches points to ground truths.
        predictions: of the batch.
        grid: of the batch.
        image_sizes: (height, width) of each image without padding.
        size_divisor: the backbone's divisor of sizes. An image ends at its own size rounded up to
            it; cells beyond are padding of the batch, which is neither assigned nor in any loss
            (MMDetection 3.3.0).
        ground_truth: of each image.

    Returns:
        The targets, and each image's assignment of the points inside it.
    """
    num_classes = predictions.scores.shape[-1]
    assignments, targets = [], []
    for scores, boxes, size, gt in zip(
        predictions.scores, predictions.boxes, image_sizes, ground_truth, strict=True
    ):
        height, width = (_round_up(int(side), size_divisor) for side in size)
        inside, num_anchors_per_level = grid.indices_inside(height, width)
        inputs = AssignerInput(
            scores=_take_rows(scores, inside),
            boxes=_take_rows(boxes, inside),
            anchors=_take_rows(grid.anchors, inside),
            centers=_take_rows(grid.centers, inside),
            strides=_take_rows(grid.strides.flatten(), inside),
            num_anchors_per_level=num_anchors_per_level,
        )
        gt_boxes = gt.boxes.float()
        usable = is_usable_box(gt_boxes)
        # Replaced by an empty box far from every point, instead of removing rows, whose number
        # only the device knows.
        gt_boxes = torch.where(usable[:, None], gt_boxes, MAX_FINITE_COORDINATE)
        assignment = assigner.assign(inputs, gt_boxes, gt.classes)
        if len(gt_boxes):
            assignment = _unmatch_unusable(assignment, usable)
        assignments.append(assignment)
        targets.append(
            _scatter_to_batch(
                assignment, inside, gt_boxes, gt.classes, num_classes, len(grid.anchors)
            )
        )
    classes, matched_boxes, metrics = zip(*targets, strict=True)
    return DenseTargets(
        gt_classes=torch.stack(classes),
        gt_boxes=torch.stack(matched_boxes),
        centers=grid.centers,
        strides=grid.strides,
        norm_alignment_metrics=None if metrics[0] is None else torch.stack(metrics),
    ), assignments


def _unmatch_unusable(assignment: Assignment, usable: Tensor) -> Assignment:
    """Make points background whose ground truth is not usable."""
    # Index -1 (background) and -2 (ignored) read the two values at the end.
    keep = torch.cat([usable, usable.new_ones(2)])[assignment.matched_idxs]
    metrics = (
        None if values is None else torch.where(keep, values, 0.0)
        for values in (assignment.alignment_metrics, assignment.norm_alignment_metrics)
    )
    return Assignment(torch.where(keep, assignment.matched_idxs, UNMATCHED), *metrics)


def _round_up(value: int, divisor: int) -> int:
    return -(-value // divisor) * divisor if divisor else value


def _take_rows(values: Tensor, idxs: Tensor) -> Tensor:
    """Rows ``idxs`` (sorted, unique) of ``values``; returns ``values`` itself if that is all."""
    return values if len(idxs) == len(values) else values[idxs]


def _scatter_to_batch(
    assignment: Assignment,
    inside: Tensor,
    gt_boxes: Tensor,
    gt_classes: Tensor,
    num_classes: int,
    num_points: int,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Scatter the targets of the points ``inside`` an image to all points of the batch."""
    # Index -1 (background) reads the last row, -2 (ignored) the one before it.
    # new_full, because copying from the host would synchronize.
    ignored, background = (gt_classes.new_full((1,), x) for x in (IGNORED_CLASS, num_classes))
    class_table = torch.cat([gt_classes, ignored, background])
    box_table = torch.cat([gt_boxes, gt_boxes.new_zeros(2, 4)])
    matched_classes = class_table.new_full((num_points,), IGNORED_CLASS)
    matched_classes[inside] = class_table[assignment.matched_idxs]
    matched_boxes = gt_boxes.new_zeros(num_points, 4)
    matched_boxes[inside] = box_table[assignment.matched_idxs]
    metrics = assignment.norm_alignment_metrics
    if metrics is not None:
        metrics = metrics.new_zeros(num_points).index_copy(0, inside, metrics)
    return matched_classes, matched_boxes, metrics
