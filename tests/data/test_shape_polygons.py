"""Polygons of masks, decoded by pycocotools and by detectron2."""

import numpy as np
import pytest
from detectron2.structures.masks import polygons_to_bitmask
from pycocotools import mask as mask_util

from tood.data.shape_polygons import mask_to_polygons


def decode(polygons, height, width) -> np.ndarray:
    if not polygons:
        return np.zeros((height, width), bool)
    rle = mask_util.merge(mask_util.frPyObjects(polygons, height, width))
    return mask_util.decode(rle).astype(bool)


def test_a_shape_in_two_pieces():
    """Something lies across a bar: 3x2 pixels of it are left of that, 2x2 are right."""
    mask = np.zeros((6, 12), bool)
    mask[2:4, 1:10] = True
    mask[:, 4:8] = False
    left, right = sorted(mask_to_polygons(mask))
    assert {*zip(left[::2], left[1::2], strict=True)} == {(1, 2), (4, 2), (4, 4), (1, 4)}
    assert {*zip(right[::2], right[1::2], strict=True)} == {(8, 2), (10, 2), (10, 4), (8, 4)}
    assert len(left) == len(right) == 8
    np.testing.assert_array_equal(decode([left, right], 6, 12), mask)


def test_a_shape_with_a_hole():
    mask = np.ones((5, 7), bool)
    mask[2, 3:5] = False
    polygons = mask_to_polygons(mask)
    assert len(polygons) == 2  # cut through the hole
    np.testing.assert_array_equal(decode(polygons, 5, 7), mask)


def test_an_empty_mask():
    assert mask_to_polygons(np.zeros((5, 7), bool)) == []


@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_any_mask_is_decoded_exactly(density):
    """Single pixels, pixels that touch at corners, holes in holes, the border of the image."""
    rng = np.random.default_rng(int(10 * density))
    for _ in range(150):
        height, width = (int(side) for side in rng.integers(1, 16, 2))
        mask = rng.random((height, width)) < density
        polygons = mask_to_polygons(mask)
        np.testing.assert_array_equal(decode(polygons, height, width), mask)
        if polygons:
            arrays = [np.array(polygon, np.float64) for polygon in polygons]
            np.testing.assert_array_equal(polygons_to_bitmask(arrays, height, width), mask)
