"""The conventional head with one tower of convolutions per task, and its aligned variant.

Shapes: **N** images, **Hi, Wi** the map of level i, **K** classes, **C** channels.
"""

from typing import Any, ClassVar

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from .base import DENSE_HEAD_REGISTRY, DenseHead
from .box_coding import Scale, decode_boxes
from .common import bias_init_with_prob, conv_stack, init_weights
from .task_alignment import AlignmentBranch, align_boxes, align_scores


@DENSE_HEAD_REGISTRY.register()
class ParallelHead(DenseHead):
    """Two towers, one for classification and one for localization, shared by all levels.

    The head that the paper compares T-head with: ATSS's and FCOS's, with a centerness branch on the
    localization tower; without that branch RetinaNet's and FoveaBox's, plus normalization. With
    ``with_tap`` scores and boxes are aligned as in T-head, by M and O that are predicted from the
    last layers of both towers: "TAP" of Table 2.

    Args:
        num_convs: layers of each tower.
        centerness: predict centerness too.
        with_tap: use the task-aligned predictor.
        conv_bias: give the towers' convolutions biases although a normalization follows.
        **common: see :class:`DenseHead`.
    """

    class_specific_parameters: ClassVar[tuple[str, ...]] = ("cls_score.weight", "cls_score.bias")

    @configurable
    def __init__(
        self,
        *,
        num_convs: int = 4,
        centerness: bool = False,
        with_tap: bool = False,
        conv_bias: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(num_convs=num_convs, **common)
        channels = self.channels
        self.cls_convs, self.reg_convs = (
            nn.Sequential(
                *conv_stack(
                    num_convs, self.in_channels, channels, self.norm, self.num_dcn, bias=conv_bias
                )
            )
            for _ in range(2)
        )
        self.cls_score = nn.Conv2d(channels, self.num_classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(channels, 4, 3, padding=1)
        self.centerness = nn.Conv2d(channels, 1, 3, padding=1) if centerness else None
        self.predicts_centerness = centerness
        self.cls_prob_module = self.reg_offset_module = None
        if with_tap:
            self.cls_prob_module = AlignmentBranch(2 * channels, channels, 1)
            self.reg_offset_module = AlignmentBranch(2 * channels, channels, 8)
        init_weights(self, small_std=("reg_offset_module",))
        bias_init_with_prob(self.cls_score, self.prior_prob)
        if self.cls_prob_module is not None:
            bias_init_with_prob(self.cls_prob_module.output_conv, self.prior_prob)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict:
        """Constructor arguments from ``cfg.MODEL.TOOD`` and the shapes of the levels."""
        node = cfg.MODEL.TOOD.PARALLEL_HEAD
        return {
            **super().from_config(cfg, input_shape),
            "centerness": node.CENTERNESS,
            "with_tap": node.WITH_TAP,
            "conv_bias": node.CONV_BIAS,
        }

    def forward_level(
        self, x: Tensor, anchors: Tensor, scale: Scale, stride: int
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Scores, boxes in strides and centerness of one level; see :class:`DenseHead`."""
        cls_features, reg_features = self.cls_convs(x), self.reg_convs(x)
        logits = self.cls_score(cls_features).float()
        regression = self.bbox_pred(reg_features).float()
        boxes = decode_boxes(regression, anchors, scale, stride, self.anchor_type)
        if self.cls_prob_module is None or self.reg_offset_module is None:
            scores = logits.sigmoid()
        else:
            both = torch.cat([cls_features, reg_features], dim=1)
            scores = align_scores(logits, self.cls_prob_module(both).float())
            boxes = align_boxes(boxes, self.reg_offset_module(both).float())
        if self.centerness is None:
            return scores, boxes, None
        return scores, boxes, self.centerness(reg_features).float().sigmoid()
