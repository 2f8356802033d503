"""Operators that the heads are made of. Pure functions of tensors and small modules."""

from .deform_conv import DeformConv, ModulatedDeformConv, deform_conv2d, predict_offsets
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
