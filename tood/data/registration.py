"""Registering datasets and matching their classes with the model's."""

import logging
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from ..errors import ConfigError, DataError
from .formats.coco import (
    _check_evaluation_boxes,
    read_coco_json,
    sorted_categories,
)


def class_info(cfg: CfgNode) -> tuple[list[str], list[int]]:
    """Names of the classes, and their ids in COCO-format files, by class index.

    From the config, where training has noted them; else from its test set, a named JSON or
    a registered one; else the names are numbers, and the ids begin at 1.
    """
    node = cfg.MODEL.TOOD
    names, ids = list(node.CLASS_NAMES), list(node.CATEGORY_IDS)
    if not names and Path(cfg.DATASETS.TEST_ANNOTATIONS).is_file():
        names, ids = sorted_categories(read_coco_json(cfg.DATASETS.TEST_ANNOTATIONS))
    elif not names and cfg.DATASETS.TEST:
        names, ids = registered_categories(cfg.DATASETS.TEST[0])
    if len(names) != node.NUM_CLASSES:
        names = [f"class {i}" for i in range(node.NUM_CLASSES)]
    if len(ids) != node.NUM_CLASSES:
        ids = list(range(1, node.NUM_CLASSES + 1))
    return names, ids


logger = logging.getLogger(__name__)


def registered_categories(name: str) -> tuple[list[str], list[int]]:
    """Names and ids of a registered dataset's categories by class index, as far as it tells."""
    metadata = MetadataCatalog.get(name)
    to_index = metadata.get("thing_dataset_id_to_contiguous_id") or {}
    return list(metadata.get("thing_classes") or []), sorted(to_index, key=to_index.get)


def register_coco(json_file: str, image_root: str, for_evaluation: bool = False) -> str:
    """Register a COCO-format dataset in detectron2's catalogs.

    Args:
        json_file: path of the annotations.
        image_root: the folder that their file names are relative to.
        for_evaluation: whether the COCO evaluation will read it.

    Returns:
        The dataset's name, which is the path of the JSON.

    Raises:
        DataError: the JSON or the folder is missing or not what it should be.
    """
    content = read_coco_json(json_file, for_evaluation)
    if not image_root or not Path(image_root).is_dir():
        raise DataError(
            f"there is no image folder {image_root or '(none named)'} for {json_file}: set "
            "DATASETS.TRAIN_IMAGES or DATASETS.TEST_IMAGES to the folder that its file names are "
            "relative to"
        )
    names = (image["file_name"] for image in content["images"])
    missing = [name for name in names if not (Path(image_root) / name).is_file()]
    if missing:
        raise DataError(
            f"{json_file} names {len(missing)} images that are not in the folder {image_root}, for "
            f"example {missing[0]}: name the right folder, or take them out of the JSON"
        )
    if for_evaluation:
        _check_evaluation_boxes(json_file, content["annotations"])
    name = str(Path(json_file).resolve())
    classes, ids = sorted_categories(content)
    if name in DatasetCatalog.list():
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    DatasetCatalog.register(name, lambda: load_coco_json(json_file, image_root, name))
    MetadataCatalog.get(name).set(
        json_file=json_file,
        image_root=image_root,
        evaluator_type="coco",
        thing_classes=classes,
        thing_dataset_id_to_contiguous_id={category: i for i, category in enumerate(ids)},
    )
    return name


def setup_datasets(cfg: CfgNode, splits: tuple[str, ...] = ("TRAIN", "TEST")) -> None:
    """Make a config's datasets ready: register the user's own, check classes, fill in names.

    Sets ``DATASETS.TRAIN`` and ``TEST`` where a JSON is named, and ``MODEL.TOOD.CLASS_NAMES`` and
    ``CATEGORY_IDS`` where they are empty.

    Args:
        cfg: changed in place; not frozen.
        splits: those that will be used; ``("TEST",)`` for evaluation alone.

    Raises:
        DataError: a dataset is missing or not what it should be.
        ConfigError: the number of classes is not that of the dataset.
    """
    for split in splits:
        json_file, images = cfg.DATASETS[f"{split}_ANNOTATIONS"], cfg.DATASETS[f"{split}_IMAGES"]
        if json_file:
            cfg.DATASETS[split] = (register_coco(json_file, images, split == "TEST"),)
        elif images:
            raise ConfigError(
                f"DATASETS.{split}_IMAGES is given without DATASETS.{split}_ANNOTATIONS, the annotations"
            )
    if "TRAIN" in splits and cfg.DATASETS.TRAIN_ANNOTATIONS and not cfg.DATASETS.TEST_ANNOTATIONS:
        untouched = [name for name in cfg.DATASETS.TEST if name.startswith("coco_")]
        if untouched:
            raise ConfigError(
                f"DATASETS.TRAIN_ANNOTATIONS is given without TEST_ANNOTATIONS, and {untouched[0]} is no test "
                "of it: add DATASETS.TEST_ANNOTATIONS and TEST_IMAGES, or DATASETS.TEST '()' to "
                "train without evaluation"
            )
    for name in (name for split in splits for name in cfg.DATASETS[split]):
        check_available(name)
        if cfg.MODEL.META_ARCHITECTURE == "TOOD":
            _check_classes(cfg.MODEL.TOOD, name)


def _check_classes(node: CfgNode, name: str) -> None:
    """Raise a ConfigError where a dataset's classes are not the model's; note their names."""
    classes, ids = registered_categories(name)
    if not classes:  # a dataset that does not tell
        return
    if len(classes) != node.NUM_CLASSES:
        shown = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
        raise ConfigError(
            f"MODEL.TOOD.NUM_CLASSES is {node.NUM_CLASSES}, and {name} has {len(classes)} classes "
            f"({shown}): add MODEL.TOOD.NUM_CLASSES {len(classes)}"
        )
    if node.CLASS_NAMES and list(node.CLASS_NAMES) != classes:
        raise ConfigError(
            f"{name} has the classes {classes}, and MODEL.TOOD.CLASS_NAMES, from another dataset "
            f"or a saved config, is {list(node.CLASS_NAMES)}. Training and test set must have the "
            "same classes in the same order; to leave a saved config's behind, add "
            'MODEL.TOOD.CLASS_NAMES "[]"'
        )
    node.CLASS_NAMES = classes
    if ids:
        node.CATEGORY_IDS = ids


def check_available(name: str) -> None:
    """Raise a DataError that names what is missing of a dataset, and where it should be.

    Args:
        name: of a dataset in detectron2's catalog.
    """
    if name not in DatasetCatalog.list():
        raise DataError(
            f"no dataset is registered as {name!r}: for data of your own set DATASETS.TRAIN_ANNOTATIONS, "
            "TRAIN_IMAGES, TEST_ANNOTATIONS and TEST_IMAGES"
        )
    metadata = MetadataCatalog.get(name)
    for what in ("json_file", "image_root"):
        path = metadata.get(what)
        if path and "://" not in path and not Path(path).exists():
            raise DataError(
                f"the dataset {name} needs {path}, which does not exist: put it there, or set the "
                "environment variable DETECTRON2_DATASETS to the folder that holds the datasets"
            )
