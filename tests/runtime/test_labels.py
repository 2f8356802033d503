"""The layout and the placement of labels."""

import numpy as np
import pytest

from tood_runtime.labels import LabelPlacer, fit_label


def test_names_that_do_not_fit_are_shortened():
    label = fit_label("name " * 60, "87%", 12, (200, 100))
    assert label.size[0] <= 200 and label.text.endswith("… 87%") and label.text.startswith("name")
    assert fit_label("x", "87%", 12, (40, 11)).size[1] <= 11  # a smaller font
    assert fit_label("x", "87%", 12, (5, 5)) is None


def test_labels_of_one_font_have_one_height():
    heights = {fit_label(name, "87%", 16, (640, 480)).size[1] for name in ("ace", "gyp", "BOX")}
    assert len(heights) == 1


@pytest.mark.parametrize(
    "box, corner",
    [
        ((100, 200, 300, 400), (100, 182)),  # above
        ((100, 10, 300, 400), (100, 0)),  # moved down into the image
        ((620, 200, 640, 400), (580, 182)),  # moved left into the image
        ((-50, -50, 700, 500), (0, 0)),
    ],
)
def test_first_choice_is_above_the_box(box, corner):
    assert LabelPlacer((640, 480)).place(np.array(box, float), (60, 18)) == corner


def test_later_labels_take_free_places():
    placer = LabelPlacer((640, 480))
    box = np.array([100.0, 200, 300, 400])
    corners = [placer.place(box, (60, 18)) for _ in range(4)]
    assert corners == [(100, 182), (100, 200), (240, 182), (100, 400)]


def test_more_labels_than_are_searched():
    placer = LabelPlacer((640, 480))
    corners = [placer.place(np.array([100.0, 100, 200, 200]), (60, 18)) for _ in range(600)]
    assert corners[-1] == (100, 82)
    assert all(0 <= x <= 580 and 0 <= y <= 462 for x, y in corners)
