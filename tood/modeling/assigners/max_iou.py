"""RetinaNet's rule."""

import torch
from torch import Tensor

from ..box_ops import box_iou
from ..structures import IGNORED, UNMATCHED, AssignerInput, Assignment
from .base import ASSIGNER_REGISTRY, Assigner, gather_gt_classes, validate_ground_truth


@ASSIGNER_REGISTRY.register()
class MaxIoUAssigner(Assigner):
    """RetinaNet's rule (Lin et al., ICCV 2017), as detectron2's ``Matcher`` has it.

    An anchor belongs to the box that it overlaps most, if by the upper threshold or more; it is
    background below the lower one, and takes part in no loss in between. The anchors that overlap
    some box more than all others do, by however little, belong to the box that they overlap most
    too (in MMDetection to that box).

    Args:
        neg_iou_thresh: below it an anchor is background.
        pos_iou_thresh: from it on an anchor is positive.

    Raises:
        ValueError: thresholds that are not in order.
    """

    config_node = "ASSIGNERS.MAX_IOU"

    def __init__(self, neg_iou_thresh: float = 0.4, pos_iou_thresh: float = 0.5) -> None:
        if not 0 < neg_iou_thresh <= pos_iou_thresh <= 1:
            raise ValueError(
                f"neg_iou_thresh ({neg_iou_thresh}) and pos_iou_thresh ({pos_iou_thresh}) must "
                "be in order, above 0 and at most 1"
            )
        self.neg_iou_thresh, self.pos_iou_thresh = neg_iou_thresh, pos_iou_thresh

    @torch.no_grad()
    def assign(self, samples: AssignerInput, gt_boxes: Tensor, gt_classes: Tensor) -> Assignment:
        """See :meth:`Assigner.assign`."""
        num_classes = samples.pred_scores.shape[1]
        validate_ground_truth(gt_boxes, gt_classes, num_classes)
        if len(gt_boxes) == 0 or len(samples.anchors) == 0:
            matched_idxs = torch.full_like(samples.strides, UNMATCHED, dtype=torch.int64)
            return Assignment(matched_idxs, torch.full_like(matched_idxs, num_classes))
        ious = box_iou(gt_boxes[:, None], samples.anchors)
        most, matched_idxs = ious.max(0)
        # Without the second condition, a box that overlaps no anchor would have all of them.
        is_best = ((ious == ious.amax(1, keepdim=True)) & (ious > 0)).any(0)
        positive = is_best | (most >= self.pos_iou_thresh)
        matched_idxs = torch.where(positive, matched_idxs, UNMATCHED)
        classes = gather_gt_classes(matched_idxs, gt_classes, num_classes)
        between = ~positive & (most >= self.neg_iou_thresh)
        return Assignment(matched_idxs, torch.where(between, IGNORED, classes))
