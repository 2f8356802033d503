import dataclasses

import numpy as np
import pytest
from PIL import Image

from tests.export.verify.helpers import NetworkBackend
from tood.export.verify.images import MAX_IMAGES, MIN_IMAGES, make_batches, prepare_images
from tood.inference import Detector
from tood_runtime.image_io import ImageReadError
from tood_runtime.sources import SourceError


@pytest.fixture
def info(make_backend):
    backend: NetworkBackend = make_backend()
    return backend.info


def write_images(folder, *sizes):
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for index, (height, width) in enumerate(sizes):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")
    return folder


def test_drawn_images_have_all_kinds_of_sizes(confident, info):
    images = prepare_images(confident[1], info, None)
    sizes = [image.size for image in images]
    assert len(sizes) == len(set(sizes)) == MIN_IMAGES >= 8
    assert (64, 64) in sizes
    assert any(height > width for height, width in sizes)
    assert any(width > height for height, width in sizes)
    assert any(height % 32 and width % 32 for height, width in sizes)
    for image in images:
        assert image.original_size[0] != image.size[0] and image.original_size[1] != image.size[1]
        assert image.pixels.std() > 5


def test_drawn_images_of_large_models_stay_small(confident, info):
    cfg = confident[1].clone()
    cfg.INPUT.MIN_SIZE_TEST = 0  # does not resize
    large = [image.size for image in prepare_images(cfg, info, None)]
    assert max(height for height, _ in large) > 400
    assert sum(height * width for height, width in large) < 800 * 1216


def test_named_images_are_preprocessed_as_by_the_detector(confident, info, tmp_path):
    model, cfg = confident[0], confident[1].clone()
    cfg.INPUT.FORMAT = "BGR"
    images = prepare_images(cfg, info, [write_images(tmp_path / "a", (30, 50), (200, 90))])
    first, second = images[:2]
    detector = Detector(model, cfg)
    for image in (first, second):
        pixels = np.asarray(Image.open(tmp_path / "a" / image.name))
        # The file is in RGB.
        expected = detector.resize.get_transform(pixels).apply_image(pixels)[:, :, ::-1]
        np.testing.assert_array_equal(image.pixels.numpy().transpose(1, 2, 0), expected)
    assert (first.size, first.original_size) == ((48, 80), (30, 50))
    assert (second.size, second.original_size) == ((96, 43), (200, 90))
    # Others fill up.
    assert [image.name for image in images[2:]] == [f"drawn {i}" for i in range(1, 8)]


def test_an_image_that_is_not_resized_gets_another_original_size(confident, info, tmp_path):
    image = prepare_images(confident[1], info, [write_images(tmp_path / "a", (48, 60))])[0]
    assert image.size == (48, 60)
    assert image.original_size[0] != 48 and image.original_size[1] != 60


def test_of_many_images_some_of_all_sizes_are_taken(confident, info, tmp_path):
    sizes = [(40, 40)] * 30 + [(40, 60), (60, 40)] + [(40, 40)] * 3
    images = prepare_images(confident[1], info, [write_images(tmp_path / "a", *sizes)])
    # Of three sizes: drawn images bring the others.
    assert len(images) == MAX_IMAGES + MIN_IMAGES - 3
    assert {image.original_size for image in images} >= {(40, 60), (60, 40)}


def test_an_unreadable_image_and_an_empty_folder_are_errors(confident, info, tmp_path):
    with pytest.raises(SourceError, match="Found no images"):
        prepare_images(confident[1], info, [tmp_path])
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ImageReadError, match=r"a\.png"):
        prepare_images(confident[1], info, [tmp_path])


def test_images_fit_into_a_fixed_size(confident, info, tmp_path):
    fixed = dataclasses.replace(info, height=40, width=70)
    named = write_images(tmp_path / "a", (30, 50))
    images = prepare_images(confident[1], fixed, [named])
    assert all(image.size[0] <= 40 and image.size[1] <= 70 for image in images)
    assert images[0].size == (40, 66), "48x80, shrunk by 40 / 48"
    batches = make_batches(images, 2, fixed)
    assert {batch.padded_size for batch in batches} == {(40, 70)}


def test_batches_mix_sizes_and_hold_every_image(confident, info):
    images = prepare_images(confident[1], info, None)
    for count in (9, 8):
        batches = make_batches(images[:count], 3, info)
        assert len(batches) == 3
        assert {id(i) for batch in batches for i in batch.images} == {id(i) for i in images[:count]}
        for batch in batches:
            assert len({image.size for image in batch.images}) == 3
    padded = [batch.padded_size for batch in make_batches(images, 1, info)]
    assert any(height % 32 or width % 32 for height, width in padded)
    assert any(not (height % 32 or width % 32) for height, width in padded[1::2])


def test_the_arrays_of_a_batch(confident, info):
    images = prepare_images(confident[1], info, None)
    batch = make_batches(images, 3, info)[0]
    pixels, sizes, originals = batch.arrays()
    assert pixels.dtype == np.float32 and sizes.dtype == originals.dtype == np.int64
    assert pixels.shape == (3, 3, *batch.padded_size)
    for row, size, original, image in zip(pixels, sizes, originals, batch.images, strict=True):
        height, width = size
        assert (tuple(size), tuple(original)) == (image.size, image.original_size)
        np.testing.assert_array_equal(row[:, :height, :width], image.pixels)
        # Padding must have no effect, so it is not black.
        assert (row[:, height:] == 255).all() and (row[:, :, width:] == 255).all()
