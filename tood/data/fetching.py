"""Fetching training images: mapped under random numbers of their own, replaced where unusable."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from detectron2.data import DatasetFromList
from torch.utils.data import Dataset

from .dataset import DetectionDataset
from .mapper import BadImageError, ErrorContextMapper
from .mosaic import LabeledImage
from .multi_image import MultiImageMapper
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
        num_objects: annotated objects of the image, and of those that it was put together with.
    """

    sample: Sample | None = None
    problems: list[tuple[str, str]] = field(default_factory=list)
    num_objects: int = 0

    @property
    def num_dropped(self) -> int:
        """How many of them augmentation left out, because too little of them is left."""
        if self.sample is None or "instances" not in self.sample:
            return 0
        return self.num_objects - len(self.sample["instances"])


class _NoImageError(Exception):
    """No image can be used, or too many could not."""


class TrainingImages(Dataset[Fetched]):
    """Maps images of the stream; an image that cannot be used is replaced by another.

    Which image takes its place depends on the seed and the position alone. It has the same
    orientation, so that batches keep theirs.

    Args:
        dataset: the training set.
        mapper: maps a dataset dict; it may return None for an image that is to be left out.
        composer: maps the images of draws with partners; None to leave partners out.
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
        composer: MultiImageMapper | None = None,
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
        self.composer = composer
        self.seed = seed
        self.landscape = landscape
        self.members = members
        self.max_bad_images = max_bad_images
        self._bad = set(bad_images)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: Sequence[int]) -> Fetched:
        """Fetch the image (position, index, *partners) of the stream.

        With partners, `MultiImageMapper` may put it together with them.
        """
        position, index, *partners = draw
        fetched = Fetched()
        if self.composer is not None and partners:
            self._compose(fetched, position, [index, *partners])
            return fetched
        try:
            for candidate in self._candidates(position, index):
                record = self._record(candidate)
                with seeded(self.seed, position):
                    fetched.sample = self._try(fetched, self.mapper, record)
                if fetched.sample is not None:
                    if "instances" in fetched.sample:
                        fetched.num_objects = _num_objects(record)
                    break
        except _NoImageError:
            pass
        return fetched

    def _compose(self, fetched: Fetched, position: int, images: list[int]) -> None:
        """Put an image together with its partners, which are replaced like images."""
        assert self.composer is not None

        def load(
            number: int, label: Callable[[Sample], LabeledImage]
        ) -> tuple[Sample, LabeledImage]:
            """Read and augment one of the images, or what takes its place."""
            for candidate in self._candidates(position, images[number], number):
                record = self._record(candidate)
                # What cannot be read has drawn no random number yet.
                labeled = self._try(fetched, ErrorContextMapper(label), record)
                if labeled is not None:
                    fetched.num_objects += _num_objects(record)
                    return record, labeled
            raise _NoImageError

        try:
            with seeded(self.seed, position):
                fetched.sample = self.composer(load)
        except _NoImageError:
            pass

    def _try(self, fetched: Fetched, mapper: Callable[[Sample], Any], record: Sample) -> Any:
        """What the mapper returns; None for an image that is known to be bad, or is found to be.

        Raises:
            _NoImageError: it is one too many.
        """
        name = record["file_name"]
        if name in self._bad:
            return None
        try:
            return mapper(record)
        except BadImageError as error:
            self._bad.add(name)
            fetched.problems.append((name, str(error)))
            if len(self._bad) > self.max_bad_images:
                raise _NoImageError from error
            return None

    def _record(self, index: int) -> dict[str, Any]:
        record = self.dataset.record(index)
        if self._masks is not None:
            for annotation, mask in zip(record["annotations"], self._masks[index], strict=True):
                annotation["segmentation"] = mask
        return record

    def _candidates(self, position: int, index: int, number: int = 0) -> Iterator[int]:
        """An image, and what may take its place; ``number`` is that of a partner."""
        yield index
        same = self.members[self.landscape[self.members] == self.landscape[index]]
        seeds = (self.seed, position, number) if number else (self.seed, position)
        yield from map(int, np.random.default_rng(seeds).permutation(same))


def _num_objects(record: Sample) -> int:
    return sum(not annotation.get("iscrowd", 0) for annotation in record["annotations"])


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
