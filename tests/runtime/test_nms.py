"""NMS in NumPy equals torchvision's."""

import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms

from tood_runtime.nms import nms


def random_boxes(generator, count: int, size: float = 100.0):
    corners = generator.uniform(0, size, (count, 2))
    sides = generator.uniform(1, size / 2, (count, 2))
    boxes = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
    return boxes, generator.random(count, np.float32), generator.integers(0, 3, count)


# torchvision changes its method at 1000 boxes.
@pytest.mark.parametrize("count", [0, 1, 2, 50, 900, 1100])
@pytest.mark.parametrize("threshold", [0.3, 0.6])
def test_nms_equals_torchvision(count, threshold):
    for seed in range(3):
        boxes, scores, classes = random_boxes(np.random.default_rng(seed), count)
        expected = batched_nms(*map(torch.from_numpy, (boxes, scores, classes)), threshold)
        kept = nms(boxes, scores, classes, threshold)
        assert kept.tolist() == expected.tolist()
        assert nms(boxes, scores, classes, threshold, limit=7).tolist() == expected[:7].tolist()


def test_nms_by_hand():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 7], [0, 0, 10, 10]], np.float32)
    scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    # IoUs with the first: 0.5, which is not more than the threshold, 0.7, and 1 in another class.
    assert nms(boxes, scores, np.array([0, 0, 0, 1]), 0.5).tolist() == [0, 1, 3]
    assert nms(boxes, scores, np.array([0, 0, 0, 0]), 0.49).tolist() == [0]


def test_threshold_is_not_rounded():
    """An IoU of 0.6 is more than 0.6 in float32, and torchvision compares it with the double."""
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 6]], np.float32)
    scores, classes = np.array([0.9, 0.8], np.float32), np.array([0, 0])
    expected = batched_nms(*map(torch.from_numpy, (boxes, scores, classes)), 0.6)
    assert nms(boxes, scores, classes, 0.6).tolist() == expected.tolist() == [0]


def test_equal_scores_keep_their_order():
    boxes = np.tile(np.array([[0, 0, 10, 10]], np.float32), (4, 1))
    scores = np.full(4, 0.5, np.float32)
    assert nms(boxes, scores, np.array([2, 1, 2, 0]), 0.5).tolist() == [0, 1, 3]
