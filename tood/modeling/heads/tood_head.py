"""The task-aligned head, T-head (paper: section 3.1).

Shapes: **N** images, **Hi, Wi** the map of level i, **K** classes, **C** channels. Boxes are
(x1, y1, x2, y2) in strides of their level unless said otherwise.
"""

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ..layers import dynamic_conv1x1
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
from .task_alignment import TaskDecomposition, align_boxes, align_scores, alignment_module


@DENSE_HEAD_REGISTRY.register()
class TOODHead(nn.Module):
    """T-head: task-interactive features and a task-aligned predictor (TAP).

    A stack of convolutions shared by both tasks and all levels; a :class:`TaskDecomposition` for
    each task; classification scores sqrt(P * M) with the spatial probability map M (eqs. 5, 7); and
    boxes whose sides are resampled, each by its own learned offset (eqs. 6, 8). Scores, decoding
    and resampling are computed in float32.

    Args:
        in_channels: channels of the input features.
        num_classes: K.
        strides: stride of each level, in pixels.
        num_convs: interactive layers.
        channels: C, channels of each layer.
        norm: detectron2's name of the normalization.
        num_dcn: how many of the interactive layers, from the first on, are deformable (DCNv2).
        anchor_type: what is regressed, one of :data:`ANCHOR_TYPES`.
        prior_prob: score of every point at the start of training.

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
        num_convs: int = 6,
        channels: int = 256,
        norm: str = "GN",
        num_dcn: int = 0,
        anchor_type: str = "anchor_free",
        prior_prob: float = 0.01,
    ) -> None:
        super().__init__()
        validate_head_args(anchor_type, num_classes, num_convs, num_dcn)
        self.num_classes, self.strides, self.anchor_type = num_classes, strides, anchor_type

        self.inter_convs = nn.ModuleList(
            conv_norm_relu(
                channels if i else in_channels, channels, 3, norm, deformable=i < num_dcn
            )
            for i in range(num_convs)
        )
        self.cls_decomp = TaskDecomposition(channels, num_convs, norm)
        self.reg_decomp = TaskDecomposition(channels, num_convs, norm)
        self.tood_cls = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.tood_reg = nn.Conv2d(channels, 4, 3, padding=1)
        self.cls_prob_module = alignment_module(channels * num_convs, channels, 1)
        self.reg_offset_module = alignment_module(channels * num_convs, channels, 8)
        self.scales = nn.ModuleList(Scale() for _ in strides)
        init_weights(self, small_std=("layer_attention", "reg_offset_module"))
        # Each of the two factors of the score starts at prior_prob, and so does their mean.
        bias_init_with_prob(self.tood_cls, prior_prob)
        bias_init_with_prob(self.cls_prob_module[-1], prior_prob)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict:
        """Constructor arguments from ``cfg.MODEL.TOOD`` and the shapes of the levels."""
        return common_head_args(cfg, input_shape)

    def forward(self, features: list[Tensor], anchors: list[Tensor]) -> DensePredictions:
        """Predict on all levels.

        Args:
            features: per level (N, C_in, Hi, Wi).
            anchors: per level (Hi * Wi, 4) in image pixels, one a cell, row by row.

        Returns:
            Scores and boxes; see :class:`DensePredictions`.
        """
        levels = zip(features, anchors, self.scales, self.strides, strict=True)
        scores, boxes = zip(*(self._forward_level(*level) for level in levels), strict=True)
        return DensePredictions(list(scores), list(boxes))

    def _forward_level(
        self, x: Tensor, anchors: Tensor, scale: Scale, stride: int
    ) -> tuple[Tensor, Tensor]:
        """Scores (N, K, Hi, Wi) and boxes (N, 4, Hi, Wi) of one level."""
        layers = []
        for conv in self.inter_convs:
            x = conv(x)
            layers.append(x)
        cls_features, reg_features, prob_logits, offsets = self._project_stack(
            torch.cat(layers, dim=1)
        )

        scores = align_scores(self.tood_cls(cls_features).float(), prob_logits.float())
        regression = self.tood_reg(reg_features).float()
        boxes = decode_boxes(regression, anchors, scale, stride, self.anchor_type)
        return scores, align_boxes(boxes, offsets.float())

    def _project_stack(self, stack: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What is read off the stack of interactive features (N, num_convs * C, H, W).

        All four begin with a 1x1 convolution, and the stack is the largest tensor of the head: one
        product reads it once for all.

        Returns:
            Features of classification and localization, each (N, C, H, W); the logits of M
            (N, 1, H, W); the offsets O (N, 8, H, W).
        """
        pooled = F.adaptive_avg_pool2d(stack, 1)
        alignment = (self.cls_prob_module, self.reg_offset_module)
        weights = [self.cls_decomp.attended_weight(pooled), self.reg_decomp.attended_weight(pooled)]
        weights += [module[0].weight.flatten(1).expand(len(stack), -1, -1) for module in alignment]
        product = dynamic_conv1x1(stack, torch.cat(weights, dim=1))
        cls, reg, *hidden = product.split([weight.shape[1] for weight in weights], dim=1)
        prob_logits, offsets = (
            module[2](F.relu(x + module[0].bias[:, None, None]))
            for module, x in zip(alignment, hidden, strict=True)
        )
        return (
            self.cls_decomp.normalize_and_activate(cls),
            self.reg_decomp.normalize_and_activate(reg),
            prob_logits,
            offsets,
        )
