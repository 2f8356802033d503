"""Augmentation that puts several images together: ``INPUT.MOSAIC`` and ``INPUT.MIXUP``."""

import functools
from collections.abc import Callable
from typing import Any

import detectron2.data.transforms as T
import numpy as np
from detectron2.config import CfgNode

from .mapper import DetectionMapper
from .mosaic import LabeledImage, mix, mosaic
from .transforms import build_augmentations

# Images that an image may be put together with: three of a mosaic, and one of mix-up.
NUM_PARTNERS = 4

Sample = dict[str, Any]
# Returns the dataset dict of an image, and what a function of it returned. The image 0 is the one
# that was drawn, the others are its partners; unusable ones are replaced.
Load = Callable[[int, Callable[[Sample], LabeledImage]], tuple[Sample, LabeledImage]]


def uses_several_images(cfg: CfgNode) -> bool:
    """Whether a config asks for mosaic or mix-up."""
    return bool(cfg.INPUT.MOSAIC.ENABLED or cfg.INPUT.MIXUP.ENABLED)


class MultiImageMapper:
    """Maps an image together with its partners.

    Random numbers are drawn from NumPy's global generator, which is seeded for each image.

    Args:
        cfg: the config: ``INPUT``.
        mapper: augments each image.
    """

    def __init__(self, cfg: CfgNode, mapper: DetectionMapper) -> None:
        self.mapper = mapper
        self.cfg = cfg
        self.mosaic = cfg.INPUT.MOSAIC
        self.mixup = cfg.INPUT.MIXUP

    def __call__(self, load: Load) -> Sample:
        """Return an image as `DetectionMapper` does, perhaps put together from several.

        It has the name and the size that the image has alone, so batches keep their orientation.
        """
        record, image = load(0, self.mapper.label)
        if self.mosaic.ENABLED and np.random.rand() < self.mosaic.PROB:
            image = self._make_mosaic(image, load)
        if self.mixup.ENABLED and np.random.rand() < self.mixup.PROB:
            _, other = load(NUM_PARTNERS, self.mapper.label)
            image = mix(image, other, float(np.random.beta(self.mixup.ALPHA, self.mixup.ALPHA)))
        return self.mapper.sample(record, image)

    def _make_mosaic(self, image: LabeledImage, load: Load) -> LabeledImage:
        height, width = image.size
        low, high = self.mosaic.SCALE
        scales = np.random.uniform(low, high, 4).tolist()
        first, last = self.mosaic.CENTER
        x, y = np.random.uniform(first, last, 2).tolist()
        parts = [image.resize(max(1, round(height * scales[0])), max(1, round(width * scales[0])))]
        for number, scale in enumerate(scales[1:], 1):
            # Smaller from the start: resizing and changing colors costs by the pixel.
            augmentations = T.AugmentationList(build_augmentations(self.cfg, True, scale))
            label = functools.partial(self.mapper.label, augmentations=augmentations)
            parts.append(load(number, label)[1])
        return mosaic(
            # The image itself at any of the four places.
            [parts[place] for place in np.random.permutation(4)],
            (height, width),
            (round(x * width), round(y * height)),
            self.mosaic.MIN_VISIBLE,
        )
