"""Mosaic and mix-up in the loader: by seed and position alone, off in time, and replaced alike."""

import itertools
import json

import numpy as np
import pytest
from detectron2.data import DatasetMapper
from detectron2.utils import comm

from tests.data.builders import ruin
from tests.data.test_batches import contents, take
from tood.data import build_train_loader
from tood.data.batches import TrainingBatches
from tood.data.samplers import RandomSubsetSampler, ShuffleSampler
from tood.data.stream import BatchStream
from tood.errors import ConfigError, DataError


@pytest.fixture
def build_plain(multi_cfg, build_loader):
    """Builds the loader without mosaic and mix-up."""

    def build(**keys):
        multi_cfg.INPUT.MOSAIC.ENABLED = multi_cfg.INPUT.MIXUP.ENABLED = False
        loader = build_loader(**keys)
        multi_cfg.INPUT.MOSAIC.ENABLED = multi_cfg.INPUT.MIXUP.ENABLED = True
        return loader

    return build


def shapes(loader, count: int) -> list:
    iterator = iter(loader)
    batches = [next(iterator) for _ in range(count)]
    return [[(x["file_name"], tuple(x["image"].shape)) for x in batch] for batch in batches]


# ---- seed and position -----------------------------------------------------------------------


def test_batches_do_not_depend_on_the_number_of_workers(multi_cfg, build_loader):
    expected = take(build_loader(NUM_WORKERS=0), 9)
    np.random.seed(5)
    for workers in (0, 2):
        assert take(build_loader(NUM_WORKERS=workers), 9) == expected
    assert take(build_loader(SEED=8), 9) != expected
    counts = [len(boxes) for batch in expected for _, _, boxes, _ in batch]
    assert max(counts) > 2 and min(counts) <= 1  # put together, and alone


def test_order_and_sizes_are_those_of_single_images(multi_cfg, build_loader, build_plain):
    """So batches have one orientation, and need no more memory."""
    assert shapes(build_loader(), 12) == shapes(build_plain(), 12)


def test_processes_share_the_batches_of_one(multi_cfg, build_loader, monkeypatch):
    expected = take(build_loader(IMS_PER_BATCH=4), 5)
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        assert take(build_loader(IMS_PER_BATCH=4), 5) == [batch[rank::2] for batch in expected]


def test_partners_are_drawn_like_images():
    """They depend on the place in the stream alone, and do not change the order of the images."""
    sampler = RandomSubsetSampler(40, 0.5, 3)
    stream = BatchStream(sampler, 7, 4, np.arange(40) % 3 > 0, num_partners=4)
    rows = list(itertools.islice(stream.batches(), 3000))
    for skip in (1, 1030, 2500):
        again = list(itertools.islice(stream.batches(skip=skip), 3))
        np.testing.assert_array_equal(again, rows[skip : skip + 3])
    partners = np.stack(rows)[:, :, 2:]
    images, counts = np.unique(partners, return_counts=True)
    assert set(images) == set(sampler.members)
    assert counts.max() < 1.1 * counts.min()
    # Each of the four, and each image, has partners of its own.
    assert len(np.unique(partners.reshape(-1, 4), axis=0)) > 0.9 * 12000
    alone = BatchStream(sampler, 7, 4, np.arange(40) % 3 > 0)
    for row, expected in zip(rows, alone.batches(), strict=False):
        np.testing.assert_array_equal(row[:, :2], expected)
    late = list(itertools.islice(BatchStream(ShuffleSampler(40), 7, 4, None, 4).batches(60), 3))
    whole = list(itertools.islice(BatchStream(ShuffleSampler(40), 7, 4, None, 4).batches(), 18))
    np.testing.assert_array_equal(late, whole[15:])


# ---- the last epochs -------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_off_from_an_iteration_on(multi_cfg, build_loader, build_plain, workers):
    """Workers prepare batches early, which must not be of the wrong kind."""
    mixed, plain = take(build_loader(), 9), take(build_plain(), 9)
    loader = build_loader(NUM_WORKERS=workers)
    loader.start_at(0, 4)
    assert take(loader, 9) == mixed[:4] + plain[4:]
    loader = build_loader(NUM_WORKERS=workers)
    loader.start_at(0, 0)
    assert take(loader, 3) == plain[:3]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [2, 4, 5])
def test_resume_around_the_end(multi_cfg, build_loader, workers, stop):
    loader = build_loader()
    loader.start_at(0, 4)
    expected = take(loader, 8)
    loader = build_loader(NUM_WORKERS=workers)
    loader.start_at(0, 4)
    assert take(loader, stop) == expected[:stop]
    state = json.loads(json.dumps(loader.state_dict()))
    resumed = build_loader(NUM_WORKERS=workers)
    iterator = iter(resumed)
    resumed.load_state_dict(state)
    resumed.start_at(stop, 4)
    assert contents([next(iterator) for _ in range(8 - stop)]) == expected[stop:]


def test_iterations_of_another_batch_size(multi_cfg, build_loader, build_plain):
    """The training's iteration counts, not the images that were drawn."""
    first = build_loader(ASPECT_RATIO_GROUPING=False)
    take(first, 3)
    keys = {"ASPECT_RATIO_GROUPING": False, "IMS_PER_BATCH": 4}
    plain, mixed, resumed = build_plain(**keys), build_loader(**keys), build_loader(**keys)
    for loader in (plain, mixed, resumed):
        loader.load_state_dict(first.state_dict())
    resumed.start_at(3, 5)
    assert take(resumed, 4) == take(mixed, 2) + take(plain, 4)[2:]


def test_an_end_that_comes_late(multi_cfg, build_loader, build_plain):
    """What workers have prepared by then is thrown away."""
    mixed, plain = take(build_loader(), 6), take(build_plain(), 6)
    loader = build_loader(NUM_WORKERS=1)
    assert take(loader, 2) == mixed[:2]
    loader.start_at(2, 3)
    assert take(loader, 4) == mixed[2:3] + plain[3:6]


# ---- images that cannot be used --------------------------------------------------------------


def test_bad_partners_are_replaced_by_the_same(multi_cfg, build_loader, images):
    bad = ruin(images, 2, 6)
    results = []
    for workers in (0, 2):
        loader = build_loader(NUM_WORKERS=workers, MAX_BAD_IMAGES=2)
        results.append(take(loader, 12))
        assert sorted(loader.bad_images) == bad
    assert results[0] == results[1]
    known = build_loader(MAX_BAD_IMAGES=2)
    known.load_state_dict({**known.state_dict(), "bad_images": bad})
    assert take(known, 12) == results[0]
    for workers in (0, 1):
        with pytest.raises(DataError, match=r"more unusable images than .*MAX_BAD_IMAGES 1 allows"):
            take(build_loader(MAX_BAD_IMAGES=1, NUM_WORKERS=workers), 12)


def test_no_image_is_left(multi_cfg, build_loader, images):
    ruin(images, *range(8))
    with pytest.raises(DataError, match=r"No image of set\.json can be used"):
        take(build_loader(MAX_BAD_IMAGES=100), 1)


def test_a_mapper_of_your_own(multi_cfg, images, monkeypatch):
    monkeypatch.setattr("tood.data.loaders.load_dataset", lambda name: images)
    multi_cfg.DATASETS.TRAIN = ("a set",)
    with pytest.raises(ConfigError, match=r"INPUT\.MOSAIC and .* given a function\. Set .* False"):
        build_train_loader(multi_cfg, lambda record: record)


def test_nothing_changes_while_all_is_off(loader_cfg, build_loader, images):
    """The batches are those of detectron2's mapper, bit for bit."""
    expected = take(build_train_loader(loader_cfg, DatasetMapper(loader_cfg, True)), 9)
    assert take(build_loader(), 9) == expected
    assert TrainingBatches(loader_cfg, images, lambda record: record).composer is None
