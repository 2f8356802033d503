"""detectron2's augmentations of the same config, with at least one pixel left."""

import detectron2.data.transforms as T
import numpy as np
import pytest
from detectron2.data.detection_utils import build_augmentation, read_image

from tood.data.transforms import (
    FixedSizeCrop,
    RandomCrop,
    RandomSaturation,
    ResizeScale,
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


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def run(augmentations: list[T.Augmentation], image: np.ndarray, count: int = 6) -> list[np.ndarray]:
    np.random.seed(3)
    inputs = [T.AugInput(image) for _ in range(count)]
    for aug_input in inputs:
        T.AugmentationList(augmentations)(aug_input)
    return [x.image for x in inputs]


def test_jitter_is_detectron2s(tiny_cfg):
    """Scale, crop, flip, then colors; with their random numbers in this order."""
    node = tiny_cfg.INPUT
    node.FORMAT = "RGB"
    node.LSJ.ENABLED, node.LSJ.SIZE = True, (48, 64)
    node.LSJ.MIN_SCALE, node.LSJ.MAX_SCALE = 0.4, 1.8
    node.COLOR_JITTER.ENABLED, node.COLOR_JITTER.BRIGHTNESS = True, 0.5
    node.COLOR_JITTER.CONTRAST, node.COLOR_JITTER.SATURATION = 0.3, 0.9
    theirs = [
        T.ResizeScale(0.4, 1.8, 48, 64),
        T.FixedSizeCrop((48, 64)),
        T.RandomFlip(),
        T.RandomBrightness(0.5, 1.5),
        T.RandomContrast(0.7, 1.3),
        T.RandomSaturation(1 - 0.9, 1.9),
    ]
    ours = run(build_augmentations(tiny_cfg, is_train=True), noise(60, 100))
    for image, expected in zip(ours, run(theirs, noise(60, 100)), strict=True):
        assert image.shape == (48, 64, 3)
        difference = np.abs(image.astype(int) - expected)
        assert difference.max() <= 1
        # detectron2 makes many gray pixels, here the padding, darker by 1.
        is_gray = (np.ptp(image, axis=2) == 0) & (np.ptp(expected, axis=2) == 0)
        assert difference[~is_gray].mean() < 0.01
    node.COLOR_JITTER.SATURATION = 0.0
    ours = run(build_augmentations(tiny_cfg, is_train=True), noise(60, 100))
    for image, expected in zip(ours, run(theirs[:-1], noise(60, 100)), strict=True):
        np.testing.assert_array_equal(image, expected)
    node.COLOR_JITTER.SATURATION = 0.9
    node.COLOR_JITTER.BRIGHTNESS = node.COLOR_JITTER.CONTRAST = 0
    (*_, last) = build_augmentations(tiny_cfg, is_train=True)
    assert isinstance(last, RandomSaturation)
    assert len(build_augmentations(tiny_cfg, is_train=True)) == 4
    node.FORMAT = "L"
    assert len(build_augmentations(tiny_cfg, is_train=True)) == 3
    assert len(build_augmentations(tiny_cfg, is_train=False)) == 1


def test_gray_stays_gray_in_any_order():
    """Without saturation, all channels are the luminance of RGB."""
    rgb = noise(5, 7)
    gray = rgb @ np.array([0.299, 0.587, 0.114])
    for is_bgr, image in ((False, rgb), (True, rgb[:, :, ::-1])):
        (result,) = run([RandomSaturation(0, 0, is_bgr)], image, 1)
        assert np.abs(result - gray[:, :, None]).max() <= 1


def test_padding_belongs_to_no_mask():
    transform = FixedSizeCrop((40, 40)).get_transform(noise(20, 30))
    mask = transform.apply_segmentation(np.ones((20, 30), np.uint8))
    assert mask.sum() == 600 and mask.shape == (40, 40)


def test_padding_belongs_to_no_polygon():
    """Of an object that ends outside of its image, which is smaller than the crop."""
    pytest.importorskip("shapely")
    transform = FixedSizeCrop((40, 40)).get_transform(noise(20, 30))
    (cut,) = transform.apply_polygons([np.array([[10.0, 5], [36, 5], [36, 24], [10, 24]])])
    assert cut.min(axis=0).tolist() == [10, 5] and cut.max(axis=0).tolist() == [30, 20]


def test_jitter_leaves_a_pixel():
    for shape in ((3, 9000), (9000, 3)):
        (result,) = run([ResizeScale(0.1, 0.1, 64, 64)], noise(*shape), 1)
        assert min(result.shape[:2]) == 1 and max(result.shape[:2]) == 6


@pytest.mark.parametrize("lsj", [False, True])
def test_parts_of_a_mosaic_are_smaller(tiny_cfg, lsj):
    """The same random numbers give the same image, at a scale."""
    node = tiny_cfg.INPUT
    node.MIN_SIZE_TRAIN, node.MAX_SIZE_TRAIN = (40,), 90
    node.LSJ.ENABLED, node.LSJ.SIZE = lsj, (50, 90)
    whole = run(build_augmentations(tiny_cfg, True), noise(60, 100))
    for scale in (0.5, 0.7, 1.3):
        parts = run(build_augmentations(tiny_cfg, True, scale), noise(60, 100))
        for image, part in zip(whole, parts, strict=True):
            assert part.shape[:2] == tuple(round(side * scale) for side in image.shape[:2])
    node.LSJ.ENABLED, node.MIN_SIZE_TRAIN = False, (0,)
    (part,) = run(build_augmentations(tiny_cfg, True, 0.5), noise(60, 100), 1)
    assert part.shape == (30, 50, 3)


def test_gray_pixels_do_not_darken():
    gray = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    for result in run([RandomSaturation(0.2, 1.8)], gray, 20):
        np.testing.assert_array_equal(result, gray)
