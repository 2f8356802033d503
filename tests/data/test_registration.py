"""Registration of datasets by the config, and matching of their classes."""

import json
import re
import shutil
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from tood.data import setup_datasets
from tood.data.formats import coco_file
from tood.data.registration import (
    load_dataset,
    read_datasets,
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
    assert re.fullmatch(r"shapes\d*_train_[0-9a-f]{8}", name)
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


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c["annotations"].clear(), "has no annotations, so nothing can be evaluated"),
        (lambda c: [a.update(iscrowd=1) for a in c["annotations"]], r"All \d+ boxes .* are crowds"),
        (
            lambda c: [a.update(bbox=[1, 2, 0, 4]) for a in c["annotations"]],
            "nothing can be evaluated on it. Changed: boxes without area dropped",
        ),
        (
            lambda c: [a.update(bbox=[1000, 2, 3, 4]) for a in c["annotations"]],
            "All boxes of .* lie outside of their images",
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


def test_masks_are_read_where_the_model_has_them(shapes_cfg, edited_json):
    def polygons(content):
        for entry in content["annotations"]:
            entry["segmentation"] = [[1, 1, 20, 1, 20, 20]]

    def rle(content):
        polygons(content)
        height, width = content["images"][0]["height"], content["images"][0]["width"]
        content["annotations"][0]["segmentation"] = {
            "counts": [0, height * width],
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
    assert "Set INPUT.MASK_FORMAT bitmask" in read_datasets(shapes_cfg)["TRAIN"][0]
    shapes_cfg.INPUT.MASK_FORMAT = "bitmask"
    setup_datasets(shapes_cfg)


def test_rle_of_a_test_set_needs_no_bitmasks(shapes_cfg, edited_json):
    """The format is that of masks that are learned: polygons, while the test set has RLE."""

    def rle(content):
        sizes = {image["id"]: [image["height"], image["width"]] for image in content["images"]}
        for entry in content["annotations"]:
            height, width = sizes[entry["image_id"]]
            entry["segmentation"] = {"counts": [0, height * width], "size": [height, width]}

    shapes_cfg.MODEL.MASK_ON = True
    shapes_cfg.DATASETS.TEST_ANNOTATIONS = edited_json(rle)
    setup_datasets(shapes_cfg)
    assert read_datasets(shapes_cfg) == {"TRAIN": [], "TEST": []}


@pytest.mark.parametrize("key", ["CROP", "LSJ"])
def test_crops_of_polygons_need_a_package(shapes_cfg, monkeypatch, key):
    """Not in evaluation, which crops nothing."""
    shapes_cfg.MODEL.MASK_ON = shapes_cfg.INPUT[key].ENABLED = True
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=f"INPUT.{key}.ENABLED is True.*pip install shapely"):
        setup_datasets(shapes_cfg)
    setup_datasets(shapes_cfg, ("TEST",))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: "installed")
    setup_datasets(shapes_cfg)


def test_rle_of_crowds_needs_no_bitmasks(shapes_cfg, edited_json):
    """COCO's crowds have RLE, and its objects have polygons."""

    def crowd(content):
        size = [content["images"][0][side] for side in ("height", "width")]
        rle = {"counts": [0, size[0] * size[1]], "size": size}
        content["annotations"][0].update(iscrowd=1, segmentation=rle)

    shapes_cfg.MODEL.MASK_ON = True
    shapes_cfg.DATASETS.TRAIN_ANNOTATIONS = edited_json(crowd)
    setup_datasets(shapes_cfg)
    dataset = load_dataset(shapes_cfg.DATASETS.TRAIN[0])
    assert dataset.is_crowd[0] and isinstance(dataset.segmentations[0], dict)


@pytest.mark.parametrize("split", ["TRAIN", "TEST"])
@pytest.mark.parametrize("missing", [None, [], [[]]])
def test_objects_without_masks_are_refused_before_training(shapes_cfg, edited_json, split, missing):
    def remove(content):
        for entry in content["annotations"][1:3]:
            entry["segmentation"] = missing
        content["annotations"][3].update(iscrowd=1, segmentation=missing)  # needs none

    path = edited_json(remove)
    count = len(json.loads(Path(path).read_text())["annotations"]) - 1
    shapes_cfg.DATASETS[f"{split}_ANNOTATIONS"] = path
    setup_datasets(shapes_cfg)  # boxes need no masks
    shapes_cfg.MODEL.MASK_ON = True
    message = rf"2 of the {count} objects of .*edited\.json have no mask \(for example annotation 2"
    with pytest.raises(DataError, match=message) as caught:
        setup_datasets(shapes_cfg)
    assert "polygons or RLE" in str(caught.value) and "MODEL.MASK_ON False" in str(caught.value)
    assert re.search(message, read_datasets(shapes_cfg)[split][0])  # and tood check-data says so


def test_formats_without_masks_are_refused_before_training(shapes_cfg, tmp_path):
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        Image.new("RGB", (64, 48)).save(tmp_path / "images" / split / "a.png")
        (tmp_path / "labels" / split / "a.txt").write_text("0 0.5 0.5 0.25 0.5\n" * 2)
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cell]\n")
    for split in ("TRAIN", "TEST"):
        shapes_cfg.DATASETS[f"{split}_ANNOTATIONS"] = str(tmp_path / "data.yaml")
        shapes_cfg.DATASETS[f"{split}_IMAGES"] = ""
    shapes_cfg.MODEL.TOOD.NUM_CLASSES = 80
    shapes_cfg.MODEL.MASK_ON = True
    message = r"none of the 2 objects of .*data\.yaml.* has a mask \(for example \[24.* in .*a\.png"
    with pytest.raises(DataError, match=message):
        setup_datasets(shapes_cfg)


def test_masks_of_a_registered_function_do_not_matter_to_a_detector_of_boxes(
    shapes_cfg, shapes, registered
):
    setup_datasets(shapes_cfg)
    records = load_dataset(shapes_cfg.DATASETS.TRAIN[0]).dicts()
    for record in records:
        for annotation in record["annotations"]:
            size = [record["height"], record["width"]]
            annotation["segmentation"] = {"size": size, "counts": [0, size[0] * size[1]]}
    DatasetCatalog.register(registered, lambda: records)
    shapes_cfg.DATASETS.TRAIN, shapes_cfg.DATASETS.TRAIN_ANNOTATIONS = (registered,), ""
    shapes_cfg.DATASETS.TRAIN_IMAGES = ""
    setup_datasets(shapes_cfg)
    assert load_dataset(registered).segmentations is None
    shapes_cfg.MODEL.MASK_ON = True
    with pytest.raises(ConfigError, match="Set INPUT.MASK_FORMAT bitmask"):
        setup_datasets(shapes_cfg, ("TRAIN",))


def test_unknown_format(shapes_cfg):
    shapes_cfg.DATASETS.FORMAT = "tfrecord"
    with pytest.raises(ConfigError, match=r"Unknown format 'tfrecord'.*auto, coco, "):
        setup_datasets(shapes_cfg)


def test_file_of_no_format(shapes_cfg, tmp_path):
    (tmp_path / "boxes.xlsx").write_bytes(b"\x00\x01")
    shapes_cfg.DATASETS.TRAIN_ANNOTATIONS = str(tmp_path / "boxes.xlsx")
    with pytest.raises(DataError, match=r"boxes\.xlsx is of no known dataset format"):
        setup_datasets(shapes_cfg)
