"""Evaluates with another resizing than the config's, which exported files of a fixed size need."""

from collections.abc import Iterable
from typing import Any

from detectron2.config import CfgNode
from detectron2.data.transforms import Augmentation, AugmentationList
from detectron2.engine import DefaultTrainer

from ..data import build_test_loader
from ..data.mapper import DetectionMapper


def with_test_resize(trainer: type[DefaultTrainer], resize: Augmentation) -> type[DefaultTrainer]:
    """Return a trainer class whose test loader resizes images in another way; ``test`` builds it.

    Args:
        trainer: the class.
        resize: in the place of ``INPUT.MIN_SIZE_TEST`` and ``MAX_SIZE_TEST``.
    """

    class FixedSizeTrainer(trainer):  # type: ignore[valid-type, misc]
        @classmethod
        def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable[Any]:
            mapper = DetectionMapper(cfg, is_train=False)
            mapper.augmentations = AugmentationList([resize])
            return build_test_loader(cfg, dataset_name, mapper)

    return FixedSizeTrainer
