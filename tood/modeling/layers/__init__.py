"""Operators of heads and backbone: pure functions of tensors, and small modules."""

from .deform_conv import deform_conv2d
from .deform_conv_layers import DeformConv, ModulatedDeformConv, predict_offsets
from .deform_sampling import deform_sampling
from .dynamic_conv import dynamic_conv1x1

__all__ = [
    "DeformConv",
    "ModulatedDeformConv",
    "deform_conv2d",
    "deform_sampling",
    "dynamic_conv1x1",
    "predict_offsets",
]
