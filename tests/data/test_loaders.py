"""Data loaders."""

import json

import pytest

from tood.data import TrainLoader, build_test_loader, build_train_loader, setup_datasets
from tood.errors import DataError


def test_loaders(shapes_cfg):
    setup_datasets(shapes_cfg)
    loader = build_train_loader(shapes_cfg)
    assert isinstance(loader, TrainLoader)
    assert loader.num_images == 6
    batch = next(iter(loader))
    assert len(batch) == 2 and batch[0]["image"].shape[0] == 3
    (name,) = shapes_cfg.DATASETS.TEST
    assert len(list(build_test_loader(shapes_cfg, name))) == 3


def test_no_training_set(shapes_cfg):
    shapes_cfg.DATASETS.TRAIN = ()
    with pytest.raises(DataError, match="DATASETS.TRAIN is empty"):
        build_train_loader(shapes_cfg)


def test_crowd_regions_are_background(shapes_cfg, edited_json):
    """As in the reference implementation: not a positive, and not ignored."""

    def crowd(content):
        for a in content["annotations"]:
            a["iscrowd"] = int(a["id"] % 2)

    path = edited_json(crowd)
    shapes_cfg.DATASETS.TRAIN_ANNOTATIONS = path
    setup_datasets(shapes_cfg)
    with open(path) as file:
        content = json.load(file)
    for image in next(iter(build_train_loader(shapes_cfg))):
        plain = [
            a
            for a in content["annotations"]
            if a["image_id"] == image["image_id"] and not a["iscrowd"]
        ]
        assert len(image["instances"]) == len(plain)
