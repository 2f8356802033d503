"""The normalized form: which boxes and areas are kept, and what is counted."""

import math

import pytest

from tests.data.builders import make_dataset
from tood.data.dataset import ChangeLog
from tood.data.normalize import distinct_names
from tood.errors import DataError


def test_stable_order_and_offsets():
    boxes = [(2, 0, 1, 1, 5, 5), (0, 1, 2, 2, 5, 5), (2, 2, 3, 3, 5, 5)]
    dataset = make_dataset(boxes, num_images=4)
    assert dataset.offsets.tolist() == [0, 1, 1, 3, 3]
    assert dataset.boxes[:, 0].tolist() == [2, 1, 3] and dataset.class_ids.tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    "side, kept",
    [(0.0, False), (-1.0, False), (1e-9, False), (1e-3, True), (1e6, True), (1.1e6, False)],
)
def test_sides(side, kept):
    dataset = make_dataset([(0, 0, 1.5, 1, side, 5), (0, 0, 1, 1, 5, 5)])
    assert dataset.num_boxes == 1 + kept and bool(dataset.changes.counts) == (not kept)


@pytest.mark.parametrize(
    "area, expected, counted",
    [
        (120.0, 120, False),
        (math.nan, 600, False),  # the reader knows that it is missing, and counts it
        (651.0, 651, False),  # 21 x 31: tools that count pixels
        (652.0, 600, True),
        (0.0, 600, True),
        (-5.0, 600, True),
        (math.inf, 600, True),
    ],
)
def test_areas(area, expected, counted):
    boxes = [(0, 0, 1, 1, 20, 30), (0, 0, 1, 1, 10, 10)]
    dataset = make_dataset(boxes, areas=[area, 80])
    assert dataset.areas.tolist() == [expected, 80]
    assert bool(dataset.changes.counts) == counted


def test_areas_that_are_fractions_of_the_image():
    dataset = make_dataset([(0, 0, 1, 1, 20, 30), (0, 0, 1, 1, 10, 10)], areas=[0.01, 1.0])
    assert dataset.areas.tolist() == [600, 100] and sum(dataset.changes.counts.values()) == 2


def test_boxes_that_are_fractions_of_the_image():
    with pytest.raises(DataError, match=r"set\.json: .*fractions.*box 1: \[0.1, 0.1, 0.5, 0.9\]"):
        make_dataset([(0, 0, 0.1, 0.1, 0.5, 0.9), (0, 0, 0.5, 0, 0.5, 1)])
    make_dataset([(0, 0, 0, 0, 1, 1)])  # a box of one pixel


@pytest.mark.parametrize("share, warned", [(1, False), (2, True)])
def test_two_corners_instead_of_a_size(share, warned):
    """A warning where a tenth of the boxes leaves its image by more than a twentieth of a side."""
    boxes = [(0, 0, 600, 400, 630, 470)] * share + [(0, 0, 600, 400, 70, 80)] * (15 - share)
    dataset = make_dataset(boxes)
    assert dataset.num_boxes == 15
    assert len(dataset.changes.warnings) == warned
    if warned:
        assert "Is it [x, y, width, height]?" in dataset.changes.warnings[0]
        assert "2 of 15 boxes leave their image, for example box 1" in dataset.changes.warnings[0]


def test_names_that_occur_twice():
    changes = ChangeLog()
    names = ["a", "b", "a", "a (3)", 7, "7"]
    assert distinct_names(names, [1, 2, 3, 4, 5, 6], changes) == [
        *("a (1)", "b", "a (3)'", "a (3)", "7 (5)", "7 (6)")
    ]
    assert changes.counts == {"classes of one name told apart by their ids": 4}


def test_nothing_to_read():
    with pytest.raises(DataError, match="no images"):
        make_dataset([], num_images=0)
    with pytest.raises(DataError, match="no classes"):
        make_dataset([], class_names=[], category_ids=[])


def test_boxes_that_32_bits_cannot_hold():
    """Numbers of 32 bits are 2**-4 apart at 10**6, and 2**-17 (0.0000076) below 128."""
    boxes = [
        (0, 0, 100, 100, 1e-6, 5),  # rounded to no width
        (0, 0, 100, 100, 0.001, 5),  # changed by less than 1 %
        (0, 0, 900_000, 100, 1.03, 5),  # to 1 or 1.0625
        (0, 0, 900_000, 100, 64.03, 5),
    ]
    dataset = make_dataset(boxes, size=(1_000_000, 480))
    assert dataset.boxes[:, 2].tolist() == [0.001, 64.03]
    what = "boxes too small for 32-bit coordinates dropped"
    assert dataset.changes.counts == {what: 2}
