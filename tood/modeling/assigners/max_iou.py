"""RetinaNet's assignment rule, which the paper compares task alignment learning with."""

import torch
from torch import Tensor

from ..box_ops import box_iou
from ..structures import IGNORED, UNMATCHED, AssignerInput, Assignment
from .base import ASSIGNER_REGISTRY, Assigner, unmatched, validate_ground_truth


@ASSIGNER_REGISTRY.register()
class MaxIoUAssigner(Assigner):
    """RetinaNet's rule (Lin et al., ICCV 2017), as in detectron2's ``Matcher``.

    An anchor is positive for its best ground truth at IoU >= ``pos_iou_thresh``, background below
    ``neg_iou_thresh``, and ignored in between. The best anchor of each ground truth is positive for
    its own best ground truth (in MMDetection: for that ground truth), however small the IoU.

    Args:
        neg_iou_thresh: anchors with a maximum IoU below this are background.
        pos_iou_thresh: anchors with a maximum IoU of at least this are positive.

    Raises:
        ValueError: the thresholds are not in order.
    """

    config_node = "ASSIGNERS.MAX_IOU"

    def __init__(self, neg_iou_thresh: float = 0.4, pos_iou_thresh: float = 0.5) -> None:
        if not 0 < neg_iou_thresh <= pos_iou_thresh <= 1:
            raise ValueError(
                f"neg_iou_thresh ({neg_iou_thresh}) and pos_iou_thresh ({pos_iou_thresh}) must be "
                "in order, above 0 and at most 1"
            )
        self.neg_iou_thresh, self.pos_iou_thresh = neg_iou_thresh, pos_iou_thresh

    def assign(self, inputs: AssignerInput, gt_boxes: Tensor, gt_classes: Tensor) -> Assignment:
        """See :meth:`Assigner.assign`; reads anchors only."""
        validate_ground_truth(gt_boxes, gt_classes)
        if len(gt_boxes) == 0 or len(inputs.anchors) == 0:
            return Assignment(unmatched(len(inputs.anchors), inputs.anchors.device))
        ious = box_iou(gt_boxes[:, None], inputs.anchors)  # (M, R)
        max_iou, matched_idxs = ious.max(0)
        # Without ious > 0, a ground truth that overlaps no anchor would claim all of them.
        is_best = ((ious == ious.amax(1, keepdim=True)) & (ious > 0)).any(0)
        positive = is_best | (max_iou >= self.pos_iou_thresh)
        negative = torch.where(max_iou >= self.neg_iou_thresh, IGNORED, UNMATCHED)
        return Assignment(torch.where(positive, matched_idxs, negative))
