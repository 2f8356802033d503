"""Fetching training images: mapped under random numbers of their own, replaced where unusable."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from detectron2.data import DatasetFromList
from torch.utils.data import Dataset

from .dataset import DetectionDataset
from .mapper import BadImageError
from .samplers import Indices
from .stream import seeded

Sample = dict[str, Any]
Mapper = Callable[[dict[str, Any]], Sample | None]


@dataclass
class Fetched:
    """What a worker returns for one image of the stream.

    Errors that the user can fix are returned instead of raised, because PyTorch adds the worker's
    traceback to what its workers raise, and raises it before the image is due.

    Attributes:
        sample: the mapped image, or one in its place; None if there is none.
        problems: file name and message of each unusable image that was met.
    """

    sample: Sample | None = None
    problems: list[tuple[str, str]] = field(default_factory=list)


class TrainingImages(Dataset[Fetched]):
    """Maps images of the stream; an image that cannot be used is replaced by another.

    Which image takes its place depends on the seed and the position alone. It has the same
    orientation, so that batches keep theirs.

    Args:
        dataset: the training set.
        mapper: maps a dataset dict; it may return None for an image that is to be left out.
        seed: of the training.
        landscape: (N,) bool, the orientation of each image.
        members: the images that may be drawn.
        bad_images: names of files that are known to be unusable.
        max_bad_images: how many of them there may be.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        mapper: Mapper,
        seed: int,
        *,
        landscape: np.ndarray,
        members: Indices,
        bad_images: Iterable[str] = (),
        max_bad_images: int = 0,
    ) -> None:
        self._masks: DatasetFromList | None = None
        if dataset.segmentations is not None:
            # As bytes: a worker that reads Python objects gets its own copy of their memory.
            masks, ends = dataset.segmentations, dataset.offsets.tolist()
            self._masks = DatasetFromList(
                [masks[start:end] for start, end in pairwise(ends)], copy=False
            )
            dataset = replace(dataset, segmentations=None)
        self.dataset = dataset
        self.mapper = mapper
        self.seed = seed
        self.landscape = landscape
        self.members = members
        self.max_bad_images = max_bad_images
        self._bad = set(bad_images)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: tuple[int, int]) -> Fetched:
        """Fetch the image (position, index) of the stream."""
        position, index = draw
        fetched = Fetched()
        for candidate in self._candidates(position, index):
            name = self.dataset.file_names[candidate]
            if name in self._bad:
                continue
            try:
                with seeded(self.seed, position):
                    fetched.sample = self.mapper(self._record(candidate))
            except BadImageError as error:
                self._bad.add(name)
                fetched.problems.append((name, str(error)))
                if len(self._bad) > self.max_bad_images:
                    break
            if fetched.sample is not None:
                break
        return fetched

    def _record(self, index: int) -> dict[str, Any]:
        record = self.dataset.record(index)
        if self._masks is not None:
            for annotation, mask in zip(record["annotations"], self._masks[index], strict=True):
                annotation["segmentation"] = mask
        return record

    def _candidates(self, position: int, index: int) -> Iterator[int]:
        yield index
        same = self.members[self.landscape[self.members] == self.landscape[index]]
        yield from map(int, np.random.default_rng((self.seed, position)).permutation(same))


class TestImages(Dataset[Fetched]):
    """Maps images in their order; every one must be usable.

    Args:
        dataset: the test set.
        mapper: maps a dataset dict.
    """

    __test__ = False  # pytest takes classes of this name for tests

    def __init__(self, dataset: DetectionDataset, mapper: Mapper) -> None:
        self.dataset = dataset
        self.mapper = mapper

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Fetched:
        """Fetch an image."""
        try:
            with seeded(0, index):  # for mappers of your own, and not to disturb other generators
                return Fetched(self.mapper(self.dataset.record(index)))
        except BadImageError as error:
            return Fetched(None, [(self.dataset.file_names[index], str(error))])
