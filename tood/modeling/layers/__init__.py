"""Operators that the heads are made of. Pure functions of tensors and small modules."""

from .deform_conv import ModulatedDeformConv
from .sampling import sample_per_channel

__all__ = ["ModulatedDeformConv", "sample_per_channel"]
