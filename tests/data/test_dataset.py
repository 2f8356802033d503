"""The arrays of a dataset, its selections, and what other programs get of it."""

import numpy as np
import pytest
from detectron2.structures import BoxMode

from tests.data.builders import make_dataset
from tood.data.dataset import ChangeLog, concatenate

BOXES = [(0, 0, 1, 2, 10, 20), (0, 1, 3, 4, 30, 40), (2, 2, 5, 6, 50, 60)]


@pytest.fixture
def dataset():
    return make_dataset(BOXES, num_images=3, is_crowd=[0, 1, 0], segmentations=["m0", "m1", "m2"])


def test_record(dataset):
    assert dataset.record(0) == {
        "file_name": "0.jpg",
        "image_id": 0,
        "height": 480,
        "width": 640,
        "annotations": [
            {
                "bbox": [1, 2, 10, 20],
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": 0,
                "iscrowd": 0,
                "segmentation": "m0",
            },
            {
                "bbox": [3, 4, 30, 40],
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": 1,
                "iscrowd": 1,
                "segmentation": "m1",
            },
        ],
    }
    assert dataset.record(1)["annotations"] == []
    assert dataset.dicts() == list(dataset) and len(dataset) == 3


def test_select_boxes(dataset):
    kept = dataset.select_boxes(np.array([False, True, True]))
    assert kept.offsets.tolist() == [0, 1, 1, 2] and kept.boxes[:, 0].tolist() == [3, 5]
    assert kept.segmentations == ["m1", "m2"] and kept.is_crowd.tolist() == [True, False]
    assert kept.image_index.tolist() == [0, 2] and len(kept) == 3


def test_select_images(dataset):
    kept = dataset.select_images(np.array([False, True, True]))
    assert kept.file_names == ["1.jpg", "2.jpg"] and kept.image_ids == [1, 2]
    assert kept.offsets.tolist() == [0, 0, 1] and kept.class_ids.tolist() == [2]


def test_to_coco_has_ids_from_1(dataset):
    content = dataset.to_coco()
    assert [image["id"] for image in content["images"]] == [1, 2, 3]
    assert content["categories"][2] == {"id": 3, "name": "c"}
    assert content["annotations"][2] == {
        "id": 3,
        "image_id": 3,
        "category_id": 3,
        "bbox": [5, 6, 50, 60],
        "area": 3000,
        "iscrowd": 0,
        "segmentation": "m2",
    }
    assert content["annotations"][1]["iscrowd"] == 1


def test_concatenate(dataset):
    joined = concatenate([dataset, dataset.select_images(np.array([True, False, False]))])
    assert len(joined) == 4 and joined.offsets.tolist() == [0, 2, 2, 3, 5]
    assert joined.image_index.tolist() == [0, 0, 2, 3, 3]
    assert joined.segmentations == ["m0", "m1", "m2", "m0", "m1"]
    assert concatenate([dataset]) is dataset


def test_boxes_outside_of_their_image():
    corners = [(-20, 0), (-9, 0), (639, 479), (640, 0), (0, 480), (0, -20), (0, -19)]
    dataset = make_dataset([(0, 0, x, y, 10, 20) for x, y in corners])
    assert dataset.is_outside.tolist() == [True, False, False, True, True, True, False]


def test_changes_keep_the_first_example():
    changes = ChangeLog()
    changes.add("boxes dropped", "annotation 1", 2)
    changes.add("boxes dropped", "annotation 9")
    changes.add("nothing", "x", 0)
    assert changes.format() == "boxes dropped: 3 (for example annotation 1)"


def test_boxes_that_training_and_evaluation_leave_out():
    boxes = [
        (0, 0, 10, 10, 20, 20),
        (0, 0, 640, 10, 20, 20),  # touches the right edge from outside
        (0, 0, 639, 10, 20, 20),
        (0, 0, -20, 10, 20, 20),
        (0, 0, 10, 10, 0.5, 20),
        (0, 0, 10, 10, 20, 20),  # a crowd
    ]
    dataset = make_dataset(boxes, is_crowd=[False] * 5 + [True])
    assert dataset.is_outside.tolist() == [False, True, False, True, False, False]
    assert dataset.is_small.tolist() == [False] * 4 + [True, False]
    assert dataset.is_object.tolist() == [True, False, True, False, False, False]
    assert dataset.ignore_outside_boxes().is_crowd.tolist() == [0, 1, 0, 1, 0, 1]
    assert dataset.is_crowd.tolist() == [False] * 5 + [True]
