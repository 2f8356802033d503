"""Mosaic and mix-up against slow references, and against the pixels themselves."""

import numpy as np
import pytest

from tood.data.mosaic import FILL_VALUE, LabeledImage, mix, mosaic


def make_image(rng, max_side: int = 24, num_boxes: int = 4, channels: int = 3) -> LabeledImage:
    """Random pixels; boxes of random sizes, of which some are tiny and some are crowds."""
    height, width = rng.integers(1, max_side, 2).tolist()
    corners = rng.uniform(0, 1, (num_boxes, 2, 2)) * (width, height)
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1)
    return LabeledImage(
        rng.integers(0, 256, (height, width, channels), dtype=np.uint8),
        boxes.astype(np.float32),
        rng.integers(0, 9, num_boxes),
        rng.random(num_boxes) < 0.3,
    )


def rows(image: LabeledImage) -> list[tuple]:
    """The boxes as a sorted list."""
    found = zip(image.boxes.tolist(), image.classes.tolist(), image.is_crowd.tolist(), strict=True)
    return sorted((*box, cls, crowd) for box, cls, crowd in found)


def slow_mosaic(parts, size, center, min_visible):
    """Pixel by pixel and box by box, from the four quadrants inward."""
    height, width = size
    canvas = [
        [[FILL_VALUE] * parts[0].pixels.shape[2] for _ in range(width)] for _ in range(height)
    ]
    for y in range(height):
        for x in range(width):
            part = parts[(2 if y >= center[1] else 0) + (1 if x >= center[0] else 0)]
            part_height, part_width = part.pixels.shape[:2]
            # Counted from the corner that lies at the center.
            column = x - center[0] if x >= center[0] else part_width - (center[0] - x)
            row = y - center[1] if y >= center[1] else part_height - (center[1] - y)
            if 0 <= column < part_width and 0 <= row < part_height:
                canvas[y][x] = part.pixels[row, column].tolist()
    kept = []
    quadrants = [
        (0, 0, center[0], center[1]),
        (center[0], 0, width, center[1]),
        (0, center[1], center[0], height),
        (center[0], center[1], width, height),
    ]
    for number, (part, (left, top, right, bottom)) in enumerate(zip(parts, quadrants, strict=True)):
        part_height, part_width = part.pixels.shape[:2]
        dx = center[0] if number in (1, 3) else center[0] - part_width
        dy = center[1] if number in (2, 3) else center[1] - part_height
        for box, cls, crowd in zip(part.boxes, part.classes, part.is_crowd, strict=True):
            x1, y1, x2, y2 = (float(value) for value in box)
            area = (x2 - x1) * (y2 - y1)
            moved = [x1 + dx, y1 + dy, x2 + dx, y2 + dy]
            cut = [
                max(moved[0], left),
                max(moved[1], top),
                min(moved[2], right),
                min(moved[3], bottom),
            ]
            w, h = cut[2] - cut[0], cut[3] - cut[1]
            if w >= 1 and h >= 1 and w * h >= min_visible * area:
                kept.append((*cut, int(cls), bool(crowd)))
    return np.array(canvas), sorted(kept)


@pytest.mark.parametrize("seed", range(40))
def test_mosaic_against_a_slow_reference(seed):
    rng = np.random.default_rng(seed)
    parts = [make_image(rng) for _ in range(4)]
    height, width = rng.integers(1, 24, 2).tolist()
    center = int(rng.integers(0, width + 1)), int(rng.integers(0, height + 1))
    min_visible = float(rng.choice([0.0, 0.1, 0.5, 1.0]))
    result = mosaic(parts, (height, width), center, min_visible)
    pixels, expected = slow_mosaic(parts, (height, width), center, min_visible)
    np.testing.assert_array_equal(result.pixels, pixels)
    assert result.pixels.dtype == np.uint8 and result.boxes.dtype == np.float32
    assert len(result.boxes) == len(expected)
    np.testing.assert_allclose(
        np.array(rows(result)).reshape(-1, 6), np.array(expected).reshape(-1, 6), atol=1e-5
    )


def test_the_references_see_something():
    """Boxes are kept, cut and dropped in the trials above."""
    counts = np.zeros(3, int)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        parts = [make_image(rng) for _ in range(4)]
        height, width = rng.integers(1, 24, 2).tolist()
        center = int(rng.integers(0, width + 1)), int(rng.integers(0, height + 1))
        before = [box for part in parts for box in (part.boxes[:, 2:] - part.boxes[:, :2]).tolist()]
        result = mosaic(parts, (height, width), center, 0.1)
        sides = (result.boxes[:, 2:] - result.boxes[:, :2]).tolist()
        whole = sum(any(np.allclose(side, old, atol=1e-4) for old in before) for side in sides)
        counts += (whole, len(sides) - whole, len(before) - len(sides))
    assert counts.min() > 20, counts


def painted(rng, first_color: int, size: tuple[int, int]) -> LabeledImage:
    """An image with three rectangles of one color each, which lie apart; the rest is black."""
    height, width = size
    pixels = np.zeros((height, width, 1), np.uint8)
    boxes, third = [], height // 3
    for number in range(3):
        y1 = number * third + int(rng.integers(0, third // 2))
        y2 = int(rng.integers(y1 + 1, (number + 1) * third + 1))
        x1 = int(rng.integers(0, width - 1))
        x2 = int(rng.integers(x1 + 1, width + 1))
        pixels[y1:y2, x1:x2] = first_color + number
        boxes.append((x1, y1, x2, y2))
    classes = np.arange(first_color, first_color + 3)
    return LabeledImage(pixels, np.array(boxes, np.float32), classes, np.zeros(3, bool))


@pytest.mark.parametrize("seed", range(10))
def test_boxes_are_where_their_pixels_are(seed):
    """Each color of the mosaic has a box, which encloses it exactly."""
    rng = np.random.default_rng(seed)
    parts = [painted(rng, 10 * n + 1, rng.integers(12, 40, 2).tolist()) for n in range(4)]
    result = mosaic(parts, (40, 50), rng.integers(5, 40, 2).tolist(), 0.0)
    visible = {}
    for color in set(np.unique(result.pixels).tolist()) - {0, FILL_VALUE}:
        y, x = np.nonzero(result.pixels[:, :, 0] == color)
        visible[color] = [x.min(), y.min(), x.max() + 1, y.max() + 1]
    assert len(visible) > 3
    assert dict(zip(result.classes.tolist(), result.boxes.tolist(), strict=True)) == visible


def test_a_crowd_stays_a_crowd():
    rng = np.random.default_rng(0)
    parts = [make_image(rng, num_boxes=0) for _ in range(3)]
    crowd = LabeledImage(
        np.zeros((20, 20, 3), np.uint8),
        np.array([[0, 0, 9, 9], [2, 2, 12, 12]], np.float32),
        np.array([4, 5]),
        np.array([True, False]),
    )
    result = mosaic([*parts, crowd], (20, 20), (5, 5), 0.0)
    assert rows(result) == [(5, 5, 14, 14, 4, True), (7, 7, 17, 17, 5, False)]


# ---- mix-up ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_mix_against_a_slow_reference(seed):
    """A second image that is not larger: its pixels are blended, the others stay."""
    rng = np.random.default_rng(seed)
    first = make_image(rng)
    second = make_image(rng)
    second = LabeledImage(
        second.pixels[: first.size[0], : first.size[1]],
        second.boxes,
        second.classes,
        second.is_crowd,
    )
    weight = float(rng.random())
    result = mix(first, second, weight)
    assert result.size == first.size
    for y in range(first.size[0]):
        for x in range(first.size[1]):
            expected = first.pixels[y, x].astype(float)
            if y < second.size[0] and x < second.size[1]:
                expected = weight * expected + (1 - weight) * second.pixels[y, x]
            assert np.abs(result.pixels[y, x] - expected).max() <= 0.501
    assert rows(result) == sorted(rows(first) + rows(second))


def test_a_larger_image_is_scaled_down():
    """A box of a side below 1 pixel is dropped; the image keeps its shape."""
    first = LabeledImage(
        np.zeros((20, 30, 3), np.uint8),
        np.zeros((0, 4), np.float32),
        np.zeros(0, int),
        np.zeros(0, bool),
    )
    pixels = np.zeros((60, 40, 3), np.uint8)
    pixels[:, 20:] = 200
    boxes = np.array([[20, 0, 40, 60], [0, 0, 2, 50]], np.float32)
    second = LabeledImage(pixels, boxes, np.array([1, 2]), np.zeros(2, bool))
    result = mix(first, second, 0.5)
    assert result.size == (20, 30)
    # 40x60 fits 30x20 at a third: 13x20.
    np.testing.assert_allclose(result.boxes, [[6.5, 0, 13, 20]])
    assert result.classes.tolist() == [1]
    assert result.pixels[10, 10:12].tolist() == [[100] * 3] * 2
    assert result.pixels[:, 13:].max() == 0 and first.pixels.max() == 0


def test_resizing_moves_boxes_with_their_pixels():
    pixels = np.zeros((20, 40, 1), np.uint8)
    pixels[4:12, 8:24] = 255
    image = LabeledImage(
        pixels, np.array([[8, 4, 24, 12]], np.float32), np.array([0]), np.zeros(1, bool)
    )
    small = image.resize(10, 10)
    assert small.boxes.tolist() == [[2, 2, 6, 6]] and small.pixels.shape == (10, 10, 1)
    assert small.pixels[3:5, 3:5].min() == 255 and small.pixels[8:].max() == 0
    assert image.resize(20, 40) is image
