"""Data loaders: detectron2's, over datasets that were looked over, with readable errors."""

from collections.abc import Iterable
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
from .registration import check_available


def load_filtered_dicts(cfg: CfgNode) -> list[dict[str, Any]]:
    """The images that training really uses, after filtering.

    Raises:
        DataError: a dataset is missing, or nothing in it can be learned from.
    """
    if not cfg.DATASETS.TRAIN:
        raise DataError(
            "DATASETS.TRAIN is empty: name a training set, or set DATASETS.TRAIN_ANNOTATIONS"
        )
    for name in cfg.DATASETS.TRAIN:
        check_available(name)
    dicts = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=False)
    return filter_training_dicts(dicts, cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS)


def build_train_loader(cfg: CfgNode) -> tuple[Iterable[list[dict]], int]:
    """detectron2's training loader, and the number of images that it draws from."""
    dicts = load_filtered_dicts(cfg)
    mapper = ErrorContextMapper(DatasetMapper(cfg, is_train=True))
    return build_detection_train_loader(cfg, mapper=mapper, dataset=dicts), len(dicts)


def build_test_loader(cfg: CfgNode, dataset_name: str) -> Iterable[list[dict]]:
    """detectron2's test loader."""
    check_available(dataset_name)
    mapper = ErrorContextMapper(DatasetMapper(cfg, is_train=False))
    return build_detection_test_loader(cfg, dataset_name, mapper=mapper)
