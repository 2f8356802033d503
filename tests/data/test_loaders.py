"""The loaders of the trainer and of evaluation."""

import json
import logging

import pytest
from detectron2.utils import comm

from tests.data.builders import ruin
from tood.data import TrainLoader, build_test_loader, build_train_loader, setup_datasets
from tood.data.loaders import TestLoader
from tood.errors import DataError


def test_length_of_an_epoch(build_loader, loader_cfg):
    assert (
        build_loader().num_images
        == build_loader(SAMPLER_TRAIN="ClassAwareTrainingSampler").num_images
        == 8
    )
    repeat = {"SAMPLER_TRAIN": "RepeatFactorTrainingSampler", "REPEAT_THRESHOLD": 1.5}
    # Classes 0 and 1 are in 3 of 8 images: 2 each. Class 2 is in 2: sqrt(6) each.
    assert build_loader(**repeat).num_images == round(6 * 2 + 2 * 6**0.5)


def test_your_own_loader(caplog):
    started = []

    def batches():
        started.append(True)
        yield from ([{"image": i}] for i in range(3))

    class Own:
        def __iter__(self):
            return batches()

    loader = TrainLoader(Own(), num_images=3)
    iterator = iter(loader)
    assert not started  # nothing runs before the first batch is asked for
    assert next(iterator) == [{"image": 0}] and loader.num_images == 3
    assert loader.state_dict() == {} and loader.bad_images == []
    loader.load_state_dict({})
    assert "starts over" in caplog.text


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


# ---- test images -----------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world_size", [1, 3, 5, 11])
def test_every_test_image_is_in_one_process(
    build_loader, loader_cfg, images, monkeypatch, world_size, workers
):
    loader_cfg.DATALOADER.NUM_WORKERS = workers if world_size == 3 else 0
    monkeypatch.setattr(comm, "get_world_size", lambda: world_size)
    seen = []
    for rank in range(world_size):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        loader = build_test_loader(loader_cfg, "a set")
        batches = list(loader)
        assert isinstance(loader, TestLoader) and len(loader) == len(batches)
        assert abs(len(batches) - 8 / world_size) < 1
        seen += [sample["file_name"] for batch in batches for sample in batch]
    assert seen == images.file_names


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_test_image(build_loader, loader_cfg, images, workers):
    (name,) = ruin(images, 3)
    loader_cfg.DATALOADER.NUM_WORKERS, loader_cfg.DATALOADER.MAX_BAD_IMAGES = workers, 5
    with pytest.raises(DataError) as error:
        list(build_test_loader(loader_cfg, "a set"))
    assert str(error.value).startswith(f"Cannot read the image {name}: ")
    assert "Traceback" not in str(error.value)


def test_class_counts_are_logged(build_loader, images, caplog):
    """Images 0 to 7 have one box each, of the classes 0, 1, 2, 0, 1, 2, 0, 1."""
    caplog.set_level("INFO", logger="detectron2.data")
    build_loader()
    (table,) = [m for m in caplog.messages if m.startswith("Distribution of instances among all 3")]
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in table.splitlines()[3:]]
    assert rows == [["a", "3"], ["b", "3"], ["c", "2"], ["total", "8"]]


def test_another_seed_after_a_resume_is_said(build_loader, caplog):
    state = build_loader(SEED=3).state_dict()
    build_loader(SEED=3).load_state_dict(state)
    build_loader(SEED=-1).load_state_dict(state)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    loader = build_loader(SEED=4)
    loader.load_state_dict(state)
    assert loader.state_dict()["seed"] == 3
    warnings = [x.getMessage() for x in caplog.records if x.levelno >= logging.WARNING]
    assert warnings == [
        "SEED is 4, but the order of the images and their augmentation keep the seed of the "
        "checkpoint, 3."
    ]
