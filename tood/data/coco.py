"""COCO-format data: registering a user's own by the config, and looking it over before use."""

import json
import logging
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from ..errors import ConfigError, DataError

logger = logging.getLogger(__name__)

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


def _is_known(reference: Any, ids: set[int | str]) -> bool:
    """Whether an id is one of ``ids``, of the same type: "1" is not 1, and a list is none."""
    return isinstance(reference, (int, str)) and reference in ids


def registered_categories(name: str) -> tuple[list[str], list[int]]:
    """Names and ids of a registered dataset's categories by class index, as far as it tells."""
    metadata = MetadataCatalog.get(name)
    to_index = metadata.get("thing_dataset_id_to_contiguous_id") or {}
    return list(metadata.get("thing_classes") or []), sorted(to_index, key=to_index.get)


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
        if not all(isinstance(i, (int, str)) for i in ids) or len(set(ids)) != len(ids):
            raise DataError(f"{json_file}: the ids of its {part} must be unique numbers or texts")
    for image in content["images"]:
        sized = _is_number(image["height"]) and _is_number(image["width"])
        if not sized or not isinstance(image["file_name"], str):
            raise DataError(
                f"{json_file}: height and width must be numbers and file_name a text in "
                f"{str(image)[:100]}"
            )
    images = {image["id"] for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    for annotation in content["annotations"]:
        box = annotation["bbox"]
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            what = f"its bbox {box} is not [x, y, width, height], four numbers"
        elif not _is_known(annotation["image_id"], images):
            what = f"no image has the id {annotation['image_id']!r}"
        elif not _is_known(annotation["category_id"], categories):
            what = f"no category has the id {annotation['category_id']!r}"
        elif annotation.get("ignore", 0):
            what = "it has 'ignore', which detectron2 does not know: take it out"
        else:
            continue
        raise DataError(f"{json_file}: annotation {annotation['id']}: {what}")


def _check_evaluation_boxes(json_file: str, annotations: list[dict]) -> None:
    """Raise where there is nothing to evaluate against; count boxes that nothing can match."""
    if not annotations:
        raise DataError(f"{json_file} has no annotation at all, so nothing can be evaluated on it")
    flat = [a for a in annotations if not (a["bbox"][2] > 0 and a["bbox"][3] > 0)]
    if flat:
        logger.warning(
            "%s has %d boxes without area, for example annotation %s: no detection can match them, "
            "and they count as missed.",
            json_file,
            len(flat),
            flat[0]["id"],
        )


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
