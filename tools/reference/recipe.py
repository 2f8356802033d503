"""Deterministic random weights and inputs for comparisons with MMDetection; numpy only.

    weight = recipe_tensor("bbox_head.tood_cls.weight", (80, 256, 3, 3))
    image = recipe_input("image128x160", (1, 3, 128, 160))

The golden files in tests/golden were computed with them, so the values must never change. All can
be represented in float16, so float16 files store them without loss.
"""

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def _round_to_float16(values: ArrayLike) -> np.ndarray:
    """Round to values that float16 can represent; the result is float32."""
    return np.asarray(values, dtype=np.float64).astype(np.float16).astype(np.float32)


def _random_state(name: str) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(name.encode("utf-8")) & 0xFFFFFFFF)


def recipe_tensor(name: str, shape: Sequence[int]) -> np.ndarray:
    """A float32 array for an entry of a state_dict.

    It is the first draw of a generator that is seeded with the name. Scales keep activations
    bounded and scores spread out, so that every part of a model matters.

    Args:
        name: MMDetection 3.3.0's key, with "bbox_head." also for a head alone.
        shape: of the entry.
    """
    shape = tuple(int(side) for side in shape)
    random = _random_state(name)
    leaf = name.split(".")[-1]
    parent = name.split(".")[-2] if "." in name else ""
    if leaf == "num_batches_tracked":
        return np.zeros(shape, dtype=np.int64)
    if leaf == "running_mean":
        return _round_to_float16(random.standard_normal(shape) * 0.1)
    if leaf == "running_var":
        return _round_to_float16(random.uniform(0.5, 1.5, shape))
    if leaf == "scale":
        return _round_to_float16(random.uniform(0.8, 1.2, shape))
    if leaf == "bias":
        if name.endswith("tood_cls.bias"):
            return _round_to_float16(random.standard_normal(shape) * 0.3 - 1.5)
        if ".cls_prob_module.2." in name:
            return _round_to_float16(random.standard_normal(shape) * 0.1 + 0.3)
        if name.endswith("tood_reg.bias"):
            return _round_to_float16(random.standard_normal(shape) * 0.1 + 1.0)
        return _round_to_float16(random.standard_normal(shape) * 0.1)
    assert leaf == "weight", name
    if len(shape) == 1:  # of a normalization
        if parent == "bn3" or ".downsample.1." in name:
            gain = 0.3 if parent == "bn3" else 0.8  # bounds the residual sums
            return _round_to_float16(random.uniform(0.8, 1.2, shape) * gain)
        return _round_to_float16(random.uniform(0.8, 1.2, shape))
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
    return _round_to_float16(random.standard_normal(shape) * np.sqrt(gain / fan_in))


def recipe_input(name: str, shape: Sequence[int], scale: float = 1.0) -> np.ndarray:
    """A float32 input of a shape, normally distributed, seeded with a name."""
    return _round_to_float16(_random_state("input:" + name).standard_normal(tuple(shape)) * scale)


def random_projection(name: str, array: np.ndarray) -> float:
    """Condense an array to one number: its dot product with normal draws seeded with a name."""
    return float((array * _random_state(name).standard_normal(array.shape)).sum())


def random_images() -> list[np.ndarray]:
    """Two uint8 RGB images of noise with different shapes, so that a batch of them has padding."""
    random = np.random.RandomState(0)
    shapes = ((96, 128), (128, 96))
    # The golden files have the same images in BGR.
    return [random.randint(0, 256, (*s, 3)).astype(np.uint8)[..., ::-1] for s in shapes]
