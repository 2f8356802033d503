"""RetinaNet's rule."""

import torch
from torch import Tensor

from ..box_ops import box_iou
from ..structures import IGNORED, UNMATCHED, Assignment, ImageSamples
from .base import ASSIGNER_REGISTRY, Assigner, check_ground_truth, classes_of_matches


@ASSIGNER_REGISTRY.register()
class IoUAssigner(Assigner):
    """RetinaNet's rule (Lin et al., ICCV 2017), as detectron2's ``Matcher`` has it.

    An anchor belongs to the box that it overlaps most, if by the upper threshold or more; it is
    background below the lower one, and takes part in no loss in between. The anchors that overlap
    some box more than all others do, by however little, belong to the box that they overlap most
    too (in MMDetection to that box).

    Args:
        negative_thresh: below it an anchor is background.
        positive_thresh: from it on an anchor is positive.

    Raises:
        ValueError: thresholds that are not in order.
    """

    config_node = "IOU"

    def __init__(self, negative_thresh: float = 0.4, positive_thresh: float = 0.5) -> None:
        if not 0 < negative_thresh <= positive_thresh <= 1:
            raise ValueError(
                f"negative_thresh ({negative_thresh}) and positive_thresh ({positive_thresh}) must "
                "be in order, above 0 and at most 1"
            )
        self.negative_thresh, self.positive_thresh = negative_thresh, positive_thresh

    @torch.no_grad()
    def assign(self, samples: ImageSamples, gt_boxes: Tensor, gt_classes: Tensor) -> Assignment:
        """See :meth:`Assigner.assign`."""
        num_classes = samples.pred_scores.shape[1]
        check_ground_truth(gt_boxes, gt_classes, num_classes)
        if len(gt_boxes) == 0 or len(samples.anchors) == 0:
            matched_idxs = torch.full_like(samples.strides, UNMATCHED, dtype=torch.int64)
            return Assignment(matched_idxs, torch.full_like(matched_idxs, num_classes))
        ious = box_iou(gt_boxes[:, None], samples.anchors)
        most, matched_idxs = ious.max(0)
        # Without the second condition, a box that overlaps no anchor would have all of them.
        is_best = ((ious == ious.amax(1, keepdim=True)) & (ious > 0)).any(0)
        positive = is_best | (most >= self.positive_thresh)
        matched_idxs = torch.where(positive, matched_idxs, UNMATCHED)
        classes = classes_of_matches(matched_idxs, gt_classes, num_classes)
        between = ~positive & (most >= self.negative_thresh)
        return Assignment(matched_idxs, torch.where(between, IGNORED, classes))
