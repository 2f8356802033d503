"""The parts of task-aligned prediction (paper: section 3.1).

:class:`TaskDecomposition` and :class:`AlignmentBranch` both begin with a 1x1 convolution over the
stack of interactive features, the head's largest tensor. Each therefore splits into two steps, the
weight of that convolution (``attended_weight``, ``stack_weight``) and what follows it
(``normalize_and_activate``, ``output_from_product``), so that T-head can apply all of them as one
matrix product.

Shapes: **N** images, **H, W** the map of a level, **K** classes, **C** channels, **S** channels of
the stack.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import deform_sampling, dynamic_conv1x1
from .common import conv_norm_relu


class TaskDecomposition(nn.Module):
    """Layer attention over the stack of interactive features, then reduction (paper: eqs. 2-4).

    The attention w of an image and level multiplies the blocks of the reduction's weight, which
    equals multiplying the layers' features and costs less.

    Args:
        channels: C, of each interactive layer and of the output.
        num_layers: layers in the stack; S = num_layers * C.
        norm: detectron2's name of the normalization; "" for none.
        reduction: the attention's hidden layer has C / reduction channels.
    """

    def __init__(self, channels: int, num_layers: int, norm: str, reduction: int = 8) -> None:
        super().__init__()
        self.num_layers = num_layers
        hidden = max(channels // reduction, 1)
        self.layer_attention = nn.Sequential(
            nn.Conv2d(channels * num_layers, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, num_layers, 1),
            nn.Sigmoid(),
        )
        self.reduction_conv = conv_norm_relu(channels * num_layers, channels, 1, norm)

    def attended_weight(self, pooled: Tensor) -> Tensor:
        """The reduction's weight multiplied by the attention of each image: (N, C, S).

        Args:
            pooled: (N, S, 1, 1), the mean of the stack over the map.
        """
        attention = self.layer_attention(pooled).reshape(-1, 1, self.num_layers, 1)
        conv = self.reduction_conv
        weight = conv.weight.reshape(1, conv.out_channels, self.num_layers, -1) * attention
        return weight.flatten(2)

    def normalize_and_activate(self, reduced: Tensor) -> Tensor:
        """Task-specific features (N, C, H, W) from the product of stack and attended weight."""
        conv = self.reduction_conv
        if conv.bias is not None:
            reduced = reduced + conv.bias[:, None, None]
        return conv.activation(reduced if conv.norm is None else conv.norm(reduced))

    def forward(self, stack: Tensor) -> Tensor:
        """Task-specific features (N, C, H, W) from the stack (N, S, H, W)."""
        pooled = F.adaptive_avg_pool2d(stack, 1)
        return self.normalize_and_activate(dynamic_conv1x1(stack, self.attended_weight(pooled)))


class AlignmentBranch(nn.Sequential):
    """Predicts the logits of M, or the offsets O, from interactive features (paper: eqs. 7, 8).

    Args:
        in_channels: S, channels of the features.
        channels: C of the head; the hidden layer has C / 4.
        out_channels: 1 for M; 8 for O, (dy, dx) in cells for each of the four sides.
    """

    def __init__(self, in_channels: int, channels: int, out_channels: int) -> None:
        hidden = max(channels // 4, 1)
        super().__init__(
            nn.Conv2d(in_channels, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, out_channels, 3, padding=1),
        )

    @property
    def output_conv(self) -> nn.Conv2d:
        """The last convolution."""
        return self[2]

    def stack_weight(self) -> Tensor:
        """The weight of the first convolution: (hidden, S)."""
        return self[0].weight.flatten(1)

    def output_from_product(self, product: Tensor) -> Tensor:
        """The output (N, out_channels, H, W) from the product of features and ``stack_weight``."""
        return self[2](F.relu(product + self[0].bias[:, None, None]))


def align_scores(logits: Tensor, prob_logits: Tensor) -> Tensor:
    """Scores sqrt(P * M) (paper: eqs. 5, 7).

    Args:
        logits: (N, K, H, W) of P.
        prob_logits: (N, 1, H, W) of M.
    """
    # Computed in log space: the direct form has an infinite gradient when both logits are below
    # -52. Here the gradient is 0.5 * score * (1 - sigmoid) everywhere.
    return (0.5 * (F.logsigmoid(logits) + F.logsigmoid(prob_logits))).exp()


def align_boxes(boxes: Tensor, offsets: Tensor) -> Tensor:
    """Resample each side of the boxes by its own offset (paper: eqs. 6, 8).

    Boxes that become inverted keep their unaligned coordinates (MMDetection 3.x; the authors keep
    the inverted box).

    Args:
        boxes: (N, 4, H, W), in strides.
        offsets: (N, 8, H, W) in cells: dy and dx of x1, then of y1, x2 and y2.
    """
    aligned = deform_sampling(boxes.contiguous(), offsets)
    x1, y1, x2, y2 = aligned.split(1, dim=1)
    return torch.where((x1 > x2) | (y1 > y2), boxes, aligned)
