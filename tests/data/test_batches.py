"""Batches do not depend on workers and processes, continue after a resume, and skip bad images."""

import json
import os
import random

import numpy as np
import pytest
import torch
from detectron2.utils import comm
from PIL import Image

from tests.data.builders import ruin
from tood.data.batches import TrainingBatches
from tood.data.normalize import build_dataset
from tood.errors import ConfigError, DataError


def contents(batches) -> list:
    """What of a list of batches has to be bit-equal."""
    return [
        [
            (
                sample["file_name"],
                sample["image"].numpy().tobytes(),
                sample["instances"].gt_boxes.tensor.tolist(),
                sample["instances"].gt_classes.tolist(),
            )
            for sample in batch
        ]
        for batch in batches
    ]


def take(loader, count: int) -> list:
    iterator = iter(loader)
    return contents([next(iterator) for _ in range(count)])


# ---- order and random numbers ----------------------------------------------------------------


def test_batches_do_not_depend_on_the_number_of_workers(build_loader):
    expected = take(build_loader(NUM_WORKERS=0), 9)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    for workers in (0, 1, 3):
        assert take(build_loader(NUM_WORKERS=workers), 9) == expected
    assert take(build_loader(SEED=8), 9) != expected
    assert len({image[1] for batch in expected for image in batch}) > 12  # augmented differently
    names = [image[0] for batch in expected[:4] for image in batch]
    assert len(set(names)) >= 6


def test_loading_does_not_disturb_the_global_generators(build_loader):
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    for workers in (0, 1):
        take(build_loader(NUM_WORKERS=workers), 3)
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.get_rng_state().tolist() == states[2]


def test_batches_have_one_orientation(build_loader):
    for batch in take(build_loader(), 12):
        assert len({int(name.split("/")[-1][0]) < 5 for name, *_ in batch}) == 1
    mixed = take(build_loader(ASPECT_RATIO_GROUPING=False), 12)
    assert any(len({int(x[0].split("/")[-1][0]) < 5 for x in batch}) == 2 for batch in mixed)


def test_processes_share_the_batches_of_one(build_loader, monkeypatch):
    """Two processes get the halves of each batch that one process gets."""
    expected = take(build_loader(IMS_PER_BATCH=4), 6)
    halves = []
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        loader = build_loader(IMS_PER_BATCH=4)
        halves.append(take(loader, 6))
        assert loader.state_dict()["num_drawn"] == 24
    for batch, *parts in zip(expected, *halves, strict=True):
        assert [batch[0::2], batch[1::2]] == parts


def test_batch_size_must_divide(build_loader, monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    with pytest.raises(ConfigError, match="IMS_PER_BATCH 3 cannot be divided among 2 processes"):
        build_loader(IMS_PER_BATCH=3)


def test_without_a_seed_one_is_drawn(build_loader, loader_cfg):
    loader_cfg.SEED = -1
    first, second = build_loader(), build_loader()
    assert first.state_dict()["seed"] != second.state_dict()["seed"]
    expected = take(first, 2)
    second.load_state_dict(build_loader(SEED=first.state_dict()["seed"]).state_dict())
    assert take(second, 2) == expected


# ---- resume ----------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_loader_continues_exactly(build_loader, workers):
    """Only batches that were returned count, not those that workers have prepared."""
    expected = take(build_loader(), 12)
    loader = build_loader(NUM_WORKERS=workers)
    assert take(loader, 5) == expected[:5]
    state = json.loads(json.dumps(loader.state_dict()))  # plain types
    assert state["num_drawn"] == 10 and state["num_batches"] == 5
    resumed = build_loader(NUM_WORKERS=workers)
    iterator = iter(resumed)  # as detectron2 0.4's SimpleTrainer, before the state is loaded
    resumed.load_state_dict(state)
    assert contents([next(iterator) for _ in range(4)]) == expected[5:9]
    again = build_loader(NUM_WORKERS=workers)
    again.load_state_dict(resumed.state_dict())
    assert take(again, 3) == expected[9:]


def test_loading_a_state_in_the_middle(build_loader):
    loader = build_loader(NUM_WORKERS=1)
    state = loader.state_dict()
    expected = take(loader, 3)
    loader.load_state_dict(state)
    assert take(loader, 3) == expected


def test_another_number_of_processes_continues_the_same_batches(build_loader, monkeypatch, caplog):
    caplog.set_level("INFO", logger="tood")
    expected = take(build_loader(IMS_PER_BATCH=4), 6)
    loader = build_loader(IMS_PER_BATCH=4)
    take(loader, 2)
    state = loader.state_dict()
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "get_rank", lambda: 1)
    resumed = build_loader(IMS_PER_BATCH=4)
    resumed.load_state_dict(state)
    assert take(resumed, 4) == [batch[1::2] for batch in expected[2:]]
    assert "2 processes instead of 1 share the same batches" in caplog.text


def test_another_batch_size_continues_at_the_position(build_loader, caplog):
    caplog.set_level("INFO", logger="tood")
    loader = build_loader(ASPECT_RATIO_GROUPING=False)
    flat = [image for batch in take(loader, 12) for image in batch]
    first = build_loader(ASPECT_RATIO_GROUPING=False)
    take(first, 3)
    resumed = build_loader(ASPECT_RATIO_GROUPING=False, IMS_PER_BATCH=4)
    resumed.load_state_dict(first.state_dict())
    assert [image for batch in take(resumed, 2) for image in batch] == flat[6:14]
    assert "the batch size was 2 and is 4: " in caplog.text and "position 6" in caplog.text
    state = resumed.state_dict()
    assert (state["start"], state["num_batches"], state["num_drawn"]) == (6, 2, 14)
    third = build_loader(ASPECT_RATIO_GROUPING=False)
    third.load_state_dict(state)
    assert [image for batch in take(third, 4) for image in batch] == flat[14:22]


def test_another_dataset_or_sampler_continues_at_the_position(build_loader, caplog):
    caplog.set_level("INFO", logger="tood")
    state = build_loader().state_dict()
    loader = build_loader()
    loader.load_state_dict({**state, "num_images": 1000, "num_drawn": 501})
    assert "the number of images was 1000 and is 8" in caplog.text
    take(loader, 1)
    assert loader.state_dict()["num_drawn"] == 503
    loader = build_loader(SAMPLER_TRAIN="ClassAwareTrainingSampler")
    loader.load_state_dict(state)
    assert "the sampler was TrainingSampler and is ClassAware" in caplog.text


# ---- images that cannot be used --------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_stops_training_with_one_sentence(build_loader, images, workers):
    (name,) = ruin(images, 2)
    with pytest.raises(DataError) as error:
        take(build_loader(NUM_WORKERS=workers), 8)
    message = str(error.value)
    assert message.startswith(f"Cannot read the image {name}: ")
    assert message.endswith("set DATALOADER.MAX_BAD_IMAGES N.") and "Traceback" not in message


def test_bad_images_are_replaced_by_the_same_for_any_number_of_workers(
    build_loader, images, caplog
):
    bad = ruin(images, 2, 6)
    results = []
    for workers in (0, 1, 3):
        loader = build_loader(NUM_WORKERS=workers, MAX_BAD_IMAGES=2)
        caplog.clear()
        results.append(take(loader, 10))
        assert sorted(loader.bad_images) == bad
        warnings = [m for m in caplog.messages if "It is skipped" in m]
        assert len(warnings) == 2 and "(1 of at most 2)" in warnings[0]
    assert results[0] == results[1] == results[2]
    names = [name for batch in results[0] for name, *_ in batch]
    assert not set(bad) & set(names)
    for batch in results[0]:  # replaced by one of the same orientation
        assert len({int(name.split("/")[-1][0]) < 5 for name, *_ in batch}) == 1
    with pytest.raises(DataError, match="more unusable images than .*MAX_BAD_IMAGES 1 allows"):
        take(build_loader(MAX_BAD_IMAGES=1), 10)


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_images_are_remembered(build_loader, images, workers):
    ruin(images, 2, 6)
    expected = take(build_loader(MAX_BAD_IMAGES=2), 14)
    loader = build_loader(MAX_BAD_IMAGES=2, NUM_WORKERS=workers)
    take(loader, 7)
    state = loader.state_dict()
    assert state["bad_images"] == loader.bad_images
    Image.new("RGB", (60, 40)).save(images.file_names[2])  # readable again, but not tried again
    resumed = build_loader(MAX_BAD_IMAGES=2, NUM_WORKERS=workers)
    resumed.load_state_dict({**state, "bad_images": [images.file_names[i] for i in (2, 6)]})
    assert take(resumed, 7) == expected[7:]


def test_a_size_mismatch_is_a_bad_image(build_loader, images):
    Image.new("RGB", (50, 50)).save(images.file_names[0])
    with pytest.raises(DataError, match=r"0\.png has 50x50 pixels, but .* for 60x40\. Correct"):
        take(build_loader(), 8)
    loader = build_loader(MAX_BAD_IMAGES=1)
    take(loader, 8)
    assert loader.bad_images == images.file_names[:1]


def test_no_image_is_left(build_loader, images):
    ruin(images, *range(8))
    with pytest.raises(DataError, match=r"No image of set\.json can be used"):
        take(build_loader(MAX_BAD_IMAGES=100), 1)


def test_a_subset_is_not_left_for_a_replacement(build_loader, images, loader_cfg):
    loader_cfg.DATALOADER.RANDOM_SUBSET_RATIO = 0.5
    options = {"SAMPLER_TRAIN": "RandomSubsetTrainingSampler", "ASPECT_RATIO_GROUPING": False}
    names = {name for batch in take(build_loader(**options), 8) for name, *_ in batch}
    assert len(names) == 4
    bad = ruin(images, images.file_names.index(min(names)))
    loader = build_loader(**options, MAX_BAD_IMAGES=1)
    assert {x for batch in take(loader, 8) for x, *_ in batch} == names - set(bad)


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_of_your_own_mapper_surface(loader_cfg, images, workers):
    def mapper(record):
        raise TypeError("a bug in your own mapper")

    loader_cfg.DATALOADER.NUM_WORKERS, loader_cfg.DATALOADER.MAX_BAD_IMAGES = workers, 5
    with pytest.raises(TypeError, match="a bug in your own mapper"):
        next(TrainingBatches(loader_cfg, images, mapper))


def test_your_own_mapper_may_leave_images_out(loader_cfg, images):
    batches = TrainingBatches(
        loader_cfg, images, lambda x: x if "1.png" not in x["file_name"] else None
    )
    names = {x["file_name"] for _ in range(8) for x in next(batches)}
    assert names == set(images.file_names) - {images.file_names[1]}
    assert batches.bad_images == []


@pytest.mark.slow
def test_memory_of_a_worker():
    """A worker that has read each of 1,000,000 annotations has at most 300 MB of its own."""
    count, boxes = 120_000, 1_000_000
    rng = np.random.default_rng(0)
    corners = np.concatenate([rng.uniform(0, 30, (boxes, 2)), rng.uniform(4, 30, (boxes, 2))], 1)
    dataset = build_dataset(
        source="large.json",
        class_names=["a"],
        category_ids=[1],
        file_names=[f"{index}.jpg" for index in range(count)],
        image_ids=range(count),
        heights=[64] * count,
        widths=[64] * count,
        image_index=rng.integers(0, count, boxes),
        class_ids=[0] * boxes,
        boxes=corners,
    )
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # as PyTorch starts its workers
        try:
            found = sum(len(dataset.record(index)["annotations"]) for index in range(count))
            with open("/proc/self/smaps_rollup") as file:
                own = sum(int(line.split()[1]) for line in file if line.startswith("Private"))
            os.write(write, f"{found} {own // 1024}".encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    found, megabytes = map(int, os.read(read, 100).split())
    assert found == dataset.num_boxes == boxes and megabytes < 300
