"""Preprocessing is detectron2's, pixel by pixel."""

import numpy as np
import pytest

from tood.data.transforms import ResizeShortestEdge, convert_format
from tood_runtime.model_info import ModelFileError
from tood_runtime.preprocessing import prepare_batch, resize_image, resized_size

SIZES = [(96, 128), (128, 96), (100, 100), (33, 333), (333, 33), (1, 700), (700, 1), (2, 3)]
SIZES += [(int(h), int(w)) for h, w in np.random.default_rng(1).integers(1, 260, (40, 2))]


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(
        0, 256, (height, width, 3), np.uint8
    )


@pytest.mark.parametrize("channel_order", ["BGR", "RGB", "L"])
@pytest.mark.parametrize("limits", [(96, 160), (800, 1333), (31, 10), (0, 50)])
def test_pixels_equal_those_of_evaluation(make_info, channel_order, limits):
    info = make_info(
        channel_order=channel_order,
        min_size=limits[0],
        max_size=limits[1],
        channels=1 if channel_order == "L" else 3,
    )
    resize = ResizeShortestEdge([limits[0]] * 2, limits[1])
    for size in SIZES if limits[0] < 800 else SIZES[:9]:
        pixels = noise(*size)
        expected = convert_format(pixels, channel_order)
        expected = resize.get_transform(expected).apply_image(expected)
        np.testing.assert_array_equal(resize_image(pixels, info), expected)


def test_sizes_equal_those_of_evaluation(make_info):
    """Many sizes, without their pixels."""
    info = make_info(min_size=800, max_size=1333)
    resize = ResizeShortestEdge([800, 800], 1333)
    for height, width in np.random.default_rng(2).integers(1, 5000, (2000, 2)).tolist():
        transform = resize.get_transform(np.empty((height, width, 0)))
        assert resized_size(height, width, info) == (transform.new_h, transform.new_w)


def test_size_by_hand(make_info):
    info = make_info(min_size=100, max_size=160)
    assert resized_size(50, 60, info) == (100, 120)
    assert resized_size(50, 100, info) == (80, 160)
    assert resized_size(1, 1000, info) == (1, 160)
    assert resized_size(50, 60, make_info(min_size=0)) == (50, 60)


def test_batch_is_padded_at_the_right_and_the_bottom(make_info):
    info = make_info(min_size=0, channel_order="RGB")
    images = [noise(40, 30), noise(20, 70)]
    batch = prepare_batch(images, info)
    assert batch.images.shape == (2, 3, 64, 96) and batch.images.dtype == np.float32
    assert batch.image_sizes.tolist() == batch.original_sizes.tolist() == [[40, 30], [20, 70]]
    assert batch.image_sizes.dtype == batch.original_sizes.dtype == np.int64
    for i, image in enumerate(images):
        expected = np.zeros((64, 96, 3), np.float32)
        expected[: image.shape[0], : image.shape[1]] = image
        np.testing.assert_array_equal(batch.images[i], expected.transpose(2, 0, 1))


def test_original_sizes_are_those_before_resizing(make_info):
    batch = prepare_batch([noise(50, 60)], make_info())
    assert batch.image_sizes.tolist() == [[96, 115]] and batch.original_sizes.tolist() == [[50, 60]]
    assert batch.images.shape == (1, 3, 96, 128)


def test_fixed_size_scales_down_to_fit_and_never_up(make_info):
    info = make_info(min_size=100, max_size=200, height=64, width=160, channel_order="RGB")
    assert resized_size(50, 60, info) == (64, 77)  # 100x120, then times 0.64
    assert resized_size(50, 300, info) == (27, 160)  # 33.3x200, then times 0.8
    assert resized_size(50, 60, make_info(min_size=40, height=64, width=160)) == (40, 48)
    batch = prepare_batch([noise(50, 60)], info)
    assert batch.images.shape == (1, 3, 64, 160) and batch.image_sizes.tolist() == [[64, 77]]
    assert not batch.images[0, :, :, 77:].any()
    for height, width in np.random.default_rng(3).integers(1, 3000, (500, 2)).tolist():
        new_height, new_width = resized_size(height, width, info)
        assert 1 <= new_height <= 64 and 1 <= new_width <= 160


def test_fixed_batch_is_filled_up(make_info):
    info = make_info(batch=3, min_size=0)
    batch = prepare_batch([noise(20, 30), noise(40, 30)], info)
    assert batch.images.shape == (3, 3, 64, 32)
    np.testing.assert_array_equal(batch.images[1], batch.images[2])
    assert batch.original_sizes.tolist() == [[20, 30], [40, 30], [40, 30]]
    for images in ([], [noise(20, 30)] * 4):
        with pytest.raises(ValueError, match=f"at most 3, got {len(images)}"):
            prepare_batch(images, info)


def test_gray_images_are_repeated_for_networks_of_three_channels(make_info):
    pixels = noise(40, 30)
    one = resize_image(pixels, make_info(channel_order="L", channels=1))
    three = resize_image(pixels, make_info(channel_order="L"))
    np.testing.assert_array_equal(three, np.repeat(one, 3, axis=2))


def test_unknown_channel_order(make_info):
    with pytest.raises(ModelFileError, match=r"'YUV-BT\.601'.*Available: BGR, RGB, L\."):
        resize_image(noise(4, 4), make_info(channel_order="YUV-BT.601"))
