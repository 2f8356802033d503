"""COCO-format files."""

import json
import logging
from pathlib import Path
from typing import Any

from ...errors import DataError

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
