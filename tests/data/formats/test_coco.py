"""COCO-format files: what is accepted, and what the message about anything else says."""

import pytest

from tood.data import setup_datasets
from tood.data.formats.coco import read_coco_json, sorted_categories, validate_evaluation_boxes
from tood.data.synthetic import CLASSES
from tood.errors import DataError


def test_content_is_returned(edited_json):
    content = read_coco_json(edited_json(lambda c: None), for_evaluation=True)
    assert len(content["images"]) == 6
    assert sorted_categories(content) == (list(CLASSES), [1, 2, 3, 4, 5])


def test_categories_are_sorted_by_id():
    content = {"categories": [{"id": 7, "name": "b"}, {"id": 2, "name": "z"}]}
    assert sorted_categories(content) == (["z", "b"], [2, 7])


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: "not { JSON", "not a JSON file"),
        (lambda c: [{"image_id": 1, "bbox": [0, 0, 1, 1]}], "no list 'images'"),
        (lambda c: {"images": []}, "no list 'annotations'"),
        (lambda c: c["images"][0].pop("height") and None, "lacks height"),
        (lambda c: c["annotations"][0].pop("bbox") and None, "lacks bbox"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), r"be \[x, y, width, height\]"),
        (lambda c: c["annotations"][0].update(bbox=[1, None, 3, 4]), "four numbers"),
        (lambda c: c["images"][1].update(height="96"), "must be numbers"),
        (lambda c: c["annotations"][0].update(image_id=999), "no image has the id 999"),
        (lambda c: c["annotations"][0].update(category_id=77), "no category has the id 77"),
        (lambda c: c["annotations"][0].update(id=2), "ids of its annotations must be unique"),
        (lambda c: c.update(images=[], annotations=[]), "has no images"),
        (lambda c: c.update(categories=[], annotations=[]), "has no categories"),
    ],
)
def test_invalid_file(edited_json, change, message):
    with pytest.raises(DataError, match=message):
        read_coco_json(edited_json(change))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c["annotations"][0].update(ignore=1), "support the field 'ignore'"),
        (lambda c: c["annotations"][0].update(image_id="1"), "no image has the id '1'"),
        (lambda c: c["images"][0].update(file_name=7), "file_name a string"),
        (lambda c: c["images"][0].update(id=[1]), "must be unique"),
        (lambda c: c["annotations"][0].update(image_id=[1]), r"no image has the id \[1\]"),
    ],
)
def test_values_of_wrong_types(edited_json, change, message):
    with pytest.raises(DataError, match=message):
        read_coco_json(edited_json(change))


def test_missing_file():
    with pytest.raises(DataError, match="no annotation file /nowhere/train.json"):
        read_coco_json("/nowhere/train.json")


def test_evaluation_needs_area(shapes_cfg, edited_json):
    path = edited_json(lambda c: [a.pop("area") for a in c["annotations"]] and None)
    read_coco_json(path)
    with pytest.raises(DataError, match="lacks area"):
        read_coco_json(path, for_evaluation=True)
    shapes_cfg.DATASETS.TEST_ANNOTATIONS = path
    with pytest.raises(DataError, match="lacks area"):
        setup_datasets(shapes_cfg)


def test_evaluation_needs_annotations(shapes_cfg, edited_json):
    with pytest.raises(DataError, match=r"val\.json.*nothing can be evaluated"):
        validate_evaluation_boxes("val.json", [])
    shapes_cfg.DATASETS.TEST_ANNOTATIONS = edited_json(lambda c: c["annotations"].clear())
    with pytest.raises(DataError, match="nothing can be evaluated"):
        setup_datasets(shapes_cfg)


def test_warns_about_boxes_without_area_in_the_test_set(shapes_cfg, edited_json, caplog):
    shapes_cfg.DATASETS.TEST_ANNOTATIONS = edited_json(
        lambda c: c["annotations"][0].update(bbox=[3, 3, 0, 5])
    )
    setup_datasets(shapes_cfg)
    assert "boxes without area: 1, for example annotation 1" in caplog.text
