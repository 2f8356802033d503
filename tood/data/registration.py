"""Registers datasets in detectron2's catalogs and matches their classes with the model's."""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..compat import compute_on_main_process
from ..config.architecture import has_tood
from ..errors import ConfigError, DataError
from . import keypoints
from .catalog import (
    ConfiguredDataset,
    ReadOptions,
    keep_dataset,
    load_dataset,
    set_read_options,
    validate_available,
)
from .classes import class_info, compare_class_names, match_classes, name_classes, set_classes
from .dataset import DetectionDataset
from .formats import DataSource, find_format
from .formats.coco import COCOFormat
from .mask_checks import require_masks, validate_training_masks

__all__ = [
    "class_info",
    "compare_class_names",
    "load_dataset",
    "match_classes",
    "read_datasets",
    "register_coco",
    "register_dataset",
    "setup_datasets",
    "validate_available",
    "validate_ground_truth",
]


def setup_datasets(cfg: CfgNode, splits: tuple[str, ...] = ("TRAIN", "TEST")) -> None:
    """Prepare the datasets of a config.

    1. Register your own datasets: where ``DATASETS.{TRAIN,TEST}_ANNOTATIONS`` is set, it replaces
       ``DATASETS.{TRAIN,TEST}``.
    2. Read every dataset, and check that its files exist. With several processes, the main process
       reads, and the others get its result or its error.
    3. Check that the classes match the model's, and fill in ``MODEL.TOOD.CLASS_NAMES`` and
       ``CATEGORY_IDS``. ``MODEL.TOOD.NUM_CLASSES`` is set if it is still the default, 80, and so
       is the second stage's.

    Args:
        cfg: changed in place, so it must not be frozen.
        splits: the splits to prepare; ``("TEST",)`` for evaluation alone.

    Raises:
        DataError: a dataset is missing or invalid.
        ConfigError: data keys contradict each other, or the classes are not the model's.
    """
    datasets = _prepare(cfg, splits)
    for prepared in datasets:
        if cfg.MODEL.MASK_ON:
            require_masks(prepared.dataset)
        _validate_use(cfg, prepared)
        keypoints.validate_equal_keypoints(prepared.dataset, datasets[0].dataset)
        if has_tood(cfg):
            set_classes(cfg, prepared.name)
        else:
            _validate_equal_classes(prepared, datasets[0])


def read_datasets(cfg: CfgNode) -> dict[str, list[str]]:
    """Prepare the datasets of a config like `setup_datasets`, to report all that is wrong.

    Args:
        cfg: changed in place.

    Returns:
        By split, what `setup_datasets` would raise about datasets that can be read. What
        `tood.data.checking` finds is not part of it: images that are missing or unreadable, no
        boxes, only crowds, and other classes in the other split.

    Raises:
        DataError: a dataset is invalid.
        ConfigError: data keys contradict each other, or sets of one split have different classes.
    """
    datasets = _prepare(cfg, ("TRAIN", "TEST"), keep_unreadable=True)
    problems: dict[str, list[str]] = {split: [] for split in ("TRAIN", "TEST")}
    for prepared in datasets:
        _validate_equal_classes(prepared, next(x for x in datasets if x.split == prepared.split))
        try:
            dataset = prepared.dataset
            if cfg.MODEL.MASK_ON:
                require_masks(dataset)
            if not (dataset.annotated and dataset.is_crowd.all()):  # also without any box
                _validate_use(cfg, prepared)
            keypoints.validate_equal_keypoints(dataset, datasets[0].dataset)
            if prepared is datasets[0] and has_tood(cfg):
                set_classes(cfg, prepared.name)
        except (ConfigError, DataError) as error:
            problems[prepared.split].append(str(error))
    return problems


def _prepare(
    cfg: CfgNode, splits: tuple[str, ...], keep_unreadable: bool = False
) -> list["_Prepared"]:
    """Read and register the datasets of some splits."""
    _validate_keys(cfg, splits)
    options = ReadOptions(
        bool(cfg.MODEL.MASK_ON),
        bool(cfg.INPUT.APPLY_EXIF_ORIENTATION),
        keep_unreadable,
        keypoints.num_keypoints(cfg),
    )
    set_read_options(options)
    datasets = compute_on_main_process(lambda: _read_all(cfg, splits, options))
    for prepared in datasets:
        if prepared.function is not None:
            _register(prepared.function)
            cfg.DATASETS[prepared.split] = (prepared.name,)
        keep_dataset(prepared.name, prepared.dataset)
    return datasets


@dataclass(frozen=True)
class _Prepared:
    """A dataset that was read, and how it is registered if the config's keys name it."""

    split: str
    name: str
    dataset: DetectionDataset
    function: ConfiguredDataset | None


def _validate_use(cfg: CfgNode, prepared: _Prepared) -> None:
    """Check that a dataset can be trained on, or evaluated."""
    dataset = prepared.dataset
    if prepared.split == "TEST":
        validate_ground_truth(dataset)
    elif not dataset.annotated:
        raise DataError(f"{dataset.source} has no annotations, so nothing can be trained on it.")
    else:
        validate_training_masks(cfg, dataset)
    keypoints.validate_keypoints(cfg, prepared.name, dataset, prepared.split)


def _validate_equal_classes(prepared: _Prepared, first: _Prepared) -> None:
    if prepared.dataset.class_names != first.dataset.class_names:
        raise ConfigError(
            f"{prepared.name} has the classes {prepared.dataset.class_names}, but {first.name} has "
            f"{first.dataset.class_names}. All sets must have the same classes in the same order."
        )


def _read_all(cfg: CfgNode, splits: tuple[str, ...], options: ReadOptions) -> list[_Prepared]:
    """Read all datasets of some splits, each once."""
    prepared: list[_Prepared] = []
    for split in splits:
        annotations, images = cfg.DATASETS[f"{split}_ANNOTATIONS"], cfg.DATASETS[f"{split}_IMAGES"]
        if annotations:
            part = cfg.DATASETS[f"{split}_SPLIT"]
            source = DataSource(annotations, images, part, **vars(options))
            function = _configured(source, cfg.DATASETS.FORMAT)
            known = [x for x in prepared if x.name == function.name]
            if not known:
                _register(function)
            dataset = load_dataset(function.name)
            prepared.append(_Prepared(split, function.name, dataset, function))
            continue
        for name in cfg.DATASETS[split]:
            validate_available(name)
            name_classes(cfg, name, prepared[0].dataset.class_names if prepared else ())
            prepared.append(_Prepared(split, name, load_dataset(name), None))
    return prepared


def register_dataset(source: DataSource, format: str = "auto") -> str:
    """Read a dataset and register it in detectron2's catalogs.

    Args:
        source: what to read.
        format: see `tood.data.formats.read_dataset`.

    Returns:
        The name of the dataset. It is made of the paths, so another folder of images or another
        split is another dataset.

    Raises:
        DataError: a file or folder is missing or invalid.
    """
    function = _configured(source, format)
    _register(function)
    load_dataset(function.name)
    return function.name


def register_coco(json_file: str, image_root: str, for_evaluation: bool = False) -> str:
    """Read a COCO-format dataset and register it in detectron2's catalogs.

    Args:
        json_file: path of the annotation file.
        image_root: the folder that its file names are relative to.
        for_evaluation: whether it needs ground truth to evaluate against.

    Returns:
        The name of the dataset; see `register_dataset`.

    Raises:
        DataError: the file or the folder is missing or invalid.
    """
    name = register_dataset(DataSource(json_file, image_root), COCOFormat.name)
    if for_evaluation:
        validate_ground_truth(load_dataset(name))
    return name


def _configured(source: DataSource, format: str) -> ConfiguredDataset:
    """Name a dataset: readable, a safe file name, and different for another identity."""
    reader = find_format(source, format)
    path = Path(os.path.abspath(source.annotations))
    images = os.path.abspath(source.images) if source.images else ""
    identity = [reader.name, str(path), images, source.split if reader.has_splits else ""]
    words = [path.parent.name, path.stem, source.split if reader.has_splits else ""]
    readable = [re.sub(r"[^\w-]+", "-", word)[:40].strip("-") for word in words]
    key = hashlib.sha256("\0".join(identity).encode("utf-8", "backslashreplace")).hexdigest()[:8]
    return ConfiguredDataset("_".join([*filter(None, readable), key]), source, reader.name)


def _register(function: ConfiguredDataset) -> None:
    name = function.name
    if name in DatasetCatalog.list():  # a second time in one process, as in a notebook
        DatasetCatalog.remove(name)
    MetadataCatalog.pop(name, None)  # load_config may have put the class names of a model here
    DatasetCatalog.register(name, function)
    metadata = {"image_root": function.source.images, "evaluator_type": "coco"}
    if function.format == COCOFormat.name:
        metadata["json_file"] = function.source.annotations
    MetadataCatalog.get(name).set(**metadata)


def _validate_keys(cfg: CfgNode, splits: tuple[str, ...]) -> None:
    """Refuse data keys that contradict each other."""
    for split in splits:
        if cfg.DATASETS[f"{split}_IMAGES"] and not cfg.DATASETS[f"{split}_ANNOTATIONS"]:
            raise ConfigError(
                f"DATASETS.{split}_IMAGES is set without DATASETS.{split}_ANNOTATIONS. Set both."
            )
    if "TRAIN" in splits and cfg.DATASETS.TRAIN_ANNOTATIONS and not cfg.DATASETS.TEST_ANNOTATIONS:
        coco = [name for name in cfg.DATASETS.TEST if name.startswith("coco_")]
        if coco:
            raise ConfigError(
                "DATASETS.TRAIN_ANNOTATIONS is set without DATASETS.TEST_ANNOTATIONS, so "
                f"{coco[0]} would be evaluated instead. Set DATASETS.TEST_ANNOTATIONS and "
                "DATASETS.TEST_IMAGES, or set DATASETS.TEST '()' to train without evaluation."
            )
    keypoints.validate_keypoint_keys(cfg)


def validate_ground_truth(dataset: DetectionDataset) -> None:
    """Check that detections can be evaluated against a dataset.

    Images without known annotations, as of COCO's test-dev, are accepted: their results are
    written, and nothing is evaluated.

    Raises:
        DataError: there are no boxes, or all of them are crowds or lie outside of their images.
    """
    if not dataset.annotated or (~dataset.is_crowd & ~dataset.is_outside).any():
        return
    if (~dataset.is_crowd).any():
        raise DataError(
            f"All boxes of {dataset.source} lie outside of their images, so nothing can be "
            "evaluated on it. Correct the sizes of the images or the boxes."
        )
    if dataset.num_boxes:
        raise DataError(
            f"All {dataset.num_boxes} boxes of {dataset.source} are crowds (iscrowd), which are "
            "not evaluated. Set iscrowd to 0 for single objects."
        )
    changed = f" Changed: {dataset.changes.format()}." if dataset.changes.counts else ""
    raise DataError(
        f"{dataset.source} has no annotations, so nothing can be evaluated on it.{changed} Name a "
        "file with ground truth."
    )
