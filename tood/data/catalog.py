"""Datasets by name: each is read once, whoever registered it."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager

from ..errors import DataError, TOODError
from .dataset import DetectionDataset, FileId
from .dataset_dicts import read_dicts
from .formats import DataSource, read_dataset
from .keypoint_flips import publish_keypoints, registered_keypoint_names
from .keypoints import has_registered_names, with_registered_names

logger = logging.getLogger(__name__)

# The module of the functions that detectron2's register_coco_instances registers.
_COCO_MODULE = "detectron2.data.datasets.coco"


@dataclass(frozen=True)
class ReadOptions:
    """What a model needs of its datasets in addition to boxes; see `DataSource`."""

    with_masks: bool = False
    apply_exif: bool = True
    keep_unreadable: bool = False
    num_keypoints: int = 0


@dataclass(eq=False)
class ConfiguredDataset:
    """What is registered in detectron2's catalog for a dataset that the config's keys name.

    Each registration is another one, so a dataset that is registered again is read again.
    """

    name: str
    source: DataSource
    format: str

    def __call__(self) -> list[dict[str, Any]]:
        """Return detectron2's dataset dicts."""
        return load_dataset(self.name).dicts()


_options = ReadOptions()
_cache: dict[str, tuple[Callable[[], Any], ReadOptions, DetectionDataset]] = {}


def set_read_options(options: ReadOptions) -> None:
    """Set what is read from now on; datasets that were read otherwise are read again."""
    global _options
    _options = options


def load_dataset(name: str) -> DetectionDataset:
    """Return a registered dataset in the normalized form.

    Every process reads a dataset once, and again when it is registered again. What
    ``tood.data.setup_datasets`` or detectron2's ``register_coco_instances`` registered is read by
    our readers; of anything else, the function is called and its dicts are normalized.

    Args:
        name: of a dataset in detectron2's ``DatasetCatalog``.

    Raises:
        DataError: it is not registered, or cannot be read.
    """
    validate_registered(name)
    function = DatasetCatalog[name]
    cached = _cache.get(name)
    if cached is not None and cached[0] is function and cached[1] == _options:
        dataset = cached[2]
        if dataset.keypoints is None or has_registered_names(name, dataset):
            return dataset
    dataset = _read(name, function)
    keep_dataset(name, dataset)
    _log_changes(dataset)
    return dataset


def keep_dataset(name: str, dataset: DetectionDataset) -> None:
    """Keep what was read, here or by another process, and publish its classes in the metadata."""
    function = DatasetCatalog[name]
    _cache[name] = (function, _options, dataset)
    # Metadata refuses to replace values, such as the class names of a model from load_config.
    published = MetadataCatalog.get(name).__dict__
    read_by_us = _is_read_by_us(name, function)
    if read_by_us or published.get("thing_classes"):  # else they are only numbered
        published["thing_classes"] = list(dataset.class_names)
    if read_by_us:  # others have ids of their own, or none
        published["thing_dataset_id_to_contiguous_id"] = {
            category_id: index for index, category_id in enumerate(dataset.category_ids)
        }
    if dataset.keypoint_names:
        publish_keypoints(published, dataset, replace=isinstance(function, ConfiguredDataset))


def validate_registered(name: str) -> None:
    """Check that a dataset is registered.

    Raises:
        DataError: it is not.
    """
    if name not in DatasetCatalog.list():
        raise DataError(
            f"No dataset is registered as {name!r}. For your own data, set "
            "DATASETS.TRAIN_ANNOTATIONS, TRAIN_IMAGES, TEST_ANNOTATIONS and TEST_IMAGES."
        )


def validate_available(name: str) -> None:
    """Check that a dataset is registered and that its files exist.

    Raises:
        DataError: something is missing; the message says what and where it should be.
    """
    validate_registered(name)
    metadata = MetadataCatalog.get(name)
    for key in ("json_file", "image_root"):
        path = metadata.get(key)
        if path and "://" not in str(path) and not os.path.exists(path):
            raise DataError(
                f"The dataset {name} needs {path}, which does not exist. Put it there, or set the "
                "environment variable DETECTRON2_DATASETS to the folder of the datasets."
            )


def registered_categories(name: str) -> tuple[list[str], list[FileId]]:
    """Return the names and ids of a dataset's categories in detectron2's metadata, by class index.

    Either is empty where the metadata does not have it.
    """
    metadata = MetadataCatalog.get(name)
    indices: dict[FileId, int] = metadata.get("thing_dataset_id_to_contiguous_id") or {}
    ids = sorted(indices, key=lambda category: indices[category])
    return [str(text) for text in metadata.get("thing_classes") or ()], ids


def _read(name: str, function: Callable[[], Any]) -> DetectionDataset:
    if isinstance(function, ConfiguredDataset):
        return read_dataset(function.source, function.format)
    if _is_read_by_us(name, function):
        validate_available(name)
        metadata = MetadataCatalog.get(name)
        source = DataSource(
            PathManager.get_local_path(os.fspath(metadata.json_file)),
            os.fspath(metadata.image_root) or ".",
            **vars(_options),
        )
        return with_registered_names(name, read_dataset(source, "coco"))
    try:
        dicts = function()
    except TOODError:
        raise
    except (OSError, AssertionError, KeyError, ValueError) as error:
        raise DataError(
            f"The function of the dataset {name} failed ({type(error).__name__}: {error})."
        ) from error
    class_names, category_ids = registered_categories(name)
    return read_dicts(
        name,
        dicts,
        class_names,
        category_ids,
        keypoint_names=registered_keypoint_names(name),
        **vars(_options),
    )


def _is_read_by_us(name: str, function: Callable[[], Any]) -> bool:
    """Whether our readers read a dataset, rather than the function that is registered for it."""
    if isinstance(function, ConfiguredDataset):
        return True
    metadata = MetadataCatalog.get(name)
    return (
        getattr(function, "__module__", "") == _COCO_MODULE
        and bool(metadata.get("json_file"))
        and metadata.get("image_root") is not None
    )


def _log_changes(dataset: DetectionDataset) -> None:
    changes = dataset.changes
    if changes.counts:
        level = logging.WARNING if changes.lost else logging.INFO
        logger.log(level, "%s: %s.", dataset.source, changes.format())
    for sentence in changes.warnings:
        logger.warning("%s: %s", dataset.source, sentence)
