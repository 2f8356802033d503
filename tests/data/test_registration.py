"""Registration of datasets by the config, and matching of their classes."""

import logging
import multiprocessing
import re
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from tests.helpers import CONFIGS
from tood.config.loading import load_config
from tood.data import catalog, class_info, setup_datasets
from tood.data.formats import coco_file
from tood.data.registration import (
    compare_class_names,
    load_dataset,
    match_classes,
    validate_available,
)
from tood.data.synthetic import CLASSES
from tood.errors import ConfigError, DataError


def test_registration_by_config(shapes_cfg):
    setup_datasets(shapes_cfg)
    (name,) = shapes_cfg.DATASETS.TRAIN
    assert len(DatasetCatalog.get(name)) == 6
    metadata = MetadataCatalog.get(name)
    assert metadata.evaluator_type == "coco"
    assert metadata.json_file == shapes_cfg.DATASETS.TRAIN_ANNOTATIONS
    assert metadata.image_root == shapes_cfg.DATASETS.TRAIN_IMAGES
    assert metadata.thing_classes == list(CLASSES)
    assert metadata.thing_dataset_id_to_contiguous_id == {i + 1: i for i in range(5)}
    assert re.fullmatch(r"shapes0?_train_[0-9a-f]{8}", name)
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


def test_one_file_for_two_folders(shapes_cfg, shapes, tmp_path):
    """Visible and thermal images of one annotation file are two datasets."""
    other = tmp_path / "thermal"
    shutil.copytree(shapes / "images", other)
    shapes_cfg.DATASETS.TEST_ANNOTATIONS = shapes_cfg.DATASETS.TRAIN_ANNOTATIONS
    shapes_cfg.DATASETS.TEST_IMAGES = str(other)
    setup_datasets(shapes_cfg)
    (train,), (test,) = shapes_cfg.DATASETS.TRAIN, shapes_cfg.DATASETS.TEST
    assert train != test
    assert {Path(name).parent for name in load_dataset(train).file_names} == {shapes / "images"}
    assert {Path(name).parent for name in load_dataset(test).file_names} == {other}


def test_one_file_for_both_splits_is_read_once(shapes_cfg, monkeypatch):
    for key in ("ANNOTATIONS", "IMAGES"):
        shapes_cfg.DATASETS[f"TEST_{key}"] = shapes_cfg.DATASETS[f"TRAIN_{key}"]
    parsed = []
    parse = coco_file.parse
    monkeypatch.setattr(coco_file, "parse", lambda *args: parsed.append(args[0]) or parse(*args))
    setup_datasets(shapes_cfg)
    assert len(parsed) == 1 and shapes_cfg.DATASETS.TRAIN == shapes_cfg.DATASETS.TEST
    (name,) = shapes_cfg.DATASETS.TEST
    assert load_dataset(name) is load_dataset(name) and len(parsed) == 1


def test_set_up_again_reads_again(shapes_cfg, edited_json):
    shapes_cfg.DATASETS.TRAIN_ANNOTATIONS = edited_json(lambda c: None)
    setup_datasets(shapes_cfg)
    (name,) = shapes_cfg.DATASETS.TRAIN
    count = load_dataset(name).num_boxes
    edited_json(lambda c: c["annotations"].pop() and None)
    setup_datasets(shapes_cfg)
    assert shapes_cfg.DATASETS.TRAIN == (name,) and load_dataset(name).num_boxes == count - 1


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


@pytest.fixture
def registered():
    """The name of a dataset that the test registers."""
    yield "registered_by_a_test"
    DatasetCatalog.pop("registered_by_a_test", None)
    MetadataCatalog.pop("registered_by_a_test", None)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c["annotations"].clear(), "has no annotations, so nothing can be evaluated"),
        (lambda c: [a.update(iscrowd=1) for a in c["annotations"]], r"All \d+ boxes .* are crowds"),
        (
            lambda c: [a.update(bbox=[1, 2, 0, 4]) for a in c["annotations"]],
            "nothing can be evaluated on it. Dropped: boxes without area dropped",
        ),
    ],
)
def test_nothing_to_evaluate(shapes_cfg, edited_json, change, message):
    shapes_cfg.DATASETS.TEST_ANNOTATIONS = edited_json(lambda c: change(c) and None)
    with pytest.raises(DataError, match=message):
        setup_datasets(shapes_cfg)


def test_images_without_annotations_are_for_results_only(shapes_cfg, edited_json):
    path = edited_json(lambda c: c.pop("annotations") and None)
    shapes_cfg.DATASETS.TEST_ANNOTATIONS = path
    setup_datasets(shapes_cfg)
    shapes_cfg.DATASETS.TRAIN_ANNOTATIONS = path
    with pytest.raises(DataError, match="nothing can be trained on it"):
        setup_datasets(shapes_cfg)


def test_keypoints_are_refused(shapes_cfg):
    shapes_cfg.MODEL.KEYPOINT_ON = True
    with pytest.raises(ConfigError, match=r"keypoints are not read\. Boxes and masks"):
        setup_datasets(shapes_cfg)


def test_masks_are_read_where_the_model_has_them(shapes_cfg, edited_json):
    def polygons(content):
        for entry in content["annotations"]:
            entry["segmentation"] = [[1, 1, 20, 1, 20, 20]]

    def rle(content):
        polygons(content)
        height, width = content["images"][0]["height"], content["images"][0]["width"]
        content["annotations"][0]["segmentation"] = {
            "counts": [height * width],
            "size": [height, width],
        }

    shapes_cfg.MODEL.MASK_ON = True
    shapes_cfg.DATASETS.TEST, shapes_cfg.DATASETS.TEST_ANNOTATIONS = (), ""
    shapes_cfg.DATASETS.TEST_IMAGES = ""
    shapes_cfg.DATASETS.TRAIN_ANNOTATIONS = edited_json(polygons)
    setup_datasets(shapes_cfg)
    dataset = load_dataset(shapes_cfg.DATASETS.TRAIN[0])
    assert dataset.segmentations == [[[1, 1, 20, 1, 20, 20]]] * dataset.num_boxes
    edited_json(rle)
    with pytest.raises(ConfigError, match="Set INPUT.MASK_FORMAT bitmask"):
        setup_datasets(shapes_cfg)
    shapes_cfg.INPUT.MASK_FORMAT = "bitmask"
    setup_datasets(shapes_cfg)


def test_unknown_format(shapes_cfg):
    shapes_cfg.DATASETS.FORMAT = "tfrecord"
    with pytest.raises(ConfigError, match=r"Unknown format 'tfrecord'.*auto, coco, "):
        setup_datasets(shapes_cfg)


def test_file_of_no_format(shapes_cfg, tmp_path):
    (tmp_path / "boxes.xlsx").write_bytes(b"\x00\x01")
    shapes_cfg.DATASETS.TRAIN_ANNOTATIONS = str(tmp_path / "boxes.xlsx")
    with pytest.raises(DataError, match=r"boxes\.xlsx is of no known dataset format"):
        setup_datasets(shapes_cfg)


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


def _set_up_in_a_process(rank, port, cfg, queue):
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    reads = []
    original = catalog.read_dataset
    catalog.read_dataset = lambda *args: reads.append(args) or original(*args)
    try:
        setup_datasets(cfg)
        datasets = [load_dataset(cfg.DATASETS[split][0]) for split in ("TRAIN", "TEST")]
        outcome = [(x.boxes, x.class_names, x.file_names) for x in datasets]
    except DataError as error:
        outcome = str(error)
    queue.put((rank, outcome, len(reads), cfg.MODEL.TOOD.NUM_CLASSES))
    torch.distributed.destroy_process_group()


def _set_up_in_two_processes(cfg):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [
        context.Process(target=_set_up_in_a_process, args=(rank, port, cfg, queue))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    results = sorted((queue.get(timeout=60) for _ in processes), key=lambda result: result[0])
    for process in processes:
        process.join(30)
    return results


def test_the_main_process_reads_for_all(shapes_cfg):
    shapes_cfg.MODEL.TOOD.NUM_CLASSES = 80
    first, second = _set_up_in_two_processes(shapes_cfg)
    assert (first[2], second[2]) == (2, 0) and first[3] == second[3] == 5
    for mine, others in zip(first[1], second[1], strict=True):
        np.testing.assert_array_equal(mine[0], others[0])
        assert mine[1:] == others[1:]


def test_an_error_of_the_main_process_reaches_all(shapes_cfg, edited_json):
    shapes_cfg.DATASETS.TEST_ANNOTATIONS = edited_json(lambda c: "broken")
    first, second = _set_up_in_two_processes(shapes_cfg)
    assert "not a JSON file" in first[1] and first[1] == second[1]
