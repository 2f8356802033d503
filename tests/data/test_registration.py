"""Registration of datasets by the config, and matching of their classes."""

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from tests.helpers import CONFIGS
from tood.config.loading import load_config
from tood.data import class_info, setup_datasets
from tood.data.registration import match_classes, validate_available
from tood.data.synthetic import CLASSES
from tood.errors import ConfigError, DataError


def test_registration_by_config(shapes_cfg):
    setup_datasets(shapes_cfg)
    (name,) = shapes_cfg.DATASETS.TRAIN
    assert len(DatasetCatalog.get(name)) == 6
    assert MetadataCatalog.get(name).evaluator_type == "coco"
    assert list(CLASSES) == shapes_cfg.MODEL.TOOD.CLASS_NAMES
    assert shapes_cfg.MODEL.TOOD.CATEGORY_IDS == [1, 2, 3, 4, 5]
    setup_datasets(shapes_cfg)  # a second time, as in a notebook
    assert shapes_cfg.DATASETS.TRAIN == (name,)


def test_missing_image_file(shapes_cfg, edited_json):
    shapes_cfg.DATASETS.TRAIN_ANNOTATIONS = edited_json(
        lambda c: c["images"][0].update(file_name="gone.png")
    )
    with pytest.raises(DataError, match="1 images .* are not in the folder.*gone.png"):
        setup_datasets(shapes_cfg)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("TRAIN_ANNOTATIONS", "/nowhere/train.json", "no annotation file /nowhere/train.json"),
        ("TRAIN_IMAGES", "/nowhere", "no image folder /nowhere"),
        ("TRAIN_IMAGES", "", "no image folder"),
    ],
)
def test_missing_paths(shapes_cfg, key, value, message):
    shapes_cfg.DATASETS[key] = value
    with pytest.raises(DataError, match=message):
        setup_datasets(shapes_cfg)


def test_images_without_annotations(shapes_cfg):
    shapes_cfg.DATASETS.TRAIN_ANNOTATIONS = ""
    with pytest.raises(ConfigError, match="without DATASETS.TRAIN_ANNOTATIONS"):
        setup_datasets(shapes_cfg)


def test_training_set_without_a_test_set(shapes_cfg):
    shapes_cfg.DATASETS.TEST_ANNOTATIONS = shapes_cfg.DATASETS.TEST_IMAGES = ""
    with pytest.raises(ConfigError, match="without DATASETS.TEST_ANNOTATIONS.*coco_2017_val"):
        setup_datasets(shapes_cfg)
    shapes_cfg.DATASETS.TEST = ()
    setup_datasets(shapes_cfg)


def test_evaluation_needs_no_training_set(shapes_cfg):
    shapes_cfg.DATASETS.TRAIN_ANNOTATIONS = "/nowhere.json"
    setup_datasets(shapes_cfg, ("TEST",))
    assert list(CLASSES) == shapes_cfg.MODEL.TOOD.CLASS_NAMES


def test_missing_test_set_is_noticed_before_training(shapes_cfg):
    shapes_cfg.DATASETS.TEST_ANNOTATIONS = shapes_cfg.DATASETS.TEST_IMAGES = ""
    shapes_cfg.DATASETS.TEST = ("nope_val",)
    with pytest.raises(DataError, match="nope_val"):
        setup_datasets(shapes_cfg)


def test_builtin_dataset_without_files(monkeypatch):
    metadata = MetadataCatalog.get("coco_2017_train")
    monkeypatch.setitem(metadata.__dict__, "json_file", "/nowhere/instances_train2017.json")
    with pytest.raises(DataError, match="DETECTRON2_DATASETS"):
        validate_available("coco_2017_train")
    with pytest.raises(DataError, match="TRAIN_ANNOTATIONS"):
        validate_available("nobody_train")


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
    """Ids 1, 2, ... would be other categories of the file, in silence."""
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
