"""The page about datasets: boxes where they are, text that stays text, and no figures without."""

import re

import numpy as np
import pytest
from PIL import Image

from tests.data.builders import make_dataset
from tood.analysis.dataset_charts import class_histogram, size_charts
from tood.analysis.dataset_page import CheckedSet, draw_boxes, write_page
from tood.data.checking import check_dataset
from tood.data.model_input import ModelInput, PointGrid
from tood_runtime.drawing import class_color
from tood_runtime.image_io import ImageReadError

GRID = PointGrid((8, 16), (64.0, 128.0), 0.0, 32)


@pytest.fixture
def gray(tmp_path) -> str:
    Image.new("RGB", (210, 100), (128, 128, 128)).save(tmp_path / "gray.png")
    return str(tmp_path / "gray.png")


def report_of(dataset, grid=GRID, is_train=True):
    model_input = ModelInput(train_sizes=(100,), test_size=100, grid=grid)
    return check_dataset(dataset, model_input, is_train)


def test_boxes_are_drawn_in_the_color_of_their_class(gray):
    boxes = [(0, 0, 10, 20, 50, 30), (0, 2, 100, 20, 60, 60)]
    dataset = make_dataset(boxes, (210, 100), file_names=[gray], is_crowd=[False, True])
    pixels = np.asarray(draw_boxes(dataset, 0))
    assert pixels.shape == (200, 420, 3)  # twice the size
    assert tuple(pixels[60, 20]) == tuple(pixels[40, 60]) == class_color(0)
    assert tuple(pixels[60, 119]) == class_color(0)  # the last column of the box
    assert tuple(pixels[60, 17]) == tuple(pixels[60, 122]) == (128, 128, 128)
    assert tuple(pixels[70, 70]) == (128, 128, 128)
    assert tuple(pixels[100, 260]) == class_color(2)  # the diagonal of the crowd
    assert tuple(pixels[100, 240]) == (128, 128, 128)


def test_images_that_cannot_be_decoded(tmp_path):
    dataset = make_dataset([(0, 0, 1, 1, 9, 9)], file_names=[str(tmp_path / "none.png")])
    with pytest.raises(ImageReadError):
        draw_boxes(dataset, 0)
    path = tmp_path / "page.html"
    write_page(path, "x", {"train": CheckedSet(dataset, report_of(dataset))}, [])
    text = path.read_text()
    assert "<img" not in text and "it does not exist" in text


def test_class_histogram_is_sorted_and_cut(gray):
    names = [f"n{index}" for index in range(205)]
    boxes = [(0, index, 1, 1, 9, 9) for index in [7, 7, 7, 7, 3]]
    dataset = make_dataset(
        boxes, file_names=[gray], class_names=names, category_ids=list(range(205))
    )
    text = class_histogram({"train": report_of(dataset)})
    assert re.findall(r"<td>(n\d+)</td>", text)[:3] == ["n7", "n3", "n0"]
    assert text.count("<td>n") == 200 and "5 classes with fewer boxes are not shown" in text
    widths = [float(width) for width in re.findall(r"width:([\d.]+)rem", text)]
    assert widths[0] == 4 * widths[1] > 0 == widths[2]


def test_sizes_with_and_without_anchor_points(gray):
    dataset = make_dataset([(0, 0, 10, 10, 40, 40)], (210, 100), file_names=[gray])
    text = size_charts({"train": report_of(dataset)})
    assert '<td class="number">32 to 45</td>' in text and "stride 16" in text
    assert "stride" not in size_charts({"train": report_of(dataset, grid=None)})


def test_sets_without_boxes(gray, tmp_path):
    dataset = make_dataset([], (210, 100), file_names=[gray])
    path = tmp_path / "page.html"
    write_page(path, "<title>", {"test": CheckedSet(dataset, report_of(dataset))}, [])
    text = path.read_text()
    assert "&lt;title&gt;" in text and "no boxes at all: 1" in text
