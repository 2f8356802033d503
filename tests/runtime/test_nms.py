"""NMS and post-processing in NumPy equal torchvision's and the model's own."""

import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms

from tood.modeling.postprocessing import postprocess_single_image
from tood_runtime.model_info import ModelFileError
from tood_runtime.nms import detect_in_raw_output, nms, points_per_level


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


def test_points_per_level(make_info):
    # Padded to 96x160; the levels are 12x20, 6x10, 3x5, 2x3 and 1x2.
    assert points_per_level((90, 130), make_info()) == [240, 60, 15, 6, 2]


@pytest.mark.parametrize("max_detections", [0, 20, -1])
@pytest.mark.parametrize("threshold, topk", [(0.0, 30), (0.5, 1000)])
def test_detections_equal_the_model_s(make_info, threshold, topk, max_detections):
    """Against the model's post-processing, with the scaling of detectron2."""
    info = make_info(topk_candidates=topk, max_detections=max_detections)
    generator = np.random.default_rng(4)
    points = points_per_level((96, 128), info)
    boxes, _, _ = random_boxes(generator, sum(points))
    boxes -= 20  # some reach over the edges, some lie outside
    boxes[::7] = np.nan
    scores = generator.random((sum(points), 3), np.float32)
    expected = postprocess_single_image(
        list(torch.from_numpy(scores).split(points)),
        list(torch.from_numpy(boxes).split(points)),
        score_thresh=threshold,
        topk_candidates=topk,
        nms_thresh=info.nms_threshold,
        max_detections=max_detections,
        image_size=(90, 100),
    )
    found = detect_in_raw_output(
        boxes,
        scores,
        info,
        input_size=(96, 128),
        image_size=(90, 100),
        original_size=(45, 200),
        score_threshold=threshold,
    )
    assert max_detections == 0 or len(expected.scores)
    scaled = expected.boxes.numpy() * np.array([2, 0.5, 2, 0.5], np.float32)
    np.testing.assert_array_equal(found.boxes, scaled)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.classes, expected.classes)


def test_boxes_that_scaling_empties_are_dropped(make_info):
    info = make_info(level_strides=[32], min_size=0)
    boxes = np.array([[0, 0, 1e-45, 8], [0, 0, 8, 8]], np.float32)
    scores = np.array([[0.9, 0, 0], [0.8, 0, 0]], np.float32)
    found = detect_in_raw_output(
        boxes,
        scores,
        info,
        input_size=(32, 64),
        image_size=(32, 64),
        original_size=(32, 1),
        score_threshold=0.1,
    )
    assert found.scores.tolist() == [np.float32(0.8)]


def test_other_points_than_the_strides_mean(make_info):
    with pytest.raises(ModelFileError, match=r"gives 7 boxes for 128x96 pixels.*mean 257"):
        detect_in_raw_output(
            np.zeros((7, 4), np.float32),
            np.zeros((7, 3), np.float32),
            make_info(),
            input_size=(96, 128),
            image_size=(96, 128),
            original_size=(96, 128),
            score_threshold=0.1,
        )
