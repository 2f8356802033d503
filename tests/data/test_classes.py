"""Classes of datasets and models."""

import logging

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from tests.helpers import CONFIGS
from tood.config.loading import load_config
from tood.data import class_info, setup_datasets
from tood.data.registration import (
    compare_class_names,
    load_dataset,
    match_classes,
)
from tood.data.synthetic import CLASSES
from tood.errors import ConfigError


def test_number_of_classes(shapes_cfg):
    shapes_cfg.MODEL.TOOD.NUM_CLASSES = 79
    with pytest.raises(ConfigError, match="add MODEL.TOOD.NUM_CLASSES 5"):
        setup_datasets(shapes_cfg)
    shapes_cfg.MODEL.META_ARCHITECTURE = "RetinaNet"  # has a number of classes of its own
    setup_datasets(shapes_cfg)


def test_classes_that_differ_between_training_and_test(shapes_cfg, edited_json):
    def rename(content):
        content["categories"][0]["name"] = "ellipse"

    shapes_cfg.DATASETS.TRAIN_ANNOTATIONS = edited_json(rename)
    with pytest.raises(ConfigError, match="ellipse"):
        setup_datasets(shapes_cfg)


def test_match_classes_changes_nothing(shapes_cfg):
    setup_datasets(shapes_cfg)
    (name,) = shapes_cfg.DATASETS.TRAIN
    node = shapes_cfg.MODEL.TOOD
    node.CLASS_NAMES, node.CATEGORY_IDS = [], []
    node.freeze()
    assert match_classes(node, name) == (list(CLASSES), [1, 2, 3, 4, 5])
    assert node.CLASS_NAMES == [] == node.CATEGORY_IDS


def test_class_info_without_a_dataset(tiny_cfg):
    tiny_cfg.DATASETS.TEST = ()
    names, ids = class_info(tiny_cfg)
    assert names[:2] == ["class 0", "class 1"] and ids == [1, 2, 3, 4, 5]
    names, ids = class_info(load_config(str(CONFIGS / "TOOD-R50-1x.yaml"), []))
    assert names[0] == "person" and ids[-1] == 90  # COCO's own


def test_class_info_from_the_test_set(shapes_cfg):
    assert class_info(shapes_cfg) == (list(CLASSES), [1, 2, 3, 4, 5])


def test_class_info_from_the_config(shapes_cfg):
    setup_datasets(shapes_cfg)
    shapes_cfg.DATASETS.TEST, shapes_cfg.DATASETS.TEST_ANNOTATIONS = (), ""
    assert class_info(shapes_cfg) == (list(CLASSES), [1, 2, 3, 4, 5])


def edit_ids(content):
    for entry in (*content["categories"], *content["annotations"]):
        key = "id" if "name" in entry else "category_id"
        entry[key] *= 10


@pytest.mark.parametrize("names", [[], list(CLASSES)])
def test_category_ids_come_from_the_file_whoever_names_the_classes(shapes_cfg, edited_json, names):
    """Ids 1, 2, ... would silently be other categories of the file."""
    shapes_cfg.DATASETS.TEST_ANNOTATIONS = edited_json(edit_ids)
    shapes_cfg.MODEL.TOOD.CLASS_NAMES = names
    assert class_info(shapes_cfg) == (list(CLASSES), [10, 20, 30, 40, 50])


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("CLASS_NAMES", ["x", "y"], "CLASS_NAMES has 2 entries, but MODEL.TOOD.NUM_CLASSES is 5"),
        ("CATEGORY_IDS", [7, 8], "CATEGORY_IDS has 2 entries"),
        ("CATEGORY_IDS", [7, 7, 7, 7, 7], "has an id twice"),
    ],
)
def test_names_and_ids_that_are_not_one_per_class_are_refused(shapes_cfg, key, value, message):
    shapes_cfg.MODEL.TOOD[key] = value
    with pytest.raises(ConfigError, match=message):
        class_info(shapes_cfg)


def test_default_number_of_classes_comes_from_the_data(shapes_cfg, caplog):
    caplog.set_level(logging.INFO)
    shapes_cfg.MODEL.TOOD.NUM_CLASSES = 80
    setup_datasets(shapes_cfg)
    assert shapes_cfg.MODEL.TOOD.NUM_CLASSES == 5
    assert "NUM_CLASSES is 5, the number of classes of" in caplog.text


def test_number_of_classes_of_a_saved_config_stays(shapes_cfg):
    """Eighty named classes are a model of 80 classes, not the default."""
    node = shapes_cfg.MODEL.TOOD
    node.NUM_CLASSES, node.CLASS_NAMES = 80, [f"class {i}" for i in range(80)]
    with pytest.raises(ConfigError, match="NUM_CLASSES is 80, but"):
        setup_datasets(shapes_cfg)


@pytest.mark.parametrize("number", [4, 6])
def test_user_registered_datasets_are_checked_too(shapes_cfg, shapes, registered, number):
    register_coco_instances(registered, {}, str(shapes / "train.json"), str(shapes / "images"))
    shapes_cfg.DATASETS.TRAIN_ANNOTATIONS = shapes_cfg.DATASETS.TRAIN_IMAGES = ""
    shapes_cfg.DATASETS.TRAIN = (registered,)
    setup_datasets(shapes_cfg)
    shapes_cfg.MODEL.TOOD.NUM_CLASSES = number
    shapes_cfg.MODEL.TOOD.CLASS_NAMES = []
    with pytest.raises(ConfigError, match=rf"{registered} has 5 classes"):
        setup_datasets(shapes_cfg)


def test_own_function_without_class_names_gets_the_models(shapes_cfg, shapes, registered):
    file = str(next((shapes / "images").glob("*.png")))
    box = {"bbox": [1, 2, 30, 40], "bbox_mode": 0, "category_id": 1}
    DatasetCatalog.register(registered, lambda: [{"file_name": file, "annotations": [box]}])
    shapes_cfg.DATASETS.TEST_ANNOTATIONS = shapes_cfg.DATASETS.TEST_IMAGES = ""
    shapes_cfg.DATASETS.TEST = (registered,)
    setup_datasets(shapes_cfg)
    assert load_dataset(registered).class_names == list(CLASSES)
    assert MetadataCatalog.get(registered).thing_classes == list(CLASSES)


@pytest.mark.parametrize(
    "expected, names, outcome",
    [
        (["cat", "dog"], ["cat", "dog"], None),
        (["traffic light", "dog"], ["Traffic_Light", "DOG"], None),
        (["a-b", "c"], ["a b", "c"], None),
        (["cat", "dog"], ["dog", "cat"], "another order: class 0 is 'cat' for .* and 'dog'"),
        (["Cat", "dog", "x y"], ["dog", "x_y", "cat"], "another order"),
        (["cat", "dog"], ["chat", "chien"], "warning"),
        (["cat", "dog"], ["cat"], "warning"),
    ],
)
def test_compare_class_names(caplog, expected, names, outcome):
    if outcome in (None, "warning"):
        compare_class_names(expected, names)
        assert len(caplog.records) == (outcome == "warning")
    else:
        with pytest.raises(ConfigError, match=outcome):
            compare_class_names(expected, names)
