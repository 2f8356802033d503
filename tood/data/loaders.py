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
from detectron2.data.detection_utils import SizeMismatchError

from ..errors import DataError
from .cleaning import clean_training_dicts
from .coco import check_available


class ReadableMapper:
    """A dataset mapper whose errors name the image and the mend.

    Args:
        mapper: detectron2's, or one of the user's.
    """

    def __init__(self, mapper: DatasetMapper) -> None:
        self.mapper = mapper

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """Map one dataset dict; raises a DataError where its image cannot be used."""
        try:
            return self.mapper(record)
        except SizeMismatchError as error:
            raise DataError(
                f"{record['file_name']} has another size than its JSON says "
                f"({' '.join(str(error).split())}): correct width and height there"
            ) from error
        except (OSError, SyntaxError) as error:
            raise DataError(
                f"the image {record['file_name']} cannot be read ({error}): replace the file, or "
                "take it out of the JSON"
            ) from error


def load_training_dicts(cfg: CfgNode) -> list[dict[str, Any]]:
    """The images that training really uses, after filtering.

    Raises:
        DataError: a dataset is missing, or nothing in it can be learned from.
    """
    if not cfg.DATASETS.TRAIN:
        raise DataError("DATASETS.TRAIN is empty: name a training set, or set DATASETS.TRAIN_JSON")
    for name in cfg.DATASETS.TRAIN:
        check_available(name)
    dicts = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=False)
    return clean_training_dicts(dicts, cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS)


def build_train_loader(cfg: CfgNode) -> tuple[Iterable[list[dict]], int]:
    """detectron2's training loader, and the number of images that it draws from."""
    dicts = load_training_dicts(cfg)
    mapper = ReadableMapper(DatasetMapper(cfg, is_train=True))
    return build_detection_train_loader(cfg, mapper=mapper, dataset=dicts), len(dicts)


def build_test_loader(cfg: CfgNode, dataset_name: str) -> Iterable[list[dict]]:
    """detectron2's test loader."""
    check_available(dataset_name)
    mapper = ReadableMapper(DatasetMapper(cfg, is_train=False))
    return build_detection_test_loader(cfg, dataset_name, mapper=mapper)
