"""Datasets: registration by the config, checks, and what training leaves out."""

import json
import logging

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from tood.data import build_test_loader, build_train_loader, setup_datasets
from tood.data.filtering import MIN_IMAGE_SIDE, filter_training_dicts
from tood.data.registration import check_available
from tood.data.synthetic import CLASSES, draw_image, write_dataset
from tood.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("shapes"), num_train=6, num_val=3, size=96)


@pytest.fixture
def shapes_cfg(tiny_cfg, shapes):
    for split in ("TRAIN", "TEST"):
        name = {"TRAIN": "train", "TEST": "val"}[split]
        tiny_cfg.DATASETS[f"{split}_ANNOTATIONS"] = str(shapes / f"{name}.json")
        tiny_cfg.DATASETS[f"{split}_IMAGES"] = str(shapes / "images")
    tiny_cfg.INPUT.MIN_SIZE_TRAIN = (96,)
    tiny_cfg.INPUT.MIN_SIZE_TEST = 96
    tiny_cfg.SOLVER.IMS_PER_BATCH = 2
    return tiny_cfg


def edit(shapes, tmp_path, change) -> str:
    """A copy of the training JSON, changed by ``change(content)``."""
    content = json.loads((shapes / "train.json").read_text())
    changed = change(content)
    content = changed if isinstance(changed, (str, list, dict)) else content
    path = tmp_path / "edited.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_registration_by_config(shapes_cfg):
    setup_datasets(shapes_cfg)
    (name,) = shapes_cfg.DATASETS.TRAIN
    assert len(DatasetCatalog.get(name)) == 6
    assert MetadataCatalog.get(name).evaluator_type == "coco"
    assert list(CLASSES) == shapes_cfg.MODEL.TOOD.CLASS_NAMES
    assert shapes_cfg.MODEL.TOOD.CATEGORY_IDS == [1, 2, 3, 4, 5]
    setup_datasets(shapes_cfg)  # a second time, as in a notebook
    loader, num_images = build_train_loader(shapes_cfg)
    assert num_images == 6
    batch = next(iter(loader))
    assert len(batch) == 2 and batch[0]["image"].shape[0] == 3
    (name,) = shapes_cfg.DATASETS.TEST
    assert len(list(build_test_loader(shapes_cfg, name))) == 3


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: "not { JSON", "not a JSON file"),
        (lambda c: [{"image_id": 1, "bbox": [0, 0, 1, 1]}], "no list 'images'"),
        (lambda c: {"images": []}, "no list 'annotations'"),
        (lambda c: c["images"][0].pop("height") and None, "lacks height"),
        (lambda c: c["annotations"][0].pop("bbox") and None, "lacks bbox"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), r"not \[x, y, width, height\]"),
        (lambda c: c["annotations"][0].update(bbox=[1, None, 3, 4]), "four numbers"),
        (lambda c: c["images"][1].update(height="96"), "must be numbers"),
        (lambda c: c["annotations"][0].update(image_id=999), "no image has the id 999"),
        (lambda c: c["annotations"][0].update(category_id=77), "no category has the id 77"),
        (lambda c: c["annotations"][0].update(id=2), "ids of its annotations must be unique"),
        (lambda c: c.update(images=[], annotations=[]), "no images or no categories"),
        (
            lambda c: c["images"][0].update(file_name="gone.png"),
            "1 images that are not in the folder.*gone.png",
        ),
    ],
)
def test_json_that_is_no_dataset(shapes_cfg, shapes, tmp_path, change, message):
    shapes_cfg.DATASETS.TRAIN_ANNOTATIONS = edit(shapes, tmp_path, change)
    with pytest.raises(DataError, match=message):
        setup_datasets(shapes_cfg)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c["annotations"][0].update(ignore=1), "it has 'ignore'"),
        (lambda c: c["annotations"][0].update(image_id="1"), "no image has the id '1'"),
        (lambda c: c["images"][0].update(file_name=7), "file_name a text"),
        (lambda c: c["images"][0].update(id=[1]), "must be unique"),
        (lambda c: c["annotations"][0].update(image_id=[1]), r"no image has the id \[1\]"),
    ],
)
def test_json_with_values_of_other_types(shapes_cfg, shapes, tmp_path, change, message):
    shapes_cfg.DATASETS.TRAIN_ANNOTATIONS = edit(shapes, tmp_path, change)
    with pytest.raises(DataError, match=message):
        setup_datasets(shapes_cfg)


def test_nothing_to_evaluate_against(shapes_cfg, shapes, tmp_path):
    shapes_cfg.DATASETS.TEST_ANNOTATIONS = edit(
        shapes, tmp_path, lambda c: c["annotations"].clear()
    )
    with pytest.raises(DataError, match="nothing can be evaluated"):
        setup_datasets(shapes_cfg)


def test_boxes_without_area_in_the_test_set(shapes_cfg, shapes, tmp_path, caplog):
    shapes_cfg.DATASETS.TEST_ANNOTATIONS = edit(
        shapes, tmp_path, lambda c: c["annotations"][0].update(bbox=[3, 3, 0, 5])
    )
    setup_datasets(shapes_cfg)
    assert "1 boxes without area" in caplog.text


def test_a_test_set_that_is_not_there_is_noticed_before_training(shapes_cfg):
    shapes_cfg.DATASETS.TEST_ANNOTATIONS = shapes_cfg.DATASETS.TEST_IMAGES = ""
    shapes_cfg.DATASETS.TEST = ("nope_val",)
    with pytest.raises(DataError, match="nope_val"):
        setup_datasets(shapes_cfg)


def test_evaluation_needs_area(shapes_cfg, shapes, tmp_path):
    path = edit(shapes, tmp_path, lambda c: [a.pop("area") for a in c["annotations"]] and None)
    shapes_cfg.DATASETS.TEST_ANNOTATIONS = path
    with pytest.raises(DataError, match="lacks area"):
        setup_datasets(shapes_cfg)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("TRAIN_ANNOTATIONS", "/nowhere/train.json", "no annotation file /nowhere/train.json"),
        ("TRAIN_IMAGES", "/nowhere", "no image folder /nowhere"),
        ("TRAIN_IMAGES", "", "no image folder"),
    ],
)
def test_missing_files(shapes_cfg, key, value, message):
    shapes_cfg.DATASETS[key] = value
    with pytest.raises(DataError, match=message):
        setup_datasets(shapes_cfg)


def test_images_without_json(shapes_cfg):
    shapes_cfg.DATASETS.TRAIN_ANNOTATIONS = ""
    with pytest.raises(ConfigError, match="without DATASETS.TRAIN_ANNOTATIONS"):
        setup_datasets(shapes_cfg)


def test_training_set_without_a_test_set(shapes_cfg):
    shapes_cfg.DATASETS.TEST_ANNOTATIONS = shapes_cfg.DATASETS.TEST_IMAGES = ""
    with pytest.raises(ConfigError, match="without TEST_ANNOTATIONS.*coco_2017_val"):
        setup_datasets(shapes_cfg)
    shapes_cfg.DATASETS.TEST = ()
    setup_datasets(shapes_cfg)


def test_evaluation_needs_no_training_set(shapes_cfg):
    shapes_cfg.DATASETS.TRAIN_ANNOTATIONS = "/nowhere.json"
    setup_datasets(shapes_cfg, ("TEST",))
    assert list(CLASSES) == shapes_cfg.MODEL.TOOD.CLASS_NAMES


def test_builtin_dataset_that_is_not_there(monkeypatch):
    metadata = MetadataCatalog.get("coco_2017_train")
    monkeypatch.setitem(metadata.__dict__, "json_file", "/nowhere/instances_train2017.json")
    with pytest.raises(DataError, match="DETECTRON2_DATASETS"):
        check_available("coco_2017_train")
    with pytest.raises(DataError, match="TRAIN_ANNOTATIONS"):
        check_available("nobody_train")


def test_number_of_classes(shapes_cfg):
    shapes_cfg.MODEL.TOOD.NUM_CLASSES = 80
    with pytest.raises(ConfigError, match="add MODEL.TOOD.NUM_CLASSES 5"):
        setup_datasets(shapes_cfg)


def test_classes_that_differ_between_training_and_test(shapes_cfg, shapes, tmp_path):
    def rename(content):
        content["categories"][0]["name"] = "ellipse"

    shapes_cfg.DATASETS.TRAIN_ANNOTATIONS = edit(shapes, tmp_path, rename)
    with pytest.raises(ConfigError, match="ellipse"):
        setup_datasets(shapes_cfg)


def test_unusable_annotations_are_counted(shapes_cfg, shapes, tmp_path, caplog):
    def spoil(content):
        boxes = [[5, 5, 0, 9], [5, 5, -20, 9], [500, 500, 9, 9], [5, 5, 0.5, 9]]
        for box in [*boxes, [float("nan"), 5, 9, 9]]:
            number = len(content["annotations"]) + 1
            first = content["annotations"][0]
            content["annotations"].append({**first, "id": number, "bbox": box})

    shapes_cfg.DATASETS.TRAIN_ANNOTATIONS = edit(shapes, tmp_path, spoil)
    setup_datasets(shapes_cfg)
    caplog.set_level(logging.INFO, logger="tood")
    _, num_images = build_train_loader(shapes_cfg)
    assert num_images == 6
    assert "leaves out 3 boxes with a side below 1 pixel" in caplog.text
    assert "leaves out 1 boxes wholly outside" in caplog.text
    assert "leaves out 1 boxes that are not numbers" in caplog.text


def test_no_annotation_at_all(shapes_cfg, shapes, tmp_path):
    shapes_cfg.DATASETS.TRAIN_ANNOTATIONS = edit(
        shapes, tmp_path, lambda c: c["annotations"].clear()
    )
    setup_datasets(shapes_cfg)
    with pytest.raises(DataError, match="not one usable annotation"):
        build_train_loader(shapes_cfg)


def record(annotations, side=100):
    return {"file_name": "x.png", "height": side, "width": side, "annotations": annotations}


def annotation(box=(5, 5, 20, 20), **more):
    return {"bbox": list(box), "bbox_mode": 1, "category_id": 0, "iscrowd": 0, **more}


def test_images_that_are_left_out():
    dicts = [
        record([annotation()]),
        record([]),
        record([annotation(iscrowd=1)]),
        record([annotation()], side=MIN_IMAGE_SIDE - 1),
    ]
    assert filter_training_dicts(dicts, filter_empty=True) == dicts[:1]
    assert filter_training_dicts(dicts, filter_empty=False) == dicts[:3]


def test_crowd_regions_are_background(shapes_cfg, shapes, tmp_path):
    """As in the reference: not a positive, and not ignored."""

    def crowd(content):
        for a in content["annotations"]:
            a["iscrowd"] = int(a["id"] % 2)

    shapes_cfg.DATASETS.TRAIN_ANNOTATIONS = edit(shapes, tmp_path, crowd)
    setup_datasets(shapes_cfg)
    loader, _ = build_train_loader(shapes_cfg)
    content = json.loads((tmp_path / "edited.json").read_text())
    for image in next(iter(loader)):
        plain = [
            a
            for a in content["annotations"]
            if a["image_id"] == image["image_id"] and not a["iscrowd"]
        ]
        assert len(image["instances"]) == len(plain)


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_unreadable_image(shapes_cfg, shapes, tmp_path, content):
    """None: a PNG that breaks off in the middle."""
    images = tmp_path / "images"
    images.mkdir()
    for path in (shapes / "images").glob("*.png"):
        data = path.read_bytes()
        (images / path.name).write_bytes(data[: len(data) // 2] if content is None else content)
    shapes_cfg.DATASETS.TRAIN_IMAGES = str(images)
    setup_datasets(shapes_cfg)
    loader, _ = build_train_loader(shapes_cfg)
    with pytest.raises(DataError, match=r"the image .*\.png cannot be read"):
        next(iter(loader))


def test_image_of_another_size(shapes_cfg, shapes, tmp_path):
    def stretch(content):
        for image in content["images"]:
            image["width"] = 200

    shapes_cfg.DATASETS.TRAIN_ANNOTATIONS = edit(shapes, tmp_path, stretch)
    setup_datasets(shapes_cfg)
    loader, _ = build_train_loader(shapes_cfg)
    with pytest.raises(DataError, match="another size than its JSON says"):
        next(iter(loader))


def test_shapes_are_deterministic():
    picture, annotations = draw_image(3, 11, 96)
    again, same = draw_image(3, 11, 96)
    assert np.array_equal(picture, again) and annotations == same
    other, _ = draw_image(4, 11, 96)
    assert not np.array_equal(picture, other)


def test_shapes_dataset(shapes):
    train, val = (json.loads((shapes / f"{split}.json").read_text()) for split in ("train", "val"))
    assert [len(x["images"]) for x in (train, val)] == [6, 3]
    assert not {i["id"] for i in train["images"]} & {i["id"] for i in val["images"]}
    for entry in train["annotations"]:
        x, y, w, h = entry["bbox"]
        assert x >= 0 and y >= 0 and w > 0 and h > 0 and x + w <= 96 and y + h <= 96
        assert 0 < entry["area"] <= w * h
    picture = cv2.imread(str(shapes / "images" / train["images"][0]["file_name"]))
    assert picture.shape == (96, 96, 3)


def test_shapes_hold_all_classes_sizes_and_overlaps():
    annotations = [draw_image(0, i)[1] for i in range(60)]
    flat = [a for image in annotations for a in image]
    assert {a["category_id"] for a in flat} == {1, 2, 3, 4, 5}
    sides = [max(a["bbox"][2:]) for a in flat]
    assert min(sides) < 20 and max(sides) > 96

    def overlap(a, b):
        (ax, ay, aw, ah), (bx, by, bw, bh) = a["bbox"], b["bbox"]
        return ax < bx + bw and bx < ax + aw and ay < by + bh and by < ay + ah

    assert any(overlap(a, b) for image in annotations for a in image for b in image if a is not b)
