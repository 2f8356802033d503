"""COCO-format data: registering a user's own by the config, and looking it over before use."""

import json
import logging
import math
from collections import Counter
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from detectron2.structures import BoxMode

from ..errors import ConfigError, DataError

logger = logging.getLogger(__name__)

# The reference's training leaves out boxes with a side below 1 pixel, and images with one below 32.
MIN_BOX_SIDE = 1.0
MIN_IMAGE_SIDE = 32

_FIELDS = {
    "images": ("id", "file_name", "height", "width"),
    "annotations": ("id", "image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}


# What the COCO evaluation reads besides.
_EVALUATION_FIELDS = ("area", "iscrowd")


def read_coco_json(json_file: str, for_evaluation: bool = False) -> dict[str, list[dict]]:
    """Read a COCO-format JSON and check its form.

    Args:
        json_file: path of the file.
        for_evaluation: whether annotations need what the COCO evaluation reads.

    Raises:
        DataError: it is missing, no JSON, or lacks what a detection dataset needs.
    """
    path = Path(json_file)
    if not path.is_file():
        raise DataError(f"there is no annotation file {json_file}: check the path")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{json_file} is not a JSON file: {error}") from error
    for part, fields in _FIELDS.items():
        if for_evaluation and part == "annotations":
            fields += _EVALUATION_FIELDS
        entries = content.get(part) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise DataError(
                f"{json_file} is no COCO-format detection file: it has no list {part!r} (needed "
                f"are {', '.join(_FIELDS)}; a result file has none of them)"
            )
        for entry in entries:
            lacking = [x for x in fields if x not in entry] if isinstance(entry, dict) else fields
            if lacking:
                raise DataError(
                    f"{json_file}: an entry of {part!r} lacks {', '.join(lacking)}: add that "
                    f"to {str(entry)[:100]}"
                )
    _check_references(json_file, content)
    return content


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def sorted_categories(content: dict[str, list[dict]]) -> tuple[list[str], list[int]]:
    """Names and ids of a COCO-format file's categories, in the order of the class indices."""
    categories = sorted(content["categories"], key=lambda category: category["id"])
    return [c["name"] for c in categories], [c["id"] for c in categories]


def _check_references(json_file: str, content: dict[str, list[dict]]) -> None:
    """Raise where annotations name images or categories that do not exist, or have no box."""
    if not content["images"] or not content["categories"]:
        raise DataError(f"{json_file} has no images or no categories")
    for part in _FIELDS:
        ids = [entry["id"] for entry in content[part]]
        if len(set(ids)) != len(ids):
            raise DataError(f"{json_file}: the ids of its {part} are not unique")
    for image in content["images"]:
        if not _is_number(image["height"]) or not _is_number(image["width"]):
            raise DataError(f"{json_file}: height and width must be numbers in {str(image)[:100]}")
    images = {image["id"] for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    for annotation in content["annotations"]:
        box = annotation["bbox"]
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            what = f"its bbox {box} is not [x, y, width, height], four numbers"
        elif annotation["image_id"] not in images:
            what = f"no image has the id {annotation['image_id']}"
        elif annotation["category_id"] not in categories:
            what = f"no category has the id {annotation['category_id']}"
        else:
            continue
        raise DataError(f"{json_file}: annotation {annotation['id']}: {what}")


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
        json_file, images = cfg.DATASETS[f"{split}_JSON"], cfg.DATASETS[f"{split}_IMAGES"]
        if json_file:
            cfg.DATASETS[split] = (register_coco(json_file, images, split == "TEST"),)
        elif images:
            raise ConfigError(
                f"DATASETS.{split}_IMAGES is given without DATASETS.{split}_JSON, the annotations"
            )
    if "TRAIN" in splits and cfg.DATASETS.TRAIN_JSON and not cfg.DATASETS.TEST_JSON:
        untouched = [name for name in cfg.DATASETS.TEST if name.startswith("coco_")]
        if untouched:
            raise ConfigError(
                f"DATASETS.TRAIN_JSON is given without TEST_JSON, and {untouched[0]} is no test "
                "of it: add DATASETS.TEST_JSON and TEST_IMAGES, or DATASETS.TEST '()' to "
                "train without evaluation"
            )
    if cfg.MODEL.META_ARCHITECTURE == "TOOD":
        for name in (name for split in splits for name in cfg.DATASETS[split]):
            _check_classes(cfg.MODEL.TOOD, name)


def _check_classes(node: CfgNode, name: str) -> None:
    """Raise a ConfigError where a dataset's classes are not the model's; note their names."""
    metadata = MetadataCatalog.get(name) if name in DatasetCatalog.list() else None
    classes = list(metadata.get("thing_classes") or []) if metadata else []
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
    to_index = metadata.get("thing_dataset_id_to_contiguous_id")
    if to_index:
        node.CATEGORY_IDS = sorted(to_index, key=to_index.get)


def check_available(name: str) -> None:
    """Raise a DataError that names what is missing of a dataset, and where it should be.

    Args:
        name: of a dataset in detectron2's catalog.
    """
    if name not in DatasetCatalog.list():
        raise DataError(
            f"no dataset is registered as {name!r}: for data of your own set DATASETS.TRAIN_JSON, "
            "TRAIN_IMAGES, TEST_JSON and TEST_IMAGES"
        )
    metadata = MetadataCatalog.get(name)
    for what in ("json_file", "image_root"):
        path = metadata.get(what)
        if path and "://" not in path and not Path(path).exists():
            raise DataError(
                f"the dataset {name} needs {path}, which does not exist: put it there, or set the "
                "environment variable DETECTRON2_DATASETS to the folder that holds the datasets"
            )


def clean_training_dicts(dicts: list[dict[str, Any]], filter_empty: bool) -> list[dict[str, Any]]:
    """Leave out what cannot be learned from, and say how much that was.

    As the reference does: boxes with a side below 1 pixel (also negative or not a number) or wholly
    outside of the image, images with a side below 32 pixels, and images without ground truth.

    Args:
        dicts: detectron2's dataset dicts; not changed.
        filter_empty: leave out images without usable annotations.

    Raises:
        DataError: nothing is left to learn from.
    """
    dropped: Counter[str] = Counter()
    examples: dict[str, str] = {}
    kept = []
    for record in dicts:
        height, width = record.get("height", math.inf), record.get("width", math.inf)
        if min(height, width) < MIN_IMAGE_SIDE:
            dropped[f"images with a side below {MIN_IMAGE_SIDE} pixels"] += 1
            continue
        annotations = []
        for annotation in record.get("annotations", ()):
            reason = _unusable(annotation, height, width)
            if reason:
                dropped[reason] += 1
                examples.setdefault(reason, f"{annotation['bbox']} in {record['file_name']}")
            else:
                annotations.append(annotation)
        if filter_empty and all(annotation.get("iscrowd", 0) for annotation in annotations):
            dropped["images without ground truth"] += 1
            continue
        kept.append({**record, "annotations": annotations})
    for reason, count in dropped.items():
        level = logging.WARNING if reason in examples else logging.INFO
        example = f", for example {examples[reason]}" if reason in examples else ""
        logger.log(level, "Training leaves out %d %s%s.", count, reason, example)
    if not any(record["annotations"] for record in kept):
        raise DataError(
            f"the training set has {len(dicts)} images and not one usable annotation"
            + "".join(f"; left out: {count} {reason}" for reason, count in dropped.items())
        )
    return kept


def _unusable(annotation: dict[str, Any], height: float, width: float) -> str:
    """Why a box cannot be learned from; empty if it can."""
    box = [float(value) for value in annotation["bbox"]]
    x1, y1, x2, y2 = BoxMode.convert(box, annotation["bbox_mode"], BoxMode.XYXY_ABS)
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        return "boxes that are not numbers"
    if x2 - x1 < MIN_BOX_SIDE or y2 - y1 < MIN_BOX_SIDE:
        return f"boxes with a side below {MIN_BOX_SIDE:g} pixel"
    if min(x2, width) <= max(x1, 0) or min(y2, height) <= max(y1, 0):
        return "boxes wholly outside of their image"
    return ""
