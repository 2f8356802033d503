"""Samplers: which images a pass over the training set draws, and in which order.

They are selected by detectron2's ``DATALOADER.SAMPLER_TRAIN`` and draw what detectron2's samplers
of the same seed draw, but a whole pass at a time, so that a resumed training can replay the order
of the images without decoding any.
"""

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from detectron2.config import CfgNode

from ..config.validation.data import SAMPLERS
from ..errors import ConfigError, DataError
from .dataset import DetectionDataset

Indices = npt.NDArray[np.int64]


class ImageSampler(Protocol):
    """Draws the images of one pass after the other.

    Attributes:
        num_images: expected number of images in a pass.
        members: the images that can be drawn.
    """

    num_images: int
    members: Indices

    def draw_pass(self, generator: torch.Generator) -> Indices:
        """Return the images of the next pass, at least one."""


class ShuffleSampler:
    """Every image once per pass, as detectron2's ``TrainingSampler``.

    Args:
        num_images: images of the training set.
    """

    def __init__(self, num_images: int) -> None:
        self.num_images = num_images
        self.members: Indices = np.arange(num_images)

    def draw_pass(self, generator: torch.Generator) -> Indices:
        """See `ImageSampler`."""
        return torch.randperm(self.num_images, generator=generator).numpy()


class RandomSubsetSampler:
    """Every image of a random subset once per pass, as ``RandomSubsetTrainingSampler``.

    Args:
        num_images: images of the training set.
        ratio: of the subset, in (0, 1].
        seed: of the choice.
    """

    def __init__(self, num_images: int, ratio: float, seed: int) -> None:
        self.num_images = max(1, int(num_images * ratio))
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(num_images, generator=generator).numpy()
        self.members: Indices = order[: self.num_images]

    def draw_pass(self, generator: torch.Generator) -> Indices:
        """See `ImageSampler`."""
        return self.members[torch.randperm(self.num_images, generator=generator).numpy()]


class RepeatFactorSampler:
    """Images of rare classes several times per pass, as ``RepeatFactorTrainingSampler``.

    Args:
        factors: (N,) float32, how often each image occurs in a pass on average, at least 1.
    """

    def __init__(self, factors: torch.Tensor) -> None:
        self.num_images = round(factors.double().sum().item())
        self.members: Indices = np.arange(len(factors))
        self._whole = factors.trunc()
        self._fraction = factors - self._whole

    def draw_pass(self, generator: torch.Generator) -> Indices:
        """See `ImageSampler`. Fractions are rounded up or down at random."""
        rounded_up = torch.rand(len(self._fraction), generator=generator) < self._fraction
        repeats = (self._whole + rounded_up.float()).long()
        images = torch.repeat_interleave(torch.arange(len(repeats)), repeats)
        return images[torch.randperm(len(images), generator=generator)].numpy()


class ClassAwareSampler:
    """For each draw a class, all with the same probability, and then one of its images.

    A pass has one draw per image of the training set. Crowds do not count.

    Args:
        dataset: the training set.
    """

    def __init__(self, dataset: DetectionDataset) -> None:
        image, self._class = _images_of_classes(dataset, dataset.is_crowd)
        self.num_images = len(dataset)
        self.members: Indices = np.unique(image)
        self._image = image
        counts = np.bincount(self._class)
        self._counts = torch.from_numpy(counts[counts > 0])
        self._starts = self._counts.cumsum(0) - self._counts

    def draw_pass(self, generator: torch.Generator) -> Indices:
        """See `ImageSampler`."""
        chosen = torch.randint(len(self._counts), (self.num_images,), generator=generator)
        fraction = torch.rand(self.num_images, generator=generator, dtype=torch.float64)
        rows = self._starts[chosen] + (fraction * self._counts[chosen]).long()
        return self._image[rows.numpy()]


def repeat_factors(dataset: DetectionDataset, threshold: float, sqrt: bool = True) -> torch.Tensor:
    """Compute how often each image should occur in a pass, by the rarest class in it.

    With f(c) the fraction of the images that have class c, the factor of an image is the largest
    max(1, sqrt(threshold / f(c))) of its classes ("LVIS", Gupta et al. 2019, appendix B.2).

    Args:
        dataset: the training set, crowds included.
        threshold: classes with a smaller f(c) are repeated.
        sqrt: False leaves out the square root.

    Returns:
        (N,) float32.
    """
    image, class_ids = _images_of_classes(dataset)
    frequency = np.bincount(class_ids, minlength=len(dataset.class_names)) / len(dataset)
    with np.errstate(divide="ignore"):
        ratio = threshold / frequency
    factor = np.maximum(1.0, np.sqrt(ratio) if sqrt else ratio)
    factors = np.ones(len(dataset))
    np.maximum.at(factors, image, factor[class_ids])
    return torch.from_numpy(factors.astype(np.float32))


def sampler_factory(cfg: CfgNode, dataset: DetectionDataset) -> Callable[[int], ImageSampler]:
    """Return a function from the seed to the sampler of ``DATALOADER.SAMPLER_TRAIN``.

    Raises:
        ConfigError: an unknown sampler, or an invalid key of it.
        DataError: class-aware sampling without any object.
    """
    loader, size = cfg.DATALOADER, len(dataset)
    name = loader.SAMPLER_TRAIN
    if name == "TrainingSampler":
        return lambda seed: ShuffleSampler(size)
    if name == "RepeatFactorTrainingSampler":
        threshold = loader.REPEAT_THRESHOLD
        if not 0 <= threshold < math.inf:
            raise ConfigError(f"DATALOADER.REPEAT_THRESHOLD must be at least 0, got {threshold}.")
        factors = repeat_factors(dataset, threshold, loader.get("REPEAT_SQRT", True))
        return lambda seed: RepeatFactorSampler(factors)
    if name == "RandomSubsetTrainingSampler":
        ratio = loader.RANDOM_SUBSET_RATIO
        if not 0 < ratio <= 1:
            raise ConfigError(
                f"DATALOADER.RANDOM_SUBSET_RATIO must be above 0 and at most 1, got {ratio}."
            )
        return lambda seed: RandomSubsetSampler(size, ratio, seed)
    if name == "ClassAwareTrainingSampler":
        if dataset.is_crowd.all():
            raise DataError(
                f"{name} needs objects that are not crowds, and {dataset.source} has none."
            )
        sampler = ClassAwareSampler(dataset)
        return lambda seed: sampler
    raise ConfigError(
        f"Unknown sampler {name!r} in DATALOADER.SAMPLER_TRAIN. Available: {', '.join(SAMPLERS)}."
    )


def _images_of_classes(
    dataset: DetectionDataset, without: npt.NDArray[np.bool_] | None = None
) -> tuple[Indices, Indices]:
    """Each pair of an image and a class in it, once, sorted by class and image."""
    image, class_ids = dataset.image_index, dataset.class_ids.astype(np.int64)
    if without is not None:
        image, class_ids = image[~without], class_ids[~without]
    pairs = np.unique(class_ids * len(dataset) + image)
    return pairs % len(dataset), pairs // len(dataset)
