"""Layers, arguments and initialization that the heads share.

Shapes: **N** images, **H, W** the map of a level, **C** channels.
"""

import math

import torch
from detectron2.config import CfgNode
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from torch import nn

from ..layers import ModulatedDeformConv
from .box_coding import ANCHOR_TYPES

# Deformable groups of the heads' deformable convolutions, as in both reference implementations.
DEFORM_GROUPS = 4


def conv_norm_relu(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    norm: str,
    *,
    deformable: bool = False,
    bias: bool = False,
) -> nn.Module:
    """Convolution, normalization and ReLU; (N, C, H, W) to (N, C', H, W).

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: of the convolution, which is padded to keep the size.
        norm: detectron2's name of the normalization; "" for none.
        deformable: use DCNv2.
        bias: give the convolution a bias although a normalization follows.
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


def conv_stack(
    num_convs: int,
    in_channels: int,
    channels: int,
    norm: str,
    num_dcn: int,
    *,
    bias: bool = False,
) -> list[nn.Module]:
    """3x3 convolutions with ``channels`` outputs, the first ``num_dcn`` of them deformable."""
    return [
        conv_norm_relu(
            channels if i else in_channels, channels, 3, norm, deformable=i < num_dcn, bias=bias
        )
        for i in range(num_convs)
    ]


def validate_head_args(anchor_type: str, num_classes: int, num_convs: int, num_dcn: int) -> None:
    """Raise a ValueError for arguments of a head that are inconsistent."""
    if anchor_type not in ANCHOR_TYPES:
        raise ValueError(
            f"Unknown anchor_type {anchor_type!r}. Available: {', '.join(ANCHOR_TYPES)}"
        )
    if num_classes < 1 or num_convs < 1 or not 0 <= num_dcn <= num_convs:
        raise ValueError(
            f"num_classes ({num_classes}) and num_convs ({num_convs}) must be at least 1, and "
            f"num_dcn ({num_dcn}) between 0 and num_convs"
        )


def common_head_args(cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict:
    """The constructor arguments that all heads share, from ``cfg.MODEL.TOOD``.

    Args:
        cfg: the config.
        input_shape: channels and stride of each level.

    Raises:
        ValueError: the levels have different channels.
    """
    channels = {shape.channels for shape in input_shape}
    if len(channels) != 1:
        raise ValueError(f"All levels must have the same channels, not {sorted(channels)}")
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


def init_weights(head: nn.Module, small_std: tuple[str, ...] = ()) -> None:
    """Normal weights of standard deviation 0.01 and zero biases; offsets of DCN stay 0.

    Args:
        head: whose convolutions are initialized.
        small_std: convolutions whose name contains one of these start with 0.001 instead.
    """
    for name, module in head.named_modules():
        if isinstance(module, (nn.Conv2d, ModulatedDeformConv)) and "conv_offset" not in name:
            small = any(part in name for part in small_std)
            nn.init.normal_(module.weight, std=0.001 if small else 0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def bias_init_with_prob(conv: nn.Conv2d, probability: float) -> None:
    """Set a convolution's bias so that the sigmoid of its output starts at ``probability``."""
    nn.init.constant_(conv.bias, -math.log((1 - probability) / probability))
