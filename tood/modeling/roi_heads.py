"""detectron2's ROI heads, whose scores may include the proposal's.

Shapes: **P** proposals of one image, **K** classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.modeling.roi_heads import (
    CascadeROIHeads,
    FastRCNNOutputLayers,
    ROIHeads,
    StandardROIHeads,
)
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from detectron2.structures import ImageList, Instances
from torch import Tensor


def multiply_proposal_scores(
    scores: Sequence[Tensor], proposals: Sequence[Instances]
) -> list[Tensor]:
    """Return sqrt(class score * proposal score), as of CenterNet2 (Zhou et al., 2021), eq. 4.

    Args:
        scores: for each image (P, K + 1) probabilities; the last column is the background.
        proposals: for each image Instances with objectness_logits (P,).

    Returns:
        For each image (P, K + 1). The background's score, which nothing reads, is multiplied too.
    """
    return [
        (probs * torch.sigmoid(x.objectness_logits.to(probs.dtype))[:, None]).sqrt()
        for probs, x in zip(scores, proposals, strict=True)
    ]


class ProposalScoreOutputLayers(FastRCNNOutputLayers):
    """detectron2's box predictor, whose scores include the proposal's."""

    def predict_probs(
        self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]
    ) -> list[Tensor]:
        """Scores (P, K + 1) of each image; see `multiply_proposal_scores`."""
        return multiply_proposal_scores(super().predict_probs(predictions, proposals), proposals)


class _FullPrecisionPooling(ROIHeads):
    """ROI heads that pool from float32 maps where autocast has made them float16 or bfloat16.

    detectron2 rounds boxes to the type of the maps before it pools: by up to 4 pixels in bfloat16,
    and by 0.5 in float16, where an image has more than 1024.
    """

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> Any:
        """Detections, or proposals and losses, as in detectron2."""
        return super().forward(images, _at_least_float32(features), proposals, targets)

    def forward_with_given_boxes(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> list[Instances]:
        """Masks and keypoints of boxes, as in detectron2."""
        found: list[Instances] = super().forward_with_given_boxes(
            _at_least_float32(features), instances
        )
        return found


def _at_least_float32(features: dict[str, Tensor]) -> dict[str, Tensor]:
    """What autocast has made; a model that was converted to another type keeps it."""
    return {
        name: x.float() if torch.is_autocast_enabled(x.device.type) else x
        for name, x in features.items()
    }


@ROI_HEADS_REGISTRY.register()
class TOODStandardROIHeads(_FullPrecisionPooling, StandardROIHeads):
    """detectron2's heads with ``MODEL.ROI_BOX_HEAD.MULT_PROPOSAL_SCORE``."""

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        parts: dict[str, Any] = super()._init_box_head(cfg, input_shape)
        if cfg.MODEL.ROI_BOX_HEAD.MULT_PROPOSAL_SCORE:
            shape = parts["box_head"].output_shape
            parts["box_predictor"] = ProposalScoreOutputLayers(cfg, shape)
        return parts


@ROI_HEADS_REGISTRY.register()
class TOODCascadeROIHeads(_FullPrecisionPooling, CascadeROIHeads):
    """detectron2's heads with ``MODEL.ROI_BOX_HEAD.MULT_PROPOSAL_SCORE``.

    Args:
        mult_proposal_score: the value of that key.
        **parts: of ``CascadeROIHeads``.
    """

    @configurable
    def __init__(self, *, mult_proposal_score: bool = False, **parts: Any) -> None:
        super().__init__(**parts)
        self.mult_proposal_score = mult_proposal_score

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Collect the constructor's arguments."""
        return {
            "mult_proposal_score": cfg.MODEL.ROI_BOX_HEAD.MULT_PROPOSAL_SCORE,
            **super().from_config(cfg, input_shape),
        }

    def _forward_box(
        self,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> Any:
        """Losses of all stages, or detections.

        detectron2's method knows the proposals' scores in the first stage only, and averages the
        stages' scores where no method could be overridden.
        """
        if self.training or not self.mult_proposal_score:
            return super()._forward_box(features, proposals, targets)
        maps = [features[name] for name in self.box_in_features]
        image_sizes = [x.image_size for x in proposals]
        stages, boxes = [], proposals
        for k, predictor in enumerate(self.box_predictor):
            predictions = self._run_stage(maps, boxes, k)
            stages.append(predictor.predict_probs(predictions, boxes))
            predicted = predictor.predict_boxes(predictions, boxes)
            boxes = self._create_proposals_from_boxes(predicted, image_sizes)
        scores = [sum(probs) / len(stages) for probs in zip(*stages, strict=True)]
        detections, _ = fast_rcnn_inference(
            predicted,
            multiply_proposal_scores(scores, proposals),
            image_sizes,
            predictor.test_score_thresh,
            predictor.test_nms_thresh,
            predictor.test_topk_per_image,
        )
        return detections
