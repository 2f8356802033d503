"""Samplers draw what detectron2's draw; what an epoch is; classes with the same chance."""

import itertools

import numpy as np
import pytest
import torch
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler

from tests.data.builders import make_dataset
from tood.data.samplers import (
    ClassAwareSampler,
    RandomSubsetSampler,
    RepeatFactorSampler,
    ShuffleSampler,
    repeat_factors,
    sampler_factory,
)
from tood.errors import ConfigError, DataError

# Class a is in all 6 images, b in two (twice in one of them), c in one; image 5 has a crowd of c.
BOXES = [(i, 0, 0, 0, 9, 9) for i in range(6)]
BOXES += [(1, 1, 0, 0, 9, 9), (1, 1, 5, 5, 9, 9), (2, 1, 0, 0, 9, 9), (3, 2, 0, 0, 9, 9)]
BOXES += [(5, 2, 0, 0, 9, 9)]


@pytest.fixture
def dataset():
    is_crowd = [box == BOXES[-1] for box in BOXES]
    return make_dataset(BOXES, num_images=6, is_crowd=is_crowd)


def draws(sampler, count: int, seed: int = 3) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    drawn: list[int] = []
    while len(drawn) < count:
        drawn += sampler.draw_pass(generator).tolist()
    return drawn[:count]


def test_order_of_detectron2s_training_sampler():
    expected = list(itertools.islice(TrainingSampler(7, seed=3), 30))
    assert draws(ShuffleSampler(7), 30) == expected


def test_order_of_detectron2s_repeat_factor_sampler(dataset):
    theirs = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency
    for threshold in (0.0, 0.4, 0.9, 5.0):
        factors = repeat_factors(dataset, threshold)
        assert torch.equal(factors, theirs(dataset.dicts(), threshold))
        expected = itertools.islice(RepeatFactorTrainingSampler(factors, seed=3), 60)
        assert draws(RepeatFactorSampler(factors), 60) == list(expected)


def test_repeat_factors(dataset):
    """f is 1 for a, 2/6 for b, and 2/6 for c, whose crowd counts, as in detectron2."""
    expected = [1, 1.5, 1.5, 1.5, 1, 1.5]
    np.testing.assert_allclose(repeat_factors(dataset, 0.75), expected)
    expected = [1, 2.25, 2.25, 2.25, 1, 2.25]
    np.testing.assert_allclose(repeat_factors(dataset, 0.75, sqrt=False), expected)


def test_an_epoch_is_what_is_drawn(dataset):
    sampler = RepeatFactorSampler(repeat_factors(dataset, 0.75))
    assert sampler.num_images == 8  # 2 * 1 + 4 * 1.5
    generator = torch.Generator().manual_seed(0)
    passes = [len(sampler.draw_pass(generator)) for _ in range(300)]
    assert {6, 8, 10} <= set(passes) <= set(range(6, 11))
    assert np.mean(passes) == pytest.approx(8, abs=0.2)
    assert ShuffleSampler(6).num_images == ClassAwareSampler(dataset).num_images == 6
    assert RandomSubsetSampler(6, 0.5, seed=0).num_images == 3
    assert RandomSubsetSampler(6, 0.01, seed=0).num_images == 1


def test_random_subset():
    sampler = RandomSubsetSampler(20, 0.3, seed=5)
    drawn = draws(sampler, 18)
    assert len(set(drawn)) == 6 and set(drawn) == set(sampler.members.tolist())
    for start in (0, 6, 12):
        assert len(set(drawn[start : start + 6])) == 6
    assert set(RandomSubsetSampler(20, 0.3, seed=5).members) == set(sampler.members)
    assert set(RandomSubsetSampler(20, 0.3, seed=6).members) != set(sampler.members)


def test_order_of_detectron2s_random_subset_sampler():
    samplers = pytest.importorskip("detectron2.data.samplers")
    if not hasattr(samplers, "RandomSubsetTrainingSampler"):
        pytest.skip("detectron2 0.4 has no such sampler")
    theirs = samplers.RandomSubsetTrainingSampler(20, 0.3, seed_shuffle=3, seed_subset=5)
    assert draws(RandomSubsetSampler(20, 0.3, seed=5), 30) == list(itertools.islice(theirs, 30))


def test_classes_have_the_same_chance(dataset):
    """Class c has one image, because crowds do not count: a third, and a sixth of a third."""
    sampler = ClassAwareSampler(dataset)
    share = np.bincount(draws(sampler, 60000), minlength=6) / 60000
    third = 1 / 3
    expected = np.full(6, third / 6) + np.array([0, third / 2, third / 2, third, 0, 0])
    np.testing.assert_allclose(share, expected, atol=0.01)
    assert draws(sampler, 50) == draws(ClassAwareSampler(dataset), 50)


def test_images_without_objects_are_not_members():
    dataset = make_dataset(
        [(0, 2, 0, 0, 9, 9), (2, 0, 0, 0, 9, 9), (3, 1, 0, 0, 9, 9)],
        num_images=4,
        is_crowd=[False, False, True],
    )
    sampler = ClassAwareSampler(dataset)
    assert sampler.members.tolist() == [0, 2] and set(draws(sampler, 50)) == {0, 2}


@pytest.mark.parametrize(
    "name, sampler",
    [
        ("TrainingSampler", ShuffleSampler),
        ("RepeatFactorTrainingSampler", RepeatFactorSampler),
        ("ClassAwareTrainingSampler", ClassAwareSampler),
        ("RandomSubsetTrainingSampler", RandomSubsetSampler),
    ],
)
def test_selected_by_detectron2s_key(tiny_cfg, dataset, name, sampler):
    tiny_cfg.DATALOADER.RANDOM_SUBSET_RATIO = 0.5
    tiny_cfg.DATALOADER.SAMPLER_TRAIN = name
    assert isinstance(sampler_factory(tiny_cfg, dataset)(1), sampler)


def test_invalid_keys(tiny_cfg, dataset):
    tiny_cfg.DATALOADER.SAMPLER_TRAIN = "Sampler"
    with pytest.raises(ConfigError, match=r"Unknown sampler 'Sampler'.*Available: ClassAware"):
        sampler_factory(tiny_cfg, dataset)
    tiny_cfg.DATALOADER.SAMPLER_TRAIN = "RandomSubsetTrainingSampler"
    tiny_cfg.DATALOADER.RANDOM_SUBSET_RATIO = 0
    with pytest.raises(ConfigError, match="RANDOM_SUBSET_RATIO must be above 0"):
        sampler_factory(tiny_cfg, dataset)
    tiny_cfg.DATALOADER.SAMPLER_TRAIN = "RepeatFactorTrainingSampler"
    tiny_cfg.DATALOADER.REPEAT_THRESHOLD = float("nan")
    with pytest.raises(ConfigError, match="REPEAT_THRESHOLD must be at least 0"):
        sampler_factory(tiny_cfg, dataset)
    tiny_cfg.DATALOADER.SAMPLER_TRAIN = "ClassAwareTrainingSampler"
    crowds = make_dataset([(0, 0, 0, 0, 9, 9)], is_crowd=[True])
    with pytest.raises(DataError, match="needs objects that are not crowds"):
        sampler_factory(tiny_cfg, crowds)
