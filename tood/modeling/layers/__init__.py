"""Operators that the heads are made of. Pure functions of tensors and small modules."""

from .deform_conv import DeformConv, ModulatedDeformConv, deform_conv2d, predict_offsets
from .deform_sampling import sample_per_channel
from .dynamic_conv import pointwise_per_image

__all__ = [
    "DeformConv",
    "ModulatedDeformConv",
    "deform_conv2d",
    "pointwise_per_image",
    "predict_offsets",
    "sample_per_channel",
]
