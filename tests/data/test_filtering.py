"""What training skips."""

import logging

import pytest

from tood.data import build_train_loader, setup_datasets
from tood.data.filtering import MIN_IMAGE_SIDE, filter_training_dicts, unusable_reason
from tood.errors import DataError


def record(annotations, side=100):
    return {"file_name": "x.png", "height": side, "width": side, "annotations": annotations}


def annotation(box=(5, 5, 20, 20), **more):
    return {"bbox": list(box), "bbox_mode": 1, "category_id": 0, "iscrowd": 0, **more}


def test_unusable_annotations_are_counted(shapes_cfg, edited_json, caplog):
    def spoil(content):
        boxes = [[5, 5, 0, 9], [5, 5, -20, 9], [500, 500, 9, 9], [5, 5, 0.5, 9]]
        for box in [*boxes, [float("nan"), 5, 9, 9]]:
            number = len(content["annotations"]) + 1
            first = content["annotations"][0]
            content["annotations"].append({**first, "id": number, "bbox": box})

    shapes_cfg.DATASETS.TRAIN_ANNOTATIONS = edited_json(spoil)
    setup_datasets(shapes_cfg)
    caplog.set_level(logging.INFO, logger="tood")
    assert build_train_loader(shapes_cfg).num_images == 6
    assert "skips boxes with a side below 1 pixel: 3, for example" in caplog.text
    assert "skips boxes outside of their image: 1" in caplog.text
    assert "skips boxes with non-finite values: 1" in caplog.text


def test_no_usable_annotation(shapes_cfg, edited_json):
    shapes_cfg.DATASETS.TRAIN_ANNOTATIONS = edited_json(lambda c: c["annotations"].clear())
    setup_datasets(shapes_cfg)
    with pytest.raises(DataError, match="6 images but no usable annotation.*ground truth: 6"):
        build_train_loader(shapes_cfg)


def test_skipped_images(caplog):
    dicts = [
        record([annotation()]),
        record([]),
        record([annotation(iscrowd=1)]),
        record([annotation()], side=MIN_IMAGE_SIDE - 1),
    ]
    caplog.set_level(logging.INFO, logger="tood")
    assert filter_training_dicts(dicts, filter_empty=True) == dicts[:1]
    assert "images without ground truth: 2" in caplog.text
    assert "images with a side below 32 pixels: 1" in caplog.text
    assert filter_training_dicts(dicts, filter_empty=False) == dicts[:3]


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (-5, -5, 6, 6), (99, 99, 50, 50)])
def test_usable_boxes(box):
    assert unusable_reason(annotation(box), 100, 100) is None


def test_input_is_not_changed():
    dicts = [record([annotation(), annotation((5, 5, 0, 5))])]
    (kept,) = filter_training_dicts(dicts, filter_empty=True)
    assert len(kept["annotations"]) == 1
    assert len(dicts[0]["annotations"]) == 2
