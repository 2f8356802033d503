"""Candidates, clipping and NMS on hand-made scenes."""

import pytest
import torch

from tood.modeling.postprocessing import (
    finalize,
    merge_candidates,
    postprocess_single_image,
    select_candidates,
)
from tood.modeling.structures import ImageDetections

OPTIONS = {"score_thresh": 0.05, "topk_candidates": 1000, "nms_thresh": 0.6, "max_detections": 100}


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float32)


def test_candidates_are_pairs_above_the_threshold():
    scores = torch.tensor([[0.9, 0.05], [0.8, 0.06], [0.0, 0.7]])
    points = boxes([0] * 4, [1] * 4, [2] * 4)
    found = select_candidates(scores, points, 0.05, 100)
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.8, 0.7, 0.06]))
    assert found.classes.tolist() == [0, 0, 1, 1]  # 0.05 is not more than 0.05
    assert found.boxes[:, 0].tolist() == [0, 1, 2, 1]
    assert select_candidates(scores, points, 0.05, 3).scores.min() > 0.6


def test_nms_is_class_wise_and_above_the_threshold():
    # The second box overlaps the first by 0.8, the third by 0.59.
    b = boxes([0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 5.9])
    one_class = postprocess_single_image(
        [torch.tensor([[0.9], [0.8], [0.7]])], [b], image_size=(20, 20), **OPTIONS
    )
    assert one_class.scores.tolist() == torch.tensor([0.9, 0.7]).tolist()
    two = torch.tensor([[0.9, 0.0], [0.0, 0.8], [0.7, 0.0]])
    two_classes = postprocess_single_image([two], [b], image_size=(20, 20), **OPTIONS)
    assert two_classes.classes.tolist() == [0, 1, 0]


def test_boxes_are_clipped_before_nms():
    """Two boxes that differ outside of the image only: clipped, they are the same."""
    b = boxes([-100, 0, 10, 10], [0, 0, 10, 10], [30, 30, 40, 40])
    scores = [torch.tensor([[0.9], [0.8], [0.7]])]
    clipped = postprocess_single_image(scores, [b], image_size=(20, 20), **OPTIONS)
    assert clipped.boxes.tolist() == [[0, 0, 10, 10]]  # the third has no area inside
    raw = postprocess_single_image(scores, [b], image_size=None, **OPTIONS)
    assert raw.boxes.tolist() == b.tolist()


def test_classes_do_not_meet_outside_of_the_image():
    """Not clipped, the boxes differ by (11, 11), one more than their largest coordinate."""
    b = boxes([-100, -100, 10, 10], [-111, -111, -1, -1], [-100, -100, 10, 9])
    candidates = ImageDetections(b, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 1, 0]))
    found = finalize(candidates, nms_thresh=0.6, max_detections=100, image_size=None)
    assert found.boxes.tolist() == b[:2].tolist()


def test_no_class_at_all():
    found = select_candidates(torch.rand(4, 3), torch.rand(4, 4), 0.0, 9, class_ids=[])
    assert found.boxes.shape == (0, 4) and found.classes.shape == (0,)


def test_levels_are_cut_apart_and_together():
    scores = [torch.full((5, 1), 0.9), torch.full((3, 1), 0.5)]
    b = [torch.arange(n)[:, None] * 20.0 + boxes([0, 0, 10, 10]) for n in (5, 3)]
    b[1] += 1000
    options = {**OPTIONS, "topk_candidates": 2}
    found = postprocess_single_image(scores, b, image_size=None, **options)
    assert found.scores.tolist() == torch.tensor([0.9, 0.9, 0.5, 0.5]).tolist()
    options["max_detections"] = 3
    assert len(postprocess_single_image(scores, b, image_size=None, **options).scores) == 3


def test_nothing_to_find():
    found = postprocess_single_image(
        [torch.zeros(4, 2)], [torch.rand(4, 4)], image_size=(8, 8), **OPTIONS
    )
    assert found.boxes.shape == (0, 4) and found.classes.dtype == torch.int64


def test_nan_boxes_are_dropped():
    b = boxes([0, 0, 10, 10], [0, 0, 10, 10])
    b[0, 2] = float("nan")
    found = postprocess_single_image([torch.full((2, 1), 0.9)], [b], image_size=(20, 20), **OPTIONS)
    assert len(found.boxes) == 1


def test_candidates_of_several_predictions_merge_before_nms():
    """What test-time augmentation and slicing do: concatenate candidates, then finalize once."""
    first = select_candidates(
        torch.tensor([[0.9], [0.2]]), boxes([0, 0, 9, 9], [20, 0, 29, 9]), 0, 9
    )
    second = select_candidates(torch.tensor([[0.8]]), boxes([0, 0, 9, 10]), 0, 9)
    merged = merge_candidates([first, second])
    assert len(merged.boxes) == 3
    found = finalize(merged, nms_thresh=0.6, max_detections=100, image_size=(20, 40))
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.2]))


def test_best_detections_are_kept():
    candidates = select_candidates(
        torch.tensor([[0.5], [0.9], [0.7]]),
        boxes([0, 0, 5, 5], [10, 0, 15, 5], [20, 0, 25, 5]),
        0,
        9,
    )
    found = finalize(candidates, nms_thresh=0.6, max_detections=2, image_size=None)
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.7]))


def test_negative_maximum_keeps_all_detections():
    """As an index from the end, it would drop the last ones."""
    scores = [torch.tensor([[0.9], [0.8], [0.7]])]
    b = [boxes([0, 0, 5, 5], [10, 0, 15, 5], [20, 0, 25, 5])]
    for maximum, expected in ((-1, 3), (-100, 3), (3, 3), (2, 2), (0, 0)):
        options = {**OPTIONS, "max_detections": maximum}
        found = postprocess_single_image(scores, b, image_size=None, **options)
        assert len(found.scores) == len(found.boxes) == len(found.classes) == expected


def test_inverted_boxes_are_dropped():
    """A network can predict them: its right side left of its left one, or its bottom above."""
    b = boxes([5, 0, 1, 10], [0, 5, 10, 1], [0, 0, 10, 10])
    candidates = ImageDetections(b, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 1, 2]))
    for image_size in (None, (20, 20)):
        found = finalize(candidates, nms_thresh=0.6, max_detections=100, image_size=image_size)
        assert found.classes.tolist() == [2]


def test_each_level_has_scores_and_boxes():
    b, scores = [boxes([0, 0, 5, 5])] * 2, [torch.ones(1, 1)]
    with pytest.raises(ValueError, match="zip"):
        postprocess_single_image(scores, b, image_size=None, **OPTIONS)


def test_options_are_given_by_name():
    """Two thresholds and a number in a row would be easy to swap."""
    candidates = ImageDetections(boxes([0, 0, 5, 5]), torch.ones(1), torch.zeros(1))
    with pytest.raises(TypeError, match="positional"):
        finalize(candidates, 0.6, 100, None)
