"""Deterministic weights and inputs of the golden files.  numpy only; no mmdet, no torch.

    w = recipe_tensor('bbox_head.tood_cls.weight', (80, 256, 3, 3))
    x = recipe_input('image128x160', (1, 3, 128, 160))

Names are MMDetection 3.3.0 state_dict keys (see golden/state_dict_keys.json).
All values are float16-representable, so float16 storage is lossless.
"""

import zlib

import numpy as np


def _f16(a):
    """Round to float16-representable float32 (so files can store float16 losslessly)."""
    return np.asarray(a, dtype=np.float64).astype(np.float16).astype(np.float32)


def _rs(name):
    return np.random.RandomState(zlib.crc32(name.encode("utf-8")) & 0xFFFFFFFF)


def recipe_tensor(name, shape):
    """float32 ndarray for state_dict entry `name` (MMDetection 3.3.0 naming) of `shape`.

    The generator is numpy.random.RandomState(crc32(name)); the *first* draw is
    the tensor.  The value is rounded to float16 and returned as float32.
    `name` for a stand-alone head has the prefix 'bbox_head.' too.
    """
    shape = tuple(int(s) for s in shape)
    rs = _rs(name)
    leaf = name.split(".")[-1]
    parent = name.split(".")[-2] if "." in name else ""
    if leaf == "num_batches_tracked":
        return np.zeros(shape, dtype=np.int64)
    if leaf == "running_mean":
        return _f16(rs.standard_normal(shape) * 0.1)
    if leaf == "running_var":
        return _f16(rs.uniform(0.5, 1.5, shape))
    if leaf == "scale":  # mmcv Scale, shape ()
        return _f16(rs.uniform(0.8, 1.2, shape))
    if leaf == "bias":
        if name.endswith("tood_cls.bias"):
            return _f16(rs.standard_normal(shape) * 0.3 - 1.5)
        if ".cls_prob_module.2." in name:
            return _f16(rs.standard_normal(shape) * 0.1 + 0.3)
        if name.endswith("tood_reg.bias"):
            return _f16(rs.standard_normal(shape) * 0.1 + 1.0)
        return _f16(rs.standard_normal(shape) * 0.1)
    assert leaf == "weight", name
    if len(shape) == 1:  # BN / GN gain
        if parent == "bn3" or ".downsample.1." in name:
            g = 0.3 if parent == "bn3" else 0.8  # keep residual sums bounded
            return _f16(rs.uniform(0.8, 1.2, shape) * g)
        return _f16(rs.uniform(0.8, 1.2, shape))
    fan_in = int(np.prod(shape[1:]))
    gain = 2.0
    if name.startswith("neck."):
        gain = 1.0
    if name.endswith("tood_cls.weight"):
        gain = 1.0
    if name.endswith("tood_reg.weight"):
        gain = 0.35
    if "conv_offset" in name:
        gain = 0.5
    return _f16(rs.standard_normal(shape) * np.sqrt(gain / fan_in))


def recipe_input(name, shape, scale=1.0):
    """A deterministic input tensor for a name and shape."""
    return _f16(_rs("input:" + name).standard_normal(tuple(shape)) * scale)


def random_projection(name, array):
    """A float64 number for a whole array: its product with the normal draws that `name` seeds."""
    return float((array * _rs(name).standard_normal(array.shape)).sum())
