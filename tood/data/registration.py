"""Registers datasets in detectron2's catalogs and matches their classes with the model's."""

from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from ..errors import ConfigError, DataError
from .formats.coco import read_coco_json, sorted_categories, validate_evaluation_boxes


def setup_datasets(cfg: CfgNode, splits: tuple[str, ...] = ("TRAIN", "TEST")) -> None:
    """Prepare the datasets of a config.

    1. Register your own datasets: where ``DATASETS.{TRAIN,TEST}_ANNOTATIONS`` is set, it replaces
       ``DATASETS.{TRAIN,TEST}``.
    2. Check that the files of every dataset exist.
    3. Check that the classes match the model's, and fill in ``MODEL.TOOD.CLASS_NAMES`` and
       ``CATEGORY_IDS``.

    Args:
        cfg: changed in place, so it must not be frozen.
        splits: the splits to prepare; ``("TEST",)`` for evaluation alone.

    Raises:
        DataError: a dataset is missing or invalid.
        ConfigError: data keys contradict each other, or the classes are not the model's.
    """
    for split in splits:
        annotations, images = cfg.DATASETS[f"{split}_ANNOTATIONS"], cfg.DATASETS[f"{split}_IMAGES"]
        if annotations:
            cfg.DATASETS[split] = (register_coco(annotations, images, split == "TEST"),)
        elif images:
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
    for name in (name for split in splits for name in cfg.DATASETS[split]):
        validate_available(name)
        if cfg.MODEL.META_ARCHITECTURE == "TOOD":
            node = cfg.MODEL.TOOD
            node.CLASS_NAMES, node.CATEGORY_IDS = match_classes(node, name)


def register_coco(json_file: str, image_root: str, for_evaluation: bool = False) -> str:
    """Register a COCO-format dataset in detectron2's catalogs.

    Args:
        json_file: path of the annotation file.
        image_root: the folder that its file names are relative to.
        for_evaluation: whether the COCO evaluation will read it.

    Returns:
        The name of the dataset: the absolute path of the annotation file.

    Raises:
        DataError: the file or the folder is missing or invalid.
    """
    content = read_coco_json(json_file, for_evaluation)
    _validate_image_files(json_file, image_root, content["images"])
    if for_evaluation:
        validate_evaluation_boxes(json_file, content["annotations"])
    name = str(Path(json_file).resolve())
    classes, ids = sorted_categories(content)
    if name in DatasetCatalog.list():  # a second time in one process, as in a notebook
        DatasetCatalog.remove(name)
    MetadataCatalog.pop(name, None)  # load_config may have put the class names of a model here
    DatasetCatalog.register(name, lambda: load_coco_json(json_file, image_root, name))
    MetadataCatalog.get(name).set(
        json_file=json_file,
        image_root=image_root,
        evaluator_type="coco",
        thing_classes=classes,
        thing_dataset_id_to_contiguous_id={category: i for i, category in enumerate(ids)},
    )
    return name


def registered_categories(dataset_name: str) -> tuple[list[str], list[int]]:
    """Return the names and ids of a registered dataset's categories, by class index.

    Either is empty where the metadata of the dataset does not have it.
    """
    metadata = MetadataCatalog.get(dataset_name)
    indices: dict[int, int] = metadata.get("thing_dataset_id_to_contiguous_id") or {}
    ids = sorted(indices, key=lambda category: indices[category])
    return list(metadata.get("thing_classes") or []), ids


def match_classes(node: CfgNode, dataset_name: str) -> tuple[list[str], list[int]]:
    """Match the classes of a dataset with the model's.

    Args:
        node: ``cfg.MODEL.TOOD``; not changed.
        dataset_name: of a registered dataset.

    Returns:
        Class names and category ids by class index: the dataset's, or the config's where the
        dataset's metadata has none.

    Raises:
        ConfigError: the number or the names of the classes differ.
    """
    classes, ids = registered_categories(dataset_name)
    if not classes:
        return list(node.CLASS_NAMES), list(node.CATEGORY_IDS)
    if len(classes) != node.NUM_CLASSES:
        shown = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
        raise ConfigError(
            f"MODEL.TOOD.NUM_CLASSES is {node.NUM_CLASSES}, but {dataset_name} has {len(classes)} "
            f"classes ({shown}). To train on them, add MODEL.TOOD.NUM_CLASSES {len(classes)}"
        )
    if node.CLASS_NAMES and list(node.CLASS_NAMES) != classes:
        raise ConfigError(
            f"{dataset_name} has the classes {classes}, but MODEL.TOOD.CLASS_NAMES, from another "
            f"dataset or a saved config, is {list(node.CLASS_NAMES)}. Training and test sets must "
            "have the same classes in the same order. To discard the names of a saved config, add "
            'MODEL.TOOD.CLASS_NAMES "[]"'
        )
    return classes, ids or list(node.CATEGORY_IDS)


def class_info(cfg: CfgNode) -> tuple[list[str], list[int]]:
    """Return the names of the classes and their ids in COCO-format files, by class index.

    They are taken from ``MODEL.TOOD.CLASS_NAMES`` and ``CATEGORY_IDS``, which training fills in;
    else from ``DATASETS.TEST_ANNOTATIONS``; else from the first dataset of ``DATASETS.TEST``. If
    none of these has one name per class, names are "class 0", "class 1", ... and ids start at 1.

    Raises:
        ConfigError: the config's own names or ids are not one per class, or an id occurs twice.
        DataError: ``DATASETS.TEST_ANNOTATIONS`` is not a COCO-format file.
    """
    node = cfg.MODEL.TOOD
    names, ids = [str(name) for name in node.CLASS_NAMES], list(node.CATEGORY_IDS)
    for key, values in (("CLASS_NAMES", names), ("CATEGORY_IDS", ids)):
        if values and len(values) != node.NUM_CLASSES:
            raise ConfigError(
                f"MODEL.TOOD.{key} has {len(values)} entries, but MODEL.TOOD.NUM_CLASSES is "
                f'{node.NUM_CLASSES}. Give one per class, or set MODEL.TOOD.{key} "[]".'
            )
    if len(set(ids)) != len(ids):
        raise ConfigError(f"MODEL.TOOD.CATEGORY_IDS {ids} has an id twice. Give one per class.")
    if not names or not ids:
        test_names, test_ids = _test_categories(cfg)
        if len(test_names) == node.NUM_CLASSES and names in ([], test_names):
            names, ids = test_names, ids or test_ids
    if not names:
        names = [f"class {i}" for i in range(node.NUM_CLASSES)]
    if len(ids) != node.NUM_CLASSES:
        ids = list(range(1, node.NUM_CLASSES + 1))
    return names, ids


def _test_categories(cfg: CfgNode) -> tuple[list[str], list[int]]:
    """Names and ids of the test set's categories; empty if it is not known."""
    if Path(cfg.DATASETS.TEST_ANNOTATIONS).is_file():
        return sorted_categories(read_coco_json(cfg.DATASETS.TEST_ANNOTATIONS))
    return registered_categories(cfg.DATASETS.TEST[0]) if cfg.DATASETS.TEST else ([], [])


def validate_available(dataset_name: str) -> None:
    """Check that a dataset is registered and that its files exist.

    Raises:
        DataError: something is missing; the message says what and where it should be.
    """
    if dataset_name not in DatasetCatalog.list():
        raise DataError(
            f"No dataset is registered as {dataset_name!r}. For your own data, set "
            "DATASETS.TRAIN_ANNOTATIONS, TRAIN_IMAGES, TEST_ANNOTATIONS and TEST_IMAGES."
        )
    metadata = MetadataCatalog.get(dataset_name)
    for key in ("json_file", "image_root"):
        path = metadata.get(key)
        if path and "://" not in path and not Path(path).exists():
            raise DataError(
                f"The dataset {dataset_name} needs {path}, which does not exist. Put it there, or "
                "set the environment variable DETECTRON2_DATASETS to the folder of the datasets."
            )


def _validate_image_files(json_file: str, image_root: str, images: list[dict[str, Any]]) -> None:
    if not image_root or not Path(image_root).is_dir():
        raise DataError(
            f"There is no image folder {image_root or '(not set)'} for {json_file}. Set "
            "DATASETS.TRAIN_IMAGES or DATASETS.TEST_IMAGES to the folder that the file names in it "
            "are relative to."
        )
    missing = [x["file_name"] for x in images if not (Path(image_root) / x["file_name"]).is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} images of {json_file} are not in the folder {image_root}, for example "
            f"{missing[0]}. Name the right folder, or remove them from the annotation file."
        )
