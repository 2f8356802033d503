"""Datasets that the user registered: read once, by our reader or through their function."""

import logging

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import BoxMode
from PIL import Image
from pycocotools import mask as mask_util

from tests.data.coco_files import coco_content, write_coco, write_images
from tood.data.catalog import ReadOptions, load_dataset, set_read_options
from tood.errors import DataError

pytestmark = pytest.mark.usefixtures("clean_catalogs")


@pytest.fixture
def coco_file(tmp_path):
    content = coco_content()
    write_images(tmp_path, content)
    return write_coco(tmp_path, content)


def test_register_coco_instances_is_read_by_our_reader(tmp_path, coco_file):
    content = coco_content()
    content["annotations"][0].update(id=0, iscrowd=None, segmentation=[[]])
    write_coco(tmp_path, content)
    register_coco_instances("mine", {}, coco_file, str(tmp_path))
    dataset = load_dataset("mine")
    assert dataset.num_boxes == 6 and not dataset.is_crowd.any()
    assert load_dataset("mine") is dataset
    metadata = MetadataCatalog.get("mine")
    assert metadata.thing_classes == ["a", "b"]
    assert metadata.thing_dataset_id_to_contiguous_id == {1: 0, 2: 1}


def test_names_of_a_model_in_the_metadata_give_way_to_the_files(tmp_path, coco_file):
    register_coco_instances("mine", {"thing_classes": ["x", "y", "z"]}, coco_file, str(tmp_path))
    assert load_dataset("mine").class_names == ["a", "b"]
    assert MetadataCatalog.get("mine").thing_classes == ["a", "b"]


def test_registered_again_is_read_again(tmp_path, coco_file):
    register_coco_instances("mine", {}, coco_file, str(tmp_path))
    assert load_dataset("mine").num_boxes == 6
    content = coco_content()
    del content["annotations"][3:]
    write_coco(tmp_path, content)
    assert load_dataset("mine").num_boxes == 6  # read once
    DatasetCatalog.remove("mine")
    register_coco_instances("mine again", {}, coco_file, str(tmp_path))
    DatasetCatalog.register("mine", DatasetCatalog["mine again"])
    assert load_dataset("mine").num_boxes == 3


def test_other_options_read_again(tmp_path, coco_file):
    register_coco_instances("mine", {}, coco_file, str(tmp_path))
    assert load_dataset("mine").segmentations is None
    content = coco_content()
    content["annotations"][0]["segmentation"] = [[1, 1, 5, 1, 5, 5]]
    write_coco(tmp_path, content)
    set_read_options(ReadOptions(with_masks=True))
    assert load_dataset("mine").segmentations == [[[1, 1, 5, 1, 5, 5]]]


def test_changes_are_one_line_and_warn_about_dropped_boxes(tmp_path, coco_file, caplog):
    caplog.set_level(logging.INFO)
    content = coco_content()
    content["annotations"][0]["area"] = 0
    write_coco(tmp_path, content)
    register_coco_instances("changed", {}, coco_file, str(tmp_path))
    load_dataset("changed")
    (record,) = [r for r in caplog.records if "annotations.json" in r.message]
    assert record.levelno == logging.INFO and "areas that cannot" in record.message
    caplog.clear()
    content["annotations"][1]["bbox"] = [1, 2, 0, 4]
    for entry in content["annotations"][2:]:
        entry["bbox"] = [30, 30, 70, 60]
    write_coco(tmp_path, content)
    register_coco_instances("dropped", {}, coco_file, str(tmp_path))
    load_dataset("dropped")
    counts, corners = [r for r in caplog.records if "annotations.json" in r.message]
    assert counts.levelno == corners.levelno == logging.WARNING
    assert "boxes without area dropped: 1 (for example annotation 2" in counts.message
    assert "4 of 5 boxes leave their image" in corners.message


@pytest.fixture
def records(tmp_path):
    Image.new("RGB", (50, 40)).save(tmp_path / "1.png")
    path = str(tmp_path / "1.png")
    boxes = [
        {"bbox": [1, 2, 11, 22], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 2},
        {"bbox": (1, 2, 11, 22), "bbox_mode": 1, "category_id": np.int64(0), "iscrowd": 1},
    ]
    return [{"file_name": path, "image_id": "one", "height": 40, "width": 50, "annotations": boxes}]


def register(records, **metadata):
    DatasetCatalog.register("function", lambda: records)
    MetadataCatalog.get("function").set(**metadata)


def test_own_function(records):
    register(records, thing_classes=["x", "y", "z"])
    dataset = load_dataset("function")
    assert dataset.boxes.tolist() == [[1, 2, 10, 20], [1, 2, 11, 22]]
    assert dataset.class_ids.tolist() == [2, 0] and dataset.is_crowd.tolist() == [False, True]
    assert dataset.class_names == ["x", "y", "z"] and dataset.category_ids == [0, 1, 2]
    assert dataset.image_ids == ["one"] and dataset.widths.tolist() == [50]
    assert MetadataCatalog.get("function").get("thing_dataset_id_to_contiguous_id") is None


def test_own_function_with_ids_and_without_sizes(records):
    del records[0]["height"], records[0]["image_id"]
    mapping = {7: 0, 5: 1, 9: 2}
    register(records, thing_classes=["x", "y", "z"], thing_dataset_id_to_contiguous_id=mapping)
    dataset = load_dataset("function")
    assert dataset.category_ids == [7, 5, 9] and dataset.image_ids == [0]
    assert (dataset.heights[0], dataset.widths[0]) == (40, 50)
    assert dataset.changes.counts == {"image sizes read from the images": 1}


def test_own_function_without_class_names(records):
    register(records)
    assert load_dataset("function").class_names == ["class 0", "class 1", "class 2"]
    assert MetadataCatalog.get("function").get("thing_classes") is None


@pytest.mark.parametrize("value, expected", [("0", False), ("false", False), ("1", True)])
def test_flags_of_an_own_function_that_are_text(records, value, expected):
    for box in records[0]["annotations"]:
        box["iscrowd"] = value
    register(records)
    dataset = load_dataset("function")
    assert dataset.is_crowd.tolist() == [expected] * 2
    assert dataset.changes.counts == {f"values of iscrowd written as text read as {expected:d}": 2}


def test_masks_of_an_own_function(records):
    bitmap = np.zeros((40, 50), np.uint8)
    bitmap[5:10, 5:10] = 1
    annotations = records[0]["annotations"]
    annotations[0]["segmentation"] = [np.array([1, 2, 11, 2, 11, 22.0]), [1, 2]]
    annotations[1]["segmentation"] = bitmap
    annotations += [{**annotations[0], "segmentation": mask} for mask in (None, [[1, 2, 3, 4]])]
    register(records)
    assert load_dataset("function").segmentations is None
    set_read_options(ReadOptions(with_masks=True))
    dataset = load_dataset("function")
    polygons, rle = dataset.segmentations
    assert polygons == [[1, 2, 11, 2, 11, 22]] and rle["size"] == [40, 50]
    assert (mask_util.decode(rle) == bitmap).all()
    assert dataset.changes.counts == {
        "boxes without a mask dropped": 1,
        "boxes without a valid segmentation dropped": 1,
        "invalid polygons dropped": 1,
    }


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda r: r[0]["annotations"][0].update(iscrowd="maybe"), "iscrowd maybe. It must be 0"),
        (lambda r: r[0].pop("file_name"), "Image 0 .* lacks its file_name"),
        (lambda r: r[0]["annotations"][0].update(category_id=3), "category_id 3, but there are 3"),
        (lambda r: r[0]["annotations"][0].update(category_id=-1), "It must be a class index"),
        (lambda r: r[0]["annotations"][0].update(category_id="x"), "It must be a class index"),
        (lambda r: r[0]["annotations"][0].update(bbox=[1, 2, 3]), "not four numbers"),
        (lambda r: r[0]["annotations"][0].update(bbox=None), "not four numbers"),
        (lambda r: r[0]["annotations"][0].update(bbox_mode=BoxMode.XYWHA_ABS), "XYXY_ABS, XYWH"),
        (lambda r: r[0]["annotations"][0].update(bbox_mode="x"), "not a BoxMode"),
        (lambda r: r[0]["annotations"].append(7), "is 7, not a dict"),
        (lambda r: r.append({**r[0]}), "two of its images have the id 'one'"),
        (lambda r: r.clear(), "no images"),
        (lambda r: r.append(7), "must return a list of dicts"),
    ],
)
def test_own_function_that_does_not_follow_the_format(records, change, message):
    change(records)
    register(records, thing_classes=["x", "y", "z"])
    with pytest.raises(DataError, match=message) as caught:
        load_dataset("function")
    assert "function" in str(caught.value)


def test_own_function_that_fails():
    def fail():
        raise FileNotFoundError("gone.csv")

    DatasetCatalog.register("function", fail)
    with pytest.raises(DataError, match="dataset function failed .*gone.csv"):
        load_dataset("function")


def test_unknown_name():
    with pytest.raises(DataError, match=r"No dataset is registered as 'nobody'.*TRAIN_ANNOTATIONS"):
        load_dataset("nobody")
