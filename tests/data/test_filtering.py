"""What training skips."""

import logging
import time

import numpy as np
import pytest

from tests.data.builders import make_dataset
from tood.data import build_train_loader, setup_datasets
from tood.data.dataset import DetectionDataset
from tood.data.filtering import MIN_IMAGE_SIDE, filter_training_set, unusable_boxes
from tood.errors import DataError

BOX = (0, 0, 5, 5, 20, 20)


def is_usable(*box: float, size: tuple[int, int] = (100, 100)) -> bool:
    masks = unusable_boxes(make_dataset([(0, 0, *box)], size))
    return not any(mask.any() for mask in masks.values())


def test_unusable_boxes_are_counted(shapes_cfg, edited_json, caplog):
    def spoil(content):
        for box in [[500, 500, 9, 9], [5, 5, 0.5, 9], [5, 5, 9, 0.99], [-9, 5, 9, 9]]:
            number = len(content["annotations"]) + 1
            first = content["annotations"][0]
            content["annotations"].append({**first, "id": number, "bbox": box})

    shapes_cfg.DATASETS.TRAIN_ANNOTATIONS = edited_json(spoil)
    setup_datasets(shapes_cfg)
    caplog.set_level(logging.INFO, logger="tood")
    assert build_train_loader(shapes_cfg).num_images == 6
    assert "skips boxes with a side below 1 pixel: 2, for example [5.0, 5.0, 0.5" in caplog.text
    assert "skips boxes outside of their image: 2, for example [500.0" in caplog.text
    assert ".png" in caplog.text


def test_no_usable_annotation():
    tiny = make_dataset([(0, 0, 5, 5, 0.5, 9), (1, 0, 900, 5, 9, 9)], num_images=6)
    with pytest.raises(DataError, match=r"6 images but no usable annotation.*ground truth: 6"):
        filter_training_set(tiny, filter_empty=True)
    with pytest.raises(DataError, match=r"no usable annotation.*below 1 pixel: 1.*outside.*: 1"):
        filter_training_set(tiny, filter_empty=False)


@pytest.mark.parametrize("filter_empty", [True, False])
def test_nothing_but_crowds(filter_empty):
    crowds = make_dataset([BOX, BOX], is_crowd=[True, True])
    with pytest.raises(DataError, match=r"All 2 annotations.*set\.json are crowds"):
        filter_training_set(crowds, filter_empty)


def test_skipped_images(caplog):
    """Image 0 is kept; 1 has no box, 2 a crowd alone, 3 is too small, 4 loses its only box."""
    sizes = [100, 100, 100, MIN_IMAGE_SIDE - 1, 100]
    dataset = make_dataset(
        [BOX, (0, 2, 1, 1, 5, 5), (2, 1, 5, 5, 20, 20), (3, 0, 5, 5, 9, 9), (4, 0, 5, 5, 9, 0.5)],
        num_images=5,
        is_crowd=[False, False, True, False, False],
        widths=sizes,
    )
    caplog.set_level(logging.INFO, logger="tood")
    kept = filter_training_set(dataset, filter_empty=True)
    assert kept.dicts() == dataset.dicts()[:1]
    assert "images without ground truth, of which 1 with crowds only: 3." in caplog.text
    assert "images with a side below 32 pixels: 1." in caplog.text
    assert "side below 1 pixel: 1, for example [5.0, 5.0, 9.0, 0.5] in 4.jpg" in caplog.text
    kept = filter_training_set(dataset, filter_empty=False)
    assert [len(record["annotations"]) for record in kept.dicts()] == [2, 0, 1, 0]
    assert dataset.num_boxes == 5 and len(dataset) == 5  # not changed


def test_images_of_32_pixels_are_kept():
    assert len(filter_training_set(make_dataset([BOX], (32, 32)), True)) == 1


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (-5, -5, 6, 6), (99, 99, 50, 50), (0, 0, 1e6, 1e6)])
def test_usable_boxes(box):
    assert is_usable(*box)


@pytest.mark.parametrize("box", [(0, 0, 0.999, 9), (-5, 0, 5, 9), (100, 0, 9, 9), (0, -9, 9, 9)])
def test_unusable_boxes(box):
    assert not is_usable(*box)


def test_a_side_of_exactly_one_pixel_is_kept_wherever_it_is():
    """x + 1.0 - x is below 1 for many x; the sides are tested as they were annotated."""
    x = np.random.default_rng(0).uniform(0, 1e4, 20_000)
    assert ((x + 1.0) - x < 1).any()
    boxes = [(0, 0, value, 5, 1.0, 9) for value in x]
    masks = unusable_boxes(make_dataset(boxes, (20_000, 100)))
    assert not any(mask.any() for mask in masks.values())


def test_two_million_boxes():
    count, images = 2_000_000, 200_000
    rng = np.random.default_rng(0)
    dataset = DetectionDataset(
        source="large.json",
        class_names=["a"],
        category_ids=[1],
        file_names=["x.jpg"] * images,
        image_ids=list(range(images)),
        heights=np.full(images, 480, np.int32),
        widths=np.full(images, 640, np.int32),
        offsets=np.arange(images + 1, dtype=np.int64) * (count // images),
        boxes=rng.uniform(0.5, 300, (count, 4)),
        class_ids=np.zeros(count, np.int32),
        is_crowd=rng.random(count) < 0.01,
        areas=np.ones(count),
    )
    start = time.process_time()
    kept = filter_training_set(dataset, filter_empty=True)
    assert time.process_time() - start < 1.5
    assert len(kept) == images and 0.99 * count < kept.num_boxes < count
