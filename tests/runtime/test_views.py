"""Slices and mirror images: where they lie, and how their detections are joined."""

import numpy as np
import pytest

from tood_runtime.nms import Candidates
from tood_runtime.prediction import PredictionSettings
from tood_runtime.views import View, join_views, make_views


def windows(height, width, **options):
    return [view.window for view in make_views((height, width), PredictionSettings(**options))]


def found(*rows) -> Candidates:
    """Rows of (x1, y1, x2, y2, score, class)."""
    values = np.array(rows, np.float32).reshape(-1, 6)
    return Candidates(values[:, :4], values[:, 4], values[:, 5].astype(np.int64))


def join(views, results, size=(100, 200), nms_threshold=0.6, **options):
    return join_views(views, results, size, PredictionSettings(**options), nms_threshold)


def test_slices_by_hand():
    options = {"slice_size": 100, "slice_overlap": 0.2, "whole_image": False}
    # Three slices of 100 pixels need a step of 60 or 80 at most: 260 = 2 * 80 + 100.
    assert windows(100, 260, **options) == [
        (0, 0, 100, 100), (80, 0, 180, 100), (160, 0, 260, 100),
    ]  # fmt: skip
    # One pixel more needs another slice; they are spread evenly.
    assert [x for x, *_ in windows(100, 261, **options)] == [0, 54, 107, 161]
    assert windows(60, 40, **options) == [(0, 0, 40, 60)]  # smaller than a slice
    assert windows(100, 100, **options) == [(0, 0, 100, 100)]
    assert windows(150, 90, **options) == [(0, 0, 90, 100), (0, 50, 90, 150)]


@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.5, 0.99])
def test_slices_cover_every_pixel_and_overlap(overlap):
    for length in (100, 101, 137, 500):
        views = windows(30, length, slice_size=100, slice_overlap=overlap, whole_image=False)
        starts = [x for x, *_ in views]
        assert starts[0] == 0 and views[-1][2] == length
        assert all(x2 - x1 == 100 for x1, _, x2, _ in views)
        steps = np.diff(starts)
        assert (steps >= 1).all() and (steps <= max(1, 100 - overlap * 100 + 1e-6)).all()


def test_whole_image_and_mirror_image():
    assert windows(100, 150, slice_size=100)[-1] == (0, 0, 150, 100)
    assert windows(100, 100, slice_size=100) == [(0, 0, 100, 100)]  # is that already
    views = make_views((10, 20), PredictionSettings(flip=True))
    assert views == [View((0, 0, 20, 10)), View((0, 0, 20, 10), flipped=True)]
    assert len(make_views((100, 150), PredictionSettings(slice_size=100, flip=True))) == 6


def test_cutting_and_moving_back():
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    view = View((2, 1, 6, 4))
    np.testing.assert_array_equal(view.cut(pixels), pixels[1:4, 2:6])
    moved = view.to_image(found((0, 0, 1, 2, 0.9, 0)))
    assert moved.boxes.tolist() == [[2, 1, 3, 3]]
    mirror = View((2, 1, 6, 4), flipped=True)
    np.testing.assert_array_equal(mirror.cut(pixels), pixels[1:4, 2:6][:, ::-1])
    # The leftmost pixel of the mirror image is the rightmost of the window.
    assert mirror.to_image(found((0, 0, 1, 2, 0.9, 0))).boxes.tolist() == [[5, 1, 6, 3]]


LEFT, RIGHT = View((0, 0, 120, 100)), View((80, 0, 200, 100))


def test_an_object_in_the_overlap_is_found_once():
    result = join(
        [LEFT, RIGHT], [found((90, 10, 110, 30, 0.8, 0)), found((10, 10, 30, 30, 0.9, 0))]
    )
    assert result.boxes.tolist() == [[90, 10, 110, 30]] and result.scores.tolist() == [
        np.float32(0.9)
    ]


def test_a_part_of_an_object_that_another_slice_shows_whole_is_dropped():
    """Its IoU with the whole object is too small for NMS."""
    part, whole = found((100, 10, 120, 30, 0.95, 0)), found((20, 10, 70, 30, 0.9, 0))
    result = join([LEFT, RIGHT], [part, whole])
    assert result.boxes.tolist() == [[100, 10, 150, 30]]
    # Of another class it is another object.
    assert len(join([LEFT, RIGHT], [part._replace(classes=np.array([1])), whole]).scores) == 2


def test_a_part_that_nothing_covers_is_kept():
    result = join([LEFT, RIGHT], [found((100, 10, 120, 30, 0.5, 0)), found()])
    assert result.boxes.tolist() == [[100, 10, 120, 30]]


def test_an_object_that_is_small_and_whole_is_kept_inside_a_large_one():
    large, small = (0, 0, 120, 100, 0.9, 0), (50, 50, 60, 60, 0.8, 0)
    view = View((0, 0, 200, 100))
    assert len(join([view], [found(large, small)]).scores) == 2


def test_boxes_of_one_slice_are_different_objects():
    """The network has seen both, so neither is a part of the other."""
    nested = found((60, 10, 120, 60, 0.9, 0), (90, 20, 120, 40, 0.8, 0))
    assert len(join([LEFT, RIGHT], [nested, found()]).scores) == 2
    inside = found((60, 10, 118, 60, 0.9, 0), (100, 20, 120, 40, 0.8, 0))
    assert len(join([LEFT, RIGHT], [inside, found()]).scores) == 2


def test_parts_of_an_object_that_no_slice_shows_whole_are_joined():
    """Three slices see parts of it; the parts of the first and the last do not meet."""
    views = [View((0, 0, 100, 100)), View((50, 0, 150, 100)), View((100, 0, 200, 100))]
    results = [
        found((20, 10, 100, 30, 0.6, 0)),
        found((0, 10, 100, 30, 0.9, 0)),
        found((0, 10, 70, 30, 0.7, 0)),
    ]
    result = join(views, results)
    assert result.boxes.tolist() == [[20, 10, 170, 30]]
    assert result.scores.tolist() == [np.float32(0.9)]
    # The whole image, as another view, shows it.
    whole = View((0, 0, 200, 100))
    result = join([*views, whole], [*results, found((21, 10, 171, 30, 0.8, 0))])
    assert result.boxes.tolist() == [[21, 10, 171, 30]]


def test_borders_of_the_image_cut_nothing():
    left, right = found((0, 0, 50, 100, 0.9, 0)), found((70, 0, 120, 100, 0.8, 0))
    result = join([LEFT, RIGHT], [left, right])
    assert result.boxes.tolist() == [[0, 0, 50, 100], [150, 0, 200, 100]]


def test_a_mirror_image_and_the_methods():
    views = [View((0, 0, 200, 100)), View((0, 0, 200, 100), flipped=True)]
    results = [found((10, 10, 60, 60, 0.9, 0)), found((138, 10, 190, 60, 0.6, 1))]
    assert len(join(views, results).scores) == 2
    agnostic = join(views, results, nms="class-agnostic")
    assert agnostic.boxes.tolist() == [[10, 10, 60, 60]]
    assert len(join(views, results, nms="class-agnostic", nms_threshold=0.99).scores) == 2
    assert len(join(views, results, max_detections=1).scores) == 1
    assert len(join(views, results, score_threshold=0.7).scores) == 1


def test_weighted_fusion_averages_over_the_mirror_image():
    pytest.importorskip("ensemble_boxes")
    views = [View((0, 0, 200, 100)), View((0, 0, 200, 100), flipped=True)]
    results = [
        found((10, 10, 60, 60, 0.8, 0), (100, 50, 120, 70, 0.8, 0)),
        found((138, 10, 188, 60, 0.8, 0)),
    ]
    fused = join(views, results, nms="wbf")
    np.testing.assert_allclose(fused.boxes[0], [11, 10, 61, 60], atol=1e-3)
    np.testing.assert_allclose(fused.scores, [0.8, 0.4], atol=1e-6)
    # The overlap of slices is no second opinion.
    sliced = join([LEFT, RIGHT], [found((20, 20, 40, 40, 0.8, 0)), found()], nms="wbf")
    np.testing.assert_allclose(sliced.scores, [0.8], atol=1e-6)


def test_nothing_found():
    assert join([LEFT, RIGHT], [found(), found()]).boxes.shape == (0, 4)


def test_boxes_end_at_the_image():
    result = join([View((0, 0, 200, 100))], [found((-1, -2, 202, 50, 0.9, 0))])
    assert result.boxes.tolist() == [[0, 0, 200, 50]]
