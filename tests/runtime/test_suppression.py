"""Choosing among overlapping boxes, by hand."""

import sys

import numpy as np
import pytest

from tood_runtime.nms import Candidates
from tood_runtime.suppression import require_method, suppress

# The second overlaps the first with an IoU of 0.8, the third is elsewhere.
BOXES = np.array([[0, 0, 10, 10], [0, 0, 10, 8], [50, 50, 60, 60]], np.float32)
SCORES = np.array([0.9, 0.8, 0.7], np.float32)


def choose(method, classes=(0, 0, 0), views=None, **options):
    options = {"iou_threshold": 0.6, "score_threshold": 0.3, "limit": None, **options}
    views = views or [Candidates(BOXES, SCORES, np.array(classes))]
    return suppress(views, method, **options)


def test_per_class():
    assert choose("per-class").scores.tolist() == SCORES[[0, 2]].tolist()
    assert len(choose("per-class", classes=(0, 1, 0)).scores) == 3
    assert len(choose("per-class", iou_threshold=0.85).scores) == 3
    assert len(choose("per-class", limit=1).scores) == 1
    assert len(choose("per-class", score_threshold=0.75).scores) == 1


def test_class_agnostic_keeps_the_classes():
    found = choose("class-agnostic", classes=(2, 1, 1))
    assert found.classes.tolist() == [2, 1]
    assert found.scores.tolist() == SCORES[[0, 2]].tolist()


def test_soft():
    pytest.importorskip("supervision")
    found = choose("soft", score_threshold=0.1)
    # exp(-0.8^2 / 0.5) = 0.27804
    np.testing.assert_allclose(found.scores, [0.9, 0.7, 0.8 * 0.278037], atol=1e-5)
    assert found.boxes[2].tolist() == BOXES[1].tolist()
    assert len(choose("soft").scores) == 2  # it scores 0.22 now
    assert choose("soft", classes=(0, 1, 0)).scores.tolist() == SCORES.tolist()
    assert len(choose("soft", score_threshold=0.1, limit=2).scores) == 2


def test_weighted_box_fusion():
    pytest.importorskip("ensemble_boxes")
    found = choose("wbf")
    # The bottom is the mean of 10 and 8, weighted by the scores.
    bottom = (0.9 * 10 + 0.8 * 8) / 1.7
    np.testing.assert_allclose(found.boxes[0], [0, 0, 10, bottom], atol=1e-4)
    np.testing.assert_allclose(found.scores, [0.9, 0.7], atol=1e-6)
    assert found.classes.dtype == np.int64 and found.boxes.dtype == np.float32
    # Of two views, the third object is in one only.
    views = [
        Candidates(BOXES[[0, 2]], SCORES[[0, 2]], np.array([1, 1])),
        Candidates(BOXES[[1]], SCORES[[1]], np.array([1])),
    ]
    found = choose("wbf", views=views)
    np.testing.assert_allclose(found.scores, [0.85, 0.35], atol=1e-6)
    assert found.classes.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("method", "package"),
    [("per-class", None), ("class-agnostic", None), ("soft", "supervision"),
     ("wbf", "ensemble_boxes")],
)  # fmt: skip
def test_nothing_at_all(method, package):
    if package is not None:
        pytest.importorskip(package)
    empty = Candidates(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    for views in ([empty], [empty, empty]):
        assert choose(method, views=views).boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("method", "package", "install"),
    [("soft", "supervision", "supervision"), ("wbf", "ensemble_boxes", "ensemble-boxes")],
)
def test_missing_packages(method, package, install, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f'nms="{method}" needs .*: pip install {install}'):
        require_method(method)
