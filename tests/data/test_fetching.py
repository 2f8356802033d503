"""What a worker gets of the dataset."""

import numpy as np

from tests.data.builders import make_dataset
from tood.data.fetching import TrainingImages


def test_masks_reach_the_mapper():
    """They are kept as bytes; images 1 and 3 have no box."""
    boxes = [(0, 0, 1, 1, 9, 9), (2, 1, 2, 2, 8, 8), (2, 2, 3, 3, 7, 7)]
    masks = [[[1, 1, 9, 1, 9, 9]], {"size": [480, 640], "counts": "PPYo1"}, [[3, 3, 9, 3, 9, 9]]]
    dataset = make_dataset(boxes, num_images=4, segmentations=masks)
    images = TrainingImages(
        dataset, lambda record: record, 0, landscape=np.ones(4, bool), members=np.arange(4)
    )
    for index in range(4):
        assert images[(7, index)].sample == dataset.record(index)
    assert images.dataset.segmentations is None and dataset.segmentations == masks
    assert images.dataset.record(2)["annotations"][0].keys() >= {"bbox", "category_id"}


def test_positions_seed_the_mapper():
    dataset = make_dataset([(0, 0, 1, 1, 9, 9)])
    images = TrainingImages(
        dataset,
        lambda record: {"number": np.random.rand()},
        seed=3,
        landscape=np.ones(1, bool),
        members=np.arange(1),
    )
    first = images[(5, 0)].sample
    assert images[(6, 0)].sample != first and images[(5, 0)].sample == first
