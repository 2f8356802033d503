"""The task-aligned head, T-head (paper: section 3.1).

Shapes: **N** images, **Hi, Wi** the map of level i, **K** classes, **C** channels, **S** channels
of the stack of interactive features.
"""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from torch import Tensor, nn

from ..layers import dynamic_conv1x1
from .base import DENSE_HEAD_REGISTRY, DenseHead
from .box_coding import Scale, decode_boxes
from .common import bias_init_with_prob, conv_stack, init_weights
from .task_alignment import AlignmentBranch, TaskDecomposition, align_boxes, align_scores


@DENSE_HEAD_REGISTRY.register()
class TOODHead(DenseHead):
    """T-head: task-interactive features and a task-aligned predictor (TAP).

    A stack of convolutions shared by both tasks and all levels; a :class:`TaskDecomposition` per
    task; classification scores sqrt(P * M) with the spatial probability map M (eqs. 5, 7); and
    boxes whose sides are resampled, each by its own learned offset (eqs. 6, 8). Scores, decoding
    and resampling are computed in float32.

    Args:
        num_convs: N of the paper, interactive layers.
        **common: see :class:`DenseHead`.
    """

    class_specific_parameters: ClassVar[tuple[str, ...]] = ("tood_cls.weight", "tood_cls.bias")

    @configurable
    def __init__(self, *, num_convs: int = 6, **common: Any) -> None:
        super().__init__(num_convs=num_convs, **common)
        channels, stack_channels = self.channels, self.channels * num_convs
        self.inter_convs = nn.ModuleList(
            conv_stack(num_convs, self.in_channels, channels, self.norm, self.num_dcn)
        )
        self.cls_decomp = TaskDecomposition(channels, num_convs, self.norm)
        self.reg_decomp = TaskDecomposition(channels, num_convs, self.norm)
        self.tood_cls = nn.Conv2d(channels, self.num_classes, 3, padding=1)
        self.tood_reg = nn.Conv2d(channels, 4, 3, padding=1)
        self.cls_prob_module = AlignmentBranch(stack_channels, channels, 1)
        self.reg_offset_module = AlignmentBranch(stack_channels, channels, 8)
        init_weights(self, small_std=("layer_attention", "reg_offset_module"))
        # Both factors of the score start at prior_prob, and so does their geometric mean.
        bias_init_with_prob(self.tood_cls, self.prior_prob)
        bias_init_with_prob(self.cls_prob_module.output_conv, self.prior_prob)

    def forward_level(
        self, x: Tensor, anchors: Tensor, scale: Scale, stride: int
    ) -> tuple[Tensor, Tensor, None]:
        """Scores (N, K, Hi, Wi) and boxes (N, 4, Hi, Wi) in strides; see :class:`DenseHead`."""
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
        return scores, align_boxes(boxes, offsets.float()), None

    def _project_stack(self, stack: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Everything that is predicted from the stack of interactive features (N, S, H, W).

        Apply all four 1x1 convolutions that read the stack as one matrix product; the stack is the
        head's largest tensor.

        Returns:
            Classification and regression features, each (N, C, H, W); the logits of M
            (N, 1, H, W); the offsets O (N, 8, H, W).
        """
        pooled = F.adaptive_avg_pool2d(stack, 1)
        branches = (self.cls_prob_module, self.reg_offset_module)
        weights = [self.cls_decomp.attended_weight(pooled), self.reg_decomp.attended_weight(pooled)]
        weights += [branch.stack_weight().expand(stack.shape[0], -1, -1) for branch in branches]
        product = dynamic_conv1x1(stack, torch.cat(weights, dim=1))
        cls, reg, prob, offset = product.split([weight.shape[1] for weight in weights], dim=1)
        return (
            self.cls_decomp.normalize_and_activate(cls),
            self.reg_decomp.normalize_and_activate(reg),
            self.cls_prob_module.output_from_product(prob),
            self.reg_offset_module.output_from_product(offset),
        )
