"""The order of batches: as detectron2's where it can be, one orientation each, and replayable."""

import itertools
import random
import time

import numpy as np
import torch
from detectron2.data.common import AspectRatioGroupedDataset
from detectron2.data.samplers import TrainingSampler

from tood.data.samplers import RepeatFactorSampler, ShuffleSampler
from tood.data.stream import BatchStream, seeded


def take(stream: BatchStream, count: int, **options) -> list[tuple[list[int], list[int]]]:
    batches = itertools.islice(stream.batches(**options), count)
    return [(batch[:, 0].tolist(), batch[:, 1].tolist()) for batch in batches]


def test_without_grouping():
    """The draws of detectron2's sampler, and positions 0, 1, 2, ..."""
    batches = take(BatchStream(ShuffleSampler(5), 1, 4), 2000)  # several chunks of passes
    drawn = [image for _, images in batches for image in images]
    assert drawn == list(itertools.islice(TrainingSampler(5, seed=1), 8000))
    assert [p for positions, _ in batches for p in positions] == list(range(8000))


def test_grouping_is_detectron2s():
    landscape = np.random.default_rng(0).random(50) < 0.3
    stream = BatchStream(ShuffleSampler(50), 1, 4, landscape)
    images = [
        {"index": i, "width": 2 if landscape[i] else 1, "height": 1}
        for i in itertools.islice(TrainingSampler(50, seed=1), 20000)
    ]
    # Images of one orientation at the end may wait for the last batch.
    grouped = [[x["index"] for x in batch] for batch in AspectRatioGroupedDataset(images, 4)]
    batches = take(stream, len(grouped))
    assert [images for _, images in batches] == grouped
    for _, batch in batches:
        assert len(set(landscape[batch])) == 1


def test_every_position_is_used_once():
    landscape = np.arange(30) % 3 > 0
    sampler = RepeatFactorSampler(torch.linspace(1, 2.5, 30))
    batches = take(BatchStream(sampler, 2, 8, landscape), 3000)
    positions = sorted(p for batch, _ in batches for p in batch)
    assert len(set(positions)) == len(positions) == 24000
    assert positions[-1] < 24000 + 14  # at most 7 of each orientation wait
    generator = torch.Generator().manual_seed(2)
    drawn = np.concatenate([sampler.draw_pass(generator) for _ in range(600)])
    for batch_positions, images in batches[:: len(batches) // 50]:
        assert drawn[batch_positions].tolist() == images


def test_skipped_batches_are_replayed():
    landscape = np.arange(11) % 4 > 0
    stream = BatchStream(ShuffleSampler(11), 7, 3, landscape)
    batches = take(stream, 3000)
    for skip in (0, 1, 17, 1364, 1365, 1366, 2900):
        assert take(stream, 20, skip=skip) == batches[skip : skip + 20]


def test_a_later_start():
    stream = BatchStream(ShuffleSampler(11), 7, 3)
    drawn = [x for batch in take(stream, 3000) for x in zip(*batch, strict=True)]
    for start in (1, 11, 100, 4100, 8000):
        batches = take(stream, 5, start=start)
        assert [x for b in batches for x in zip(*b, strict=True)] == drawn[start : start + 15]
    again = take(stream, 9, start=100)[4:]
    assert take(stream, 5, start=100, skip=4) == again


def test_a_long_training_is_replayed_in_a_moment():
    """180,000 iterations of 16 images on a dataset of COCO's size, and on a tiny one."""
    for size, skip in ((118_000, 180_000), (7, 10_000)):
        stream = BatchStream(ShuffleSampler(size), 0, 16, np.arange(size) % 3 > 0)
        start = time.process_time()
        take(stream, 1, skip=skip)
        assert time.process_time() - start < 3


def test_random_numbers_depend_on_the_place_alone():
    def numbers() -> tuple:
        return random.random(), np.random.rand(), torch.rand(1).item()

    def at(seed: int, position: int) -> tuple:
        with seeded(seed, position):
            return numbers()

    first = at(0, 5)
    numbers()
    assert at(0, 5) == first
    seen = {at(seed, position) for seed in (0, 1, 2**31, 2**40) for position in (0, 1, 5, 2**33)}
    assert len(seen) == 16
    assert all(len({x[i] for x in seen}) == 16 for i in range(3))


def test_global_generators_are_not_disturbed():
    random.seed(1)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    try:
        with seeded(3, 4):
            random.random(), np.random.rand(), torch.rand(1)
            raise KeyError
    except KeyError:
        pass
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.get_rng_state().tolist() == states[2]
