"""Drawings, looked at pixel by pixel."""

import dataclasses
import itertools

import numpy as np
import pytest
from PIL import Image

from tood_runtime.detections import Detections
from tood_runtime.drawing import class_color, display_scale, draw_detections, text_color
from tood_runtime.labels import LabelPlacer

GRAY = 128


def make(boxes, names=None, size=(480, 640), scores=None, classes=None) -> Detections:
    xyxy = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    num = len(xyxy)
    return Detections(
        xyxy=xyxy,
        confidence=np.array(scores or np.linspace(0.9, 0.4, num), dtype=np.float32),
        class_id=np.array(classes if classes is not None else range(num), dtype=np.int64),
        class_names=names or ["thing"] * num,
        image_size=size,
    )


def canvas(size=(480, 640)) -> np.ndarray:
    return np.full((*size, 3), GRAY, np.uint8)


def drawn(detections: Detections, **options) -> np.ndarray:
    return np.asarray(draw_detections(canvas(detections.image_size), detections, **options))


def has_color(pixels: np.ndarray, color) -> np.ndarray:
    return (pixels == np.array(color)).all(axis=-1)


# ---- colors ----------------------------------------------------------------------------------


def test_class_colors_are_valid_and_differ():
    colors = [class_color(i) for i in range(1000)]
    for color in colors:
        assert all(type(c) is int and 0 <= c <= 255 for c in color)
    assert len(set(colors[:100])) == 100
    for first, second in itertools.combinations(colors[:8], 2):
        assert np.abs(np.subtract(first, second)).sum() > 60


def test_text_can_be_read_on_every_color():
    def luminance(color):
        c = np.array(color) / 255
        linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    for index in range(200):
        color = class_color(index)
        text = text_color(color)
        dark, light = sorted([luminance(color), luminance(text)])
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG's AA
    assert text_color((255, 255, 0)) == (0, 0, 0)
    assert text_color((60, 0, 120)) == (255, 255, 255)


# ---- boxes -----------------------------------------------------------------------------------


def test_outlines_lie_on_the_edges_of_the_box():
    pixels = drawn(make([[100, 200, 300, 400]]))
    color = has_color(pixels, class_color(0))
    assert color[200, 100:300].all() and color[399, 100:300].all()
    assert color[200:400, 100].all() and color[200:400, 299].all()
    label_free = pixels[201:]  # the label is above the box
    assert (label_free[:, :100] == GRAY).all() and (label_free[:, 300:] == GRAY).all()
    assert (pixels[400:] == GRAY).all()
    assert (pixels[205:395, 105:295] == GRAY).all()


def test_the_best_outline_is_on_top():
    pixels = drawn(make([[100, 200, 300, 400]] * 3, scores=[0.5, 0.9, 0.7]))
    assert has_color(pixels[399, 100:300], class_color(1)).all()


def test_nothing_is_drawn_without_detections():
    np.testing.assert_array_equal(drawn(make([])), canvas())


def test_boxes_that_cannot_be_drawn_are_left_out():
    boxes = [[np.nan, 0, 10, 10], [0, 0, np.inf, 9], [700, 10, 800, 20], [10, -20, 30, -1]]
    np.testing.assert_array_equal(drawn(make(boxes)), canvas())


def test_odd_boxes_are_drawn_inside_the_image():
    boxes = [[-1e30, -50, 1e30, 1e9], [5, 5, 5, 5], [639, 479, 640, 480], [50, 60, 40, 30]]
    pixels = drawn(make(boxes))
    color = has_color(pixels, class_color(0))
    assert color[240, 0] and color[240, 639] and color[479, 300]


def test_lines_do_not_hide_small_objects():
    pixels = drawn(make([[1000, 1000, 1008, 1008]], size=(3000, 4000)))
    assert (pixels[1001:1007, 1001:1007] == GRAY).all()
    assert has_color(pixels[1000, 1000:1008], class_color(0)).all()


def test_lines_and_fonts_grow_with_the_image():
    box = [0.25, 0.25, 0.75, 0.75]
    widths, heights = [], []
    for size in ((480, 640), (1920, 2560)):
        pixels = drawn(make([np.multiply(box, [*size[::-1]] * 2)], size=size))
        color = has_color(pixels, class_color(0))
        widths.append(color[size[0] // 2, : size[1] // 2].sum())
        heights.append(color[: size[0] // 4, size[1] // 4].sum())
    assert widths[1] > 2 * widths[0] and heights[1] > 2 * heights[0]


# ---- labels ----------------------------------------------------------------------------------


def record_labels(monkeypatch) -> list:
    """Rectangles (x1, y1, x2, y2) of the labels that will be placed, in that order."""
    placed = []
    original = LabelPlacer.place

    def place(self, box, size):
        x, y = original(self, box, size)
        placed.append((x, y, x + size[0], y + size[1]))
        return x, y

    monkeypatch.setattr(LabelPlacer, "place", place)
    return placed


def overlap(first, second) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(0, width) * max(0, height)


def test_label_is_filled_with_the_class_color_and_holds_text(monkeypatch):
    placed = record_labels(monkeypatch)
    pixels = drawn(make([[100, 200, 300, 400]], ["star"], classes=[1]))
    ((x1, y1, x2, y2),) = placed
    assert (x1, y2) == (100, 200)  # above the box, flush left
    label = pixels[y1:y2, x1:x2]
    text = ~has_color(label, class_color(1))
    border = np.ones(label.shape[:2], bool)
    border[1:-1, 1:-1] = False
    assert has_color(label, class_color(1))[border].all()
    assert 0.05 < text.mean() < 0.5
    darkest = label[text].sum(axis=1)  # the text, in part antialiased
    assert text_color(class_color(1)) == (0, 0, 0) and darkest.min() < 60
    outside = np.ones(pixels.shape[:2], bool)
    outside[y1:y2, x1:x2] = False
    outside[200:400, 100:300] = False
    assert (pixels[outside] == GRAY).all()


@pytest.mark.parametrize("size", [(480, 640), (64, 64), (30, 300), (300, 30), (9, 9), (3, 9000)])
def test_labels_never_leave_the_image(monkeypatch, size):
    placed = record_labels(monkeypatch)
    height, width = size
    corners = [[0, 0], [width - 8, 0], [0, height - 8], [width - 8, height - 8]]
    boxes = [[x, y, x + 8, y + 8] for x, y in corners]
    names = ["triangle", "a rather long class name", "$x^2_1$", "W" * 300]
    for scale in (None, 1):
        placed.clear()
        shape = drawn(make(boxes, names, size), scale=scale).shape
        for x1, y1, x2, y2 in placed:
            assert 0 <= x1 < x2 <= shape[1] and 0 <= y1 < y2 <= shape[0]
        assert len(placed) == (4 if min(shape[:2]) >= 30 else 0)


def test_labels_avoid_each_other(monkeypatch):
    placed = record_labels(monkeypatch)
    same = [[200, 200, 330, 330]] * 12
    side_by_side = [[x, y, x + 30, y + 30] for x in (10, 30, 50) for y in (0, 20, 400)]
    drawn(make(same + side_by_side))
    assert len(placed) == 21
    for first, second in itertools.combinations(placed, 2):
        assert overlap(first, second) == 0


def test_the_best_label_is_on_top_where_there_is_no_room(monkeypatch):
    placed = record_labels(monkeypatch)
    size = (24, 90)
    pixels = drawn(make([[2, 2, 80, 20]] * 6, size=size), scale=1)
    x1, y1, x2, y2 = placed[0]
    assert any(overlap(placed[0], other) for other in placed[1:])
    border = [
        *pixels[y1, x1:x2],
        *pixels[y2 - 1, x1:x2],
        *pixels[y1:y2, x1],
        *pixels[y1:y2, x2 - 1],
    ]
    assert (np.array(border) == class_color(0)).all()


def test_special_characters_are_drawn_literally():
    plain = drawn(make([[100, 200, 300, 400]], ["x"]))
    for name in ("$x$", "x_1", r"\frac{1}{2}", "a\nb", "<b>x</b>", "%s", "\ud800", "\x00", ""):
        pixels = drawn(make([[100, 200, 300, 400]], [name]))
        assert (pixels != plain).any() and (pixels != GRAY).any(), name


# ---- scale and input -------------------------------------------------------------------------


def test_small_images_are_enlarged():
    assert display_scale(canvas((64, 48))) == 7.5
    assert display_scale(canvas((480, 640))) == 1.0
    detections = make([[8, 16, 40, 48]], size=(64, 64))
    pixels = drawn(detections)
    assert pixels.shape == (480, 480, 3)
    color = has_color(pixels, class_color(0))
    assert color[120:360, 60].all() and color[120, 60:300].all() and color[359, 299]
    assert drawn(detections, scale=2).shape == (128, 128, 3)
    assert drawn(detections, scale=0.5).shape == (32, 32, 3)
    for scale in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="scale must be positive"):
            drawn(detections, scale=scale)


def test_channels_are_rgb_and_the_input_is_not_changed():
    image = canvas()
    image[..., 0] = 250
    before = image.copy()
    drawing = draw_detections(image, make([[100, 200, 300, 400]]))
    assert isinstance(drawing, Image.Image) and drawing.mode == "RGB"
    assert drawing.getpixel((5, 5)) == (250, GRAY, GRAY)
    np.testing.assert_array_equal(image, before)


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"image is 640x480 .* belong to one of 480x640"):
        draw_detections(canvas((480, 640)), make([], size=(640, 480)))


def test_a_huge_image_with_many_boxes():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 1, (100, 2)) * [11000, 8000]
    detections = make(np.concatenate([corners, corners + 900], axis=1), size=(9000, 12000))
    assert draw_detections(canvas((9000, 12000)), detections).size == (12000, 9000)


def test_numbers_of_a_tracker_are_drawn():
    plain = make([[50, 50, 300, 300], [350, 50, 600, 300]], ["car", "car"])
    tracked = dataclasses.replace(plain, tracker_id=np.array([12, -1]))
    named = dataclasses.replace(plain, class_names=["#12 car", "car"])
    np.testing.assert_array_equal(drawn(tracked), drawn(named))
    assert not np.array_equal(drawn(tracked), drawn(plain))
