"""Matches the classes of datasets with a model's."""

import logging
import os
import re
from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ..config.architecture import has_roi_heads, has_tood
from ..errors import ConfigError
from .catalog import load_dataset, registered_categories
from .dataset import FileId
from .formats import DataSource, find_format, read_dataset
from .formats.coco import COCOFormat, read_classes

logger = logging.getLogger(__name__)

# MODEL.TOOD.NUM_CLASSES where nobody has set it: the number then comes from the data.
_DEFAULT_NUM_CLASSES = 80


def name_classes(cfg: CfgNode, name: str, known: Sequence[str] = ()) -> None:
    """Name the classes of a dataset that does not say how many it has.

    Args:
        cfg: the names are those of the model, if it has names or a number of classes.
        name: of a registered dataset.
        known: names of the classes of a dataset that is used with it.
    """
    node, metadata = cfg.MODEL.TOOD, MetadataCatalog.get(name)
    if not has_tood(cfg) or metadata.get("thing_classes"):
        return
    names = [str(text) for text in node.CLASS_NAMES or known]
    if not names and node.NUM_CLASSES != _DEFAULT_NUM_CLASSES:
        names = [f"class {index}" for index in range(node.NUM_CLASSES)]
    if names:
        metadata.thing_classes = names


def set_classes(cfg: CfgNode, name: str) -> None:
    """Fill in the classes of ``cfg.MODEL.TOOD`` from a dataset, or check that they match.

    Args:
        cfg: changed in place; also ``MODEL.ROI_HEADS.NUM_CLASSES``, if it is still the default.
        name: of a registered dataset.
    """
    node, roi_heads = cfg.MODEL.TOOD, cfg.MODEL.ROI_HEADS
    count = len(load_dataset(name).class_names)
    default = node.NUM_CLASSES == _DEFAULT_NUM_CLASSES and not node.CLASS_NAMES
    if default and count != node.NUM_CLASSES:
        logger.info("MODEL.TOOD.NUM_CLASSES is %d, the number of classes of %s.", count, name)
        node.NUM_CLASSES = count
    node.CLASS_NAMES, node.CATEGORY_IDS = match_classes(node, name)
    if has_roi_heads(cfg) and roi_heads.NUM_CLASSES == _DEFAULT_NUM_CLASSES:
        roi_heads.NUM_CLASSES = node.NUM_CLASSES


def compare_class_names(expected: list[str], dataset_names: list[str]) -> None:
    """Compare the class names of a model with a dataset's, both by class index.

    Upper case, blanks, underscores and hyphens make no difference. Other names of the same number
    of classes may be a translation, so they are warned about only.

    Raises:
        ConfigError: the names are the same in another order, so that the AP would be near 0.
    """
    plain = [[_plain(name) for name in names] for names in (expected, dataset_names)]
    if plain[0] == plain[1]:
        return
    index = next(
        (i for i, (x, y) in enumerate(zip(*plain, strict=False)) if x != y), min(map(len, plain))
    )
    first = [names[index] if index < len(names) else "none" for names in (expected, dataset_names)]
    if sorted(plain[0]) == sorted(plain[1]):
        raise ConfigError(
            f"The model and the dataset have the same classes in another order: class {index} is "
            f"{first[0]!r} for the model and {first[1]!r} in the dataset. Order the categories of "
            "the dataset by their ids as the model has them."
        )
    logger.warning(
        "The class names of the model and the dataset differ: class %d is %r for the model and %r "
        "in the dataset. Classes are matched by their position.",
        index,
        *first,
    )


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", str(name)).strip().casefold()


def match_classes(node: CfgNode, dataset_name: str) -> tuple[list[str], list[FileId]]:
    """Match the classes of a dataset with the model's.

    Args:
        node: ``cfg.MODEL.TOOD``; not changed.
        dataset_name: of a registered dataset.

    Returns:
        Class names and category ids of the dataset by class index.

    Raises:
        ConfigError: the number or the names of the classes differ.
    """
    dataset = load_dataset(dataset_name)
    classes = dataset.class_names
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
    return list(classes), list(dataset.category_ids)


def class_info(cfg: CfgNode) -> tuple[list[str], list[FileId]]:
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


def _test_categories(cfg: CfgNode) -> tuple[list[str], list[FileId]]:
    """Names and ids of the test set's categories; empty if it is not known."""
    annotations = cfg.DATASETS.TEST_ANNOTATIONS
    if annotations and os.path.exists(annotations):
        source = DataSource(annotations, cfg.DATASETS.TEST_IMAGES, cfg.DATASETS.TEST_SPLIT)
        if find_format(source, cfg.DATASETS.FORMAT) is COCOFormat:
            return read_classes(annotations)
        dataset = read_dataset(source, cfg.DATASETS.FORMAT)
        return dataset.class_names, dataset.category_ids
    return registered_categories(cfg.DATASETS.TEST[0]) if cfg.DATASETS.TEST else ([], [])
