"""The conventional head with one tower of convolutions for each task, and its aligned variant.

Shapes: **N** images, **Hi, Wi** the map of level i, **K** classes, **C** channels. Boxes are
(x1, y1, x2, y2) in strides of their level.
"""

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ..structures import DensePredictions
from .base import DENSE_HEAD_REGISTRY
from .box_coding import Scale, decode_boxes
from .common import (
    bias_init_with_prob,
    common_head_args,
    conv_norm_relu,
    init_weights,
    validate_head_args,
)
from .task_alignment import align_boxes, align_scores, alignment_module


@DENSE_HEAD_REGISTRY.register()
class ParallelHead(nn.Module):
    """Two towers, one for classification and one for localization, shared by all levels.

    The head that the paper compares T-head with: ATSS's and FCOS's, with a centerness branch on
    the localization tower; without that branch it is RetinaNet's and FoveaBox's, with
    normalization. With ``with_tap`` scores and boxes are aligned as in T-head, by M and O that
    are read off the last layers of both towers: the paper's "TAP" (Table 2).

    Args:
        in_channels: channels of the input features.
        num_classes: K.
        strides: stride of each level, in pixels.
        num_convs: layers of each tower.
        channels: C, channels of each layer.
        norm: detectron2's name of the normalization.
        num_dcn: how many layers of each tower, from the first on, are deformable (DCNv2).
        anchor_type: what is regressed, one of :data:`ANCHOR_TYPES`.
        prior_prob: score of every point at the start of training.
        centerness: predict centerness too.
        with_tap: with the task-aligned predictor.
        conv_bias: the towers' convolutions have biases although a normalization follows.

    Raises:
        ConfigError: an unknown anchor_type, or counts that make no sense.
    """

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        strides: list[int],
        num_convs: int = 4,
        channels: int = 256,
        norm: str = "GN",
        num_dcn: int = 0,
        anchor_type: str = "anchor_free",
        prior_prob: float = 0.01,
        centerness: bool = False,
        with_tap: bool = False,
        conv_bias: bool = False,
    ) -> None:
        super().__init__()
        validate_head_args(anchor_type, num_classes, num_convs, num_dcn)
        self.num_classes, self.strides, self.anchor_type = num_classes, strides, anchor_type

        def tower() -> nn.Sequential:
            """The layers of one task."""
            return nn.Sequential(
                *(
                    conv_norm_relu(
                        channels if i else in_channels,
                        channels,
                        3,
                        norm,
                        deformable=i < num_dcn,
                        bias=conv_bias,
                    )
                    for i in range(num_convs)
                )
            )

        self.cls_convs, self.reg_convs = tower(), tower()
        self.cls_score = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(channels, 4, 3, padding=1)
        self.centerness = nn.Conv2d(channels, 1, 3, padding=1) if centerness else None
        self.scales = nn.ModuleList(Scale() for _ in strides)
        self.cls_prob_module = self.reg_offset_module = None
        if with_tap:
            self.cls_prob_module = alignment_module(2 * channels, channels, 1)
            self.reg_offset_module = alignment_module(2 * channels, channels, 8)
        init_weights(self, small_std=("reg_offset_module",))
        bias_init_with_prob(self.cls_score, prior_prob)
        if with_tap:
            bias_init_with_prob(self.cls_prob_module[-1], prior_prob)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict:
        """Constructor arguments from ``cfg.MODEL.TOOD`` and the shapes of the levels."""
        node = cfg.MODEL.TOOD.PARALLEL_HEAD
        return {
            **common_head_args(cfg, input_shape),
            "centerness": node.CENTERNESS,
            "with_tap": node.WITH_TAP,
            "conv_bias": node.CONV_BIAS,
        }

    def forward(self, features: list[Tensor], anchors: list[Tensor]) -> DensePredictions:
        """Predict on all levels.

        Args:
            features: per level (N, C_in, Hi, Wi).
            anchors: per level (Hi * Wi, 4) in image pixels, one a cell, row by row.

        Returns:
            Scores, boxes and, with that branch, centerness; see :class:`DensePredictions`.
        """
        levels = zip(features, anchors, self.scales, self.strides, strict=True)
        scores, boxes, centerness = zip(*(self._forward_level(*x) for x in levels), strict=True)
        return DensePredictions(
            list(scores), list(boxes), list(centerness) if self.centerness is not None else None
        )

    def _forward_level(
        self, x: Tensor, anchors: Tensor, scale: Scale, stride: int
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Scores (N, K, Hi, Wi), boxes (N, 4, Hi, Wi) and centerness (N, 1, Hi, Wi) of a level."""
        cls_features, reg_features = self.cls_convs(x), self.reg_convs(x)
        logits = self.cls_score(cls_features).float()
        regression = self.bbox_pred(reg_features).float()
        boxes = decode_boxes(regression, anchors, scale, stride, self.anchor_type)
        if self.cls_prob_module is None:
            scores = logits.sigmoid()
        else:
            both = torch.cat([cls_features, reg_features], dim=1)
            scores = align_scores(logits, self.cls_prob_module(both).float())
            boxes = align_boxes(boxes, self.reg_offset_module(both).float())
        if self.centerness is None:
            return scores, boxes, None
        return scores, boxes, self.centerness(reg_features).float().sigmoid()
