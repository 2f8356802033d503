"""Drawings of masks, looked at pixel by pixel."""

import numpy as np
from PIL import Image

from tests.runtime.test_detections import make
from tood_runtime.colors import class_color

SIZE = (50, 60)


def rectangle(x1, y1, x2, y2) -> np.ndarray:
    mask = np.zeros((1, *SIZE), bool)
    mask[0, y1:y2, x1:x2] = True
    return mask


def drawn(found, scale=1.0) -> np.ndarray:
    image = np.full((*SIZE, 3), 100, np.uint8)
    drawing = np.asarray(found.draw(image, scale=scale)).astype(int)
    assert (image == 100).all()  # not changed
    return drawing


def one(mask, **changes):
    """An object of class 1 whose box and label are in the left upper corner."""
    fields = {"xyxy": np.array([[0, 0, 9, 9]], np.float32), "class_id": np.array([1])}
    return make(1, mask=mask, **{**fields, **changes})


def test_pixels_are_tinted_and_outlined():
    """A rectangle of 24x20 pixels with a line of 1 pixel, half of the color inside."""
    plain, found = one(None), one(rectangle(30, 25, 54, 45))
    color = np.array(class_color(1))
    pixels = drawn(found)
    np.testing.assert_array_equal(pixels[:25], drawn(plain)[:25])
    np.testing.assert_array_equal(pixels[25:, :30], drawn(plain)[25:, :30])
    outline = np.ones((20, 24), bool)
    outline[1:-1, 1:-1] = False
    assert (pixels[25:45, 30:54][outline] == color).all()
    assert np.abs(pixels[26:44, 31:53] - (100 + color) / 2).max() <= 1
    assert (pixels[45:, 30:] == 100).all() and (pixels[25:, 54:] == 100).all()


def test_masks_grow_with_the_drawing():
    pixels = drawn(one(rectangle(30, 25, 54, 45)), scale=4)
    assert pixels.shape == (200, 240, 3)
    color = np.array(class_color(1))
    assert (pixels[100:180, 120:122] == color).all() and (pixels[100:102, 120:216] == color).all()
    assert np.abs(pixels[104:176, 124:212] - (100 + color) / 2).max() <= 1
    assert (pixels[180:, 120:] == 100).all() and (pixels[100:, 216:] == 100).all()


def test_the_best_mask_is_on_top_and_boxes_are_on_masks():
    both = np.concatenate([rectangle(20, 20, 50, 45), rectangle(20, 20, 50, 45)])
    xyxy = np.array([[20, 20, 50, 45], [0, 0, 9, 9]], np.float32)
    found = make(2, mask=both, xyxy=xyxy, class_id=np.array([0, 1]))
    pixels = drawn(found)
    assert (pixels[20, 30:48] == class_color(0)).all()  # outline of the box
    assert (pixels[23, 23:45] == pixels[23, 23]).all()
    below = (100 + np.array(class_color(1))) / 2
    assert np.abs(pixels[30, 30] - (below + class_color(0)) / 2).max() <= 2


def test_holes_pieces_and_empty_masks():
    mask = rectangle(20, 20, 50, 45)
    mask[0, 30:35, 30:40] = False
    mask[0, :, 44:46] = False
    pixels = drawn(one(mask))
    assert (pixels[30:35, 30:40] == 100).all() and (pixels[20:45, 44:46] == 100).all()
    assert (pixels[29, 30:40] == class_color(1)).all()  # around the hole
    np.testing.assert_array_equal(drawn(one(mask & False)), drawn(one(None)))
    for scale in (0.1, 0.5, 7.3):
        point = one(rectangle(59, 49, 60, 50))
        assert drawn(point, scale).shape == (round(50 * scale), round(60 * scale), 3)
    assert make(0, mask=mask[:0]).draw(Image.new("RGB", (60, 50))).size == (480, 400)
