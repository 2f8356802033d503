"""Masks of COCO files are checked where masks are used."""

import math

import numpy as np
import pytest
from pycocotools import mask as mask_util

from tests.data.coco_files import coco_content
from tood.data.formats.masks import INVALID_MASK, WITHOUT_MASK

POLYGON = [[4, 6, 26, 6, 26, 36]]


@pytest.mark.parametrize(
    "mask, expected",
    [
        (POLYGON, POLYGON),
        ([*POLYGON, [1, 2, 3, 4]], POLYGON),
        ([*POLYGON, [1, 2, 3, 4, 5, 6, 7]], POLYGON),
        ({"counts": [0, 5120], "size": [64, 80]}, 5120),
        ({"counts": [5000, 20, 100], "size": [64, 80]}, 20),
        (None, None),
        ([], None),
        ([[]], None),
        ([[4, 6, 26, 36]], None),
        ([4, 6, 26, 6, 26, 36], None),
        ([[4, 6, 26, 6, 26, math.nan]], None),
        ([[4, 6, 14, 6, 26, 6]], None),  # on one line
        ([[4, 6, 14.1, 16.1, 26.3, 28.3]], None),
        ([*POLYGON, [4, 6, 4, 16, 4, 26]], POLYGON),
        ([[4, 6, 26, 36, 26, 6, 4, 36]], [[4, 6, 26, 36, 26, 6, 4, 36]]),  # crosses itself
        # pycocotools would follow their sides pixel by pixel.
        ([[0, 0, 9e5, 0, 0, 0]], None),
        ([[0, 0, 9e5, 0, 9e5, 9e5]], None),
        ([*POLYGON, [4, 6, 26, -9e4, 26, 36]], POLYGON),
        ({"counts": [5120], "size": [64, 80]}, None),  # no pixel
        ({"counts": [4096]}, None),
        ({"counts": [4096], "size": [64, 64]}, None),
        ({"counts": [1], "size": [64, 80]}, None),
        ({"counts": [-5, 5125], "size": [64, 80]}, None),
        ({"counts": "~~~~", "size": [64, 80]}, None),
        ({"counts": None, "size": [64, 80]}, None),
    ],
)
def test_masks_are_checked_where_masks_are_used(read, mask, expected):
    content = coco_content()
    for entry in content["annotations"]:
        entry["segmentation"] = POLYGON
    content["annotations"][0]["segmentation"] = mask
    assert read(content).num_boxes == 6  # a box detector never looks at them
    dataset = read(content, with_masks=True)
    if expected is None:
        assert dataset.num_boxes == 5 == len(dataset.segmentations)
        what = INVALID_MASK if mask and mask != [[]] else WITHOUT_MASK
        assert dataset.changes.counts == {what: 1} and dataset.changes.lost == {what}
    elif isinstance(expected, int):
        assert mask_util.area(dataset.segmentations[0]) == expected
    else:
        assert dataset.segmentations[0] == expected
        assert len(mask) == 1 or dataset.changes.counts == {"invalid polygons dropped": 1}


def test_compressed_masks(read):
    content = coco_content()
    rng = np.random.default_rng(0)
    areas = []
    for entry in content["annotations"]:
        mask = np.zeros((64, 80), np.uint8, order="F")
        for x, y in rng.integers(0, 60, (12, 2)):
            mask[x : x + 4, y : y + 9] ^= 1
        rle = mask_util.encode(mask)
        entry["segmentation"] = {"size": [64, 80], "counts": rle["counts"].decode()}
        areas.append(int(mask.sum()))
    dataset = read(content, with_masks=True)
    assert [int(mask_util.area(mask)) for mask in dataset.segmentations] == areas


@pytest.mark.parametrize("mask", [None, [], {"counts": [1], "size": [64, 80]}])
def test_crowds_without_a_mask_cover_their_box(read, mask):
    """They stay, because what lies in them must not count as wrong."""
    content = coco_content()
    for entry in content["annotations"]:
        entry["segmentation"] = POLYGON
    content["annotations"][0] |= {"iscrowd": 1, "segmentation": mask, "bbox": [4, 6, 22, 30]}
    dataset = read(content, with_masks=True)
    assert dataset.num_boxes == 6 and dataset.is_crowd.sum() == 1
    assert dataset.segmentations[0] == [[4, 6, 26, 6, 26, 36, 4, 36]]
    assert dataset.changes.counts == {"masks of crowds set to their boxes": 1}
    assert not dataset.changes.lost
