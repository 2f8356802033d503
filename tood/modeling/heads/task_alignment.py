"""Task decomposition and task-aligned prediction."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import deform_sampling, dynamic_conv1x1
from .common import conv_norm_relu


def alignment_module(in_channels: int, channels: int, out_channels: int) -> nn.Sequential:
    """The small network that reads the logits of M, or the offsets O, off interactive features.

    Args:
        in_channels: of the features.
        channels: C of the head; the hidden layer has a quarter of them.
        out_channels: 1 for M; 8 for O, (dy, dx) in cells for each of the four sides.
    """
    hidden = max(channels // 4, 1)
    return nn.Sequential(
        nn.Conv2d(in_channels, hidden, 1),
        nn.ReLU(),
        nn.Conv2d(hidden, out_channels, 3, padding=1),
    )


def align_scores(logits: Tensor, prob_logits: Tensor) -> Tensor:
    """Scores sqrt(P * M) (paper: eqs. 5, 7).

    Args:
        logits: (N, K, H, W) of P.
        prob_logits: (N, 1, H, W) of M.
    """
    # In log space: of the bare form, the gradient is infinite where both logits are below -52.
    # Here it is 0.5 * score * (1 - sigmoid) everywhere.
    return (0.5 * (F.logsigmoid(logits) + F.logsigmoid(prob_logits))).exp()


def align_boxes(boxes: Tensor, offsets: Tensor) -> Tensor:
    """Resample each side of the boxes by its own offset (paper: eqs. 6, 8).

    Where that turns a box inside out, the box as it was takes its place (MMDetection 3.x; the
    authors keep the inverted box).

    Args:
        boxes: (N, 4, H, W).
        offsets: (N, 8, H, W) in cells: dy and dx of x1, then of y1, x2 and y2.
    """
    aligned = deform_sampling(boxes.contiguous(), offsets)
    x1, y1, x2, y2 = aligned.split(1, dim=1)
    return torch.where((x1 > x2) | (y1 > y2), boxes, aligned)


class TaskDecomposition(nn.Module):
    """Layer attention over the stack of interactive features, then reduction (paper: eqs. 2-4).

    The attention w of an image and level multiplies the blocks of the reduction's weight, which is
    the same as multiplying the layers' features, for less work.

    Args:
        channels: C, of each interactive layer and of the output.
        num_layers: how many layers the stack has.
        norm: detectron2's name of the normalization, "" for none.
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
        """The reduction's weight with the attention in it, of each image: (N, C, num_layers * C).

        Args:
            pooled: (N, num_layers * C, 1, 1), the mean of the stack over the map.
        """
        attention = self.layer_attention(pooled).reshape(len(pooled), 1, self.num_layers, 1)
        conv = self.reduction_conv
        weight = conv.weight.reshape(1, conv.out_channels, self.num_layers, -1) * attention
        return weight.flatten(2)

    def normalize_and_activate(self, reduced: Tensor) -> Tensor:
        """Features of the task (N, C, H, W), from the product of stack and weight."""
        conv = self.reduction_conv
        if conv.bias is not None:
            reduced = reduced + conv.bias[:, None, None]
        return conv.activation(reduced if conv.norm is None else conv.norm(reduced))

    def forward(self, stack: Tensor) -> Tensor:
        """Features of the task (N, C, H, W) from the stack of layers (N, num_layers * C, H, W)."""
        pooled = F.adaptive_avg_pool2d(stack, 1)
        return self.normalize_and_activate(dynamic_conv1x1(stack, self.attended_weight(pooled)))
