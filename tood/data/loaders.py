"""Data loaders: detectron2's, over the filtered datasets, with errors that name the image."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import (
    DatasetMapper,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)

from ..errors import DataError
from .filtering import filter_training_dicts
from .mapper import ErrorContextMapper

Batch = list[dict[str, Any]]


@dataclass(frozen=True)
class TrainLoader:
    """A training loader that knows the length of an epoch. Iterating it yields batches.

    Attributes:
        loader: an endless iterable of batches, as detectron2 builds it.
        num_images: images that the batches are drawn from, after filtering.
    """

    loader: Iterable[Batch]
    num_images: int

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.loader)


def load_filtered_dicts(cfg: CfgNode) -> list[dict[str, Any]]:
    """Load the images that training uses, after filtering.

    Args:
        cfg: the config, after `tood.data.setup_datasets`.

    Returns:
        detectron2's dataset dicts.

    Raises:
        DataError: no training set is given, or it has no usable annotation.
    """
    if not cfg.DATASETS.TRAIN:
        raise DataError(
            "DATASETS.TRAIN is empty. Name a registered dataset, or set "
            "DATASETS.TRAIN_ANNOTATIONS and DATASETS.TRAIN_IMAGES."
        )
    dicts = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=False)
    return filter_training_dicts(dicts, cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS)


def build_train_loader(cfg: CfgNode) -> TrainLoader:
    """Build detectron2's training loader over the filtered training set.

    Args:
        cfg: the config, after `tood.data.setup_datasets`.

    Raises:
        DataError: see `load_filtered_dicts`. While iterating: an image cannot be used.
    """
    dicts = load_filtered_dicts(cfg)
    mapper = ErrorContextMapper(DatasetMapper(cfg, is_train=True))
    return TrainLoader(build_detection_train_loader(cfg, mapper=mapper, dataset=dicts), len(dicts))


def build_test_loader(cfg: CfgNode, dataset_name: str) -> Iterable[Batch]:
    """Build detectron2's test loader.

    Args:
        cfg: the config, after `tood.data.setup_datasets`.
        dataset_name: of a registered dataset.
    """
    mapper = ErrorContextMapper(DatasetMapper(cfg, is_train=False))
    return build_detection_test_loader(cfg, dataset_name, mapper=mapper)
