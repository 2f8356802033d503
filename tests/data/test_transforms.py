"""detectron2's augmentations of the same config, with at least one pixel left."""

import detectron2.data.transforms as T
import numpy as np
import pytest
from detectron2.data.detection_utils import build_augmentation, read_image

from tood.data.transforms import (
    RandomCrop,
    ResizeShortestEdge,
    build_augmentations,
    convert_format,
)
from tood_runtime.image_io import read_image as read_rgb
from tood_runtime.image_writing import save_image


@pytest.mark.parametrize("flip", ["none", "horizontal", "vertical"])
@pytest.mark.parametrize("is_train", [True, False])
def test_same_as_detectron2s(tiny_cfg, flip, is_train):
    tiny_cfg.INPUT.RANDOM_FLIP = flip
    tiny_cfg.INPUT.MIN_SIZE_TRAIN, tiny_cfg.INPUT.MAX_SIZE_TRAIN = (40, 50), 90
    tiny_cfg.INPUT.MIN_SIZE_TEST, tiny_cfg.INPUT.MAX_SIZE_TEST = 45, 80
    image = np.random.default_rng(0).integers(0, 256, (60, 100, 3)).astype(np.uint8)
    for style in ("choice", "range"):
        tiny_cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = style
        results = []
        for build in (build_augmentation, build_augmentations):
            np.random.seed(3)
            inputs = [T.AugInput(image) for _ in range(8)]
            for aug_input in inputs:
                T.AugmentationList(build(tiny_cfg, is_train))(aug_input)
            results.append([x.image for x in inputs])
        for theirs, ours in zip(*results, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_crop_comes_first(tiny_cfg):
    tiny_cfg.INPUT.CROP.ENABLED = True
    tiny_cfg.INPUT.CROP.TYPE, tiny_cfg.INPUT.CROP.SIZE = "relative", [0.5, 0.25]
    first = build_augmentations(tiny_cfg, is_train=True)[0]
    transform = first.get_transform(np.zeros((40, 80, 3), np.uint8))
    assert (transform.h, transform.w) == (20, 20)
    assert not any(isinstance(a, RandomCrop) for a in build_augmentations(tiny_cfg, False))


@pytest.mark.parametrize("size", [(3, 9000), (9000, 3), (1, 1)])
def test_at_least_one_pixel_is_left(size):
    image = np.full((*size, 3), 90, np.uint8)
    resized = ResizeShortestEdge([800, 800], 1333).get_transform(image).apply_image(image)
    assert min(resized.shape[:2]) >= 1 and max(resized.shape[:2]) <= 1333
    for kind, crop in (("relative", [0.1, 0.1]), ("relative_range", [0.01, 0.01])):
        cropped = RandomCrop(kind, crop).get_transform(image).apply_image(image)
        assert min(cropped.shape[:2]) >= 1


@pytest.mark.parametrize("image_format", ["RGB", "BGR", "L", "YUV-BT.601"])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_pixels_are_detectron2s(tmp_path, image_format, suffix):
    path = tmp_path / f"x{suffix}"
    save_image(np.random.default_rng(0).integers(0, 256, (33, 47, 3)).astype(np.uint8), path)
    pixels = convert_format(read_rgb(path), image_format)
    theirs = read_image(str(path), image_format)
    assert pixels.dtype == theirs.dtype
    np.testing.assert_array_equal(pixels, theirs)
