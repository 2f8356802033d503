"""What the heads share: layers, decoding of boxes, task-aligned prediction, initialisation.

Shapes: **N** images, **H, W** the map of a level, **K** classes, **C** channels. Boxes are
(x1, y1, x2, y2) in strides of their level.
"""

import math

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from torch import Tensor, nn

from ...errors import ConfigError
from ..box_ops import box_centers, deltas_to_boxes, distances_to_boxes
from ..layers import ModulatedDeformConv, sample_per_channel

# What the regression output means: the logarithms of the distances from the point to the four
# sides; these distances themselves (FCOS), 0 where negative; or deltas to the anchor.
ANCHOR_TYPES = ("anchor_free", "anchor_free_linear", "anchor_based")

# Deformable groups of the heads' deformable convolutions, as in both reference implementations.
DEFORM_GROUPS = 4

# exp() of the regression output is cut here: e^20 strides are far outside of every image, and an
# infinite side would turn the gradients of the whole batch into NaN.
MAX_LOG_DISTANCE = 20.0


def conv_norm_relu(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    norm: str,
    *,
    deformable: bool = False,
    bias: bool = False,
) -> nn.Module:
    """Convolution, normalisation and ReLU.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: of the convolution, which is padded to keep the size.
        norm: detectron2's name of the normalisation, "" for none.
        deformable: DCNv2.
        bias: the convolution has one although a normalisation follows.
    """
    common = {
        "bias": bias or not norm,
        "norm": get_norm(norm, out_channels),
        "activation": torch.relu_,
    }
    if deformable:
        return ModulatedDeformConv(
            in_channels, out_channels, kernel_size, deform_groups=DEFORM_GROUPS, **common
        )
    return Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, **common)


class Scale(nn.Module):
    """A learned factor, one per level."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply ``x`` by the factor."""
        return x * self.scale


def check_head(anchor_type: str, num_classes: int, num_convs: int, num_dcn: int) -> None:
    """Raise a ConfigError for arguments of a head that make no sense."""
    if anchor_type not in ANCHOR_TYPES:
        raise ConfigError(
            f"MODEL.TOOD.ANCHOR_TYPE is {anchor_type!r}; it must be one of {ANCHOR_TYPES}"
        )
    if num_classes < 1 or num_convs < 1 or not 0 <= num_dcn <= num_convs:
        raise ConfigError(
            f"num_classes ({num_classes}) and num_convs ({num_convs}) must be at least 1, and "
            f"num_dcn ({num_dcn}) between 0 and num_convs"
        )


def head_arguments(cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict:
    """The constructor arguments that all heads have, from ``cfg.MODEL.TOOD``.

    Args:
        cfg: the config.
        input_shape: channels and stride of each level.

    Raises:
        ValueError: the levels have different channels.
    """
    channels = {shape.channels for shape in input_shape}
    if len(channels) != 1:
        raise ValueError(f"the levels have different channels: {sorted(channels)}")
    node = cfg.MODEL.TOOD
    return {
        "in_channels": channels.pop(),
        "num_classes": node.NUM_CLASSES,
        "strides": [shape.stride for shape in input_shape],
        "num_convs": node.HEAD.NUM_CONVS,
        "channels": node.HEAD.CHANNELS,
        "norm": node.HEAD.NORM,
        "num_dcn": node.HEAD.NUM_DCN,
        "anchor_type": node.ANCHOR_TYPE,
        "prior_prob": node.HEAD.PRIOR_PROB,
    }


def decode_boxes(
    regression: Tensor, anchors: Tensor, scale: nn.Module, stride: int, anchor_type: str
) -> Tensor:
    """Boxes (N, 4, H, W) from the regression output.

    Args:
        regression: (N, 4, H, W).
        anchors: (H * W, 4) in image pixels, row by row.
        scale: the level's :class:`Scale`.
        stride: of the level, in pixels.
        anchor_type: one of :data:`ANCHOR_TYPES`.
    """
    anchors = anchors.view(1, *regression.shape[-2:], 4) / stride
    regression = regression.permute(0, 2, 3, 1)
    if anchor_type == "anchor_based":
        boxes = deltas_to_boxes(anchors, scale(regression))
    elif anchor_type == "anchor_free":
        distances = scale(regression.clamp(max=MAX_LOG_DISTANCE).exp())
        boxes = distances_to_boxes(box_centers(anchors), distances)
    else:
        boxes = distances_to_boxes(box_centers(anchors), scale(regression).relu())
    return boxes.permute(0, 3, 1, 2)


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
    aligned = sample_per_channel(boxes.contiguous(), offsets)
    x1, y1, x2, y2 = aligned.split(1, dim=1)
    return torch.where((x1 > x2) | (y1 > y2), boxes, aligned)


def init_weights(head: nn.Module, careful: tuple[str, ...] = ()) -> None:
    """Normal weights of standard deviation 0.01, biases 0; offsets of deformable layers stay 0.

    Args:
        head: whose convolutions are initialised.
        careful: parts of the names of those that start with 0.001.
    """
    for name, module in head.named_modules():
        if isinstance(module, (nn.Conv2d, ModulatedDeformConv)) and "conv_offset" not in name:
            small = any(part in name for part in careful)
            nn.init.normal_(module.weight, std=0.001 if small else 0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def init_probability(conv: nn.Conv2d, probability: float) -> None:
    """Let the sigmoid of a convolution's output start at a probability."""
    nn.init.constant_(conv.bias, -math.log((1 - probability) / probability))
