"""Reads and validates annotation files in COCO format."""

import json
import logging
from pathlib import Path
from typing import Any

from ...errors import DataError

logger = logging.getLogger(__name__)

# The fields that a detection dataset needs in each of its lists.
_FIELDS = {
    "images": ("id", "file_name", "height", "width"),
    "annotations": ("id", "image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}
# Fields of an annotation that only the COCO evaluation reads.
_EVALUATION_FIELDS = ("area", "iscrowd")


def read_coco_json(json_file: str, for_evaluation: bool = False) -> dict[str, list[dict[str, Any]]]:
    """Read and validate a COCO-format annotation file.

    Args:
        json_file: path of the file.
        for_evaluation: require the fields that the COCO evaluation reads.

    Returns:
        The content: lists "images", "annotations" and "categories".

    Raises:
        DataError: the file is missing, is not JSON, or lacks what a detection dataset needs.
    """
    path = Path(json_file)
    if not path.is_file():
        raise DataError(f"There is no annotation file {json_file}. Check the path.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{json_file} is not a JSON file ({error}). Name an annotation file in COCO format."
        ) from error
    for part, fields in _FIELDS.items():
        if for_evaluation and part == "annotations":
            fields += _EVALUATION_FIELDS
        entries = content.get(part) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise DataError(
                f"{json_file} is not a COCO-format dataset: it has no list {part!r}. It needs "
                f"{', '.join(_FIELDS)}; result files have none of them."
            )
        _validate_fields(json_file, part, entries, fields)
    _validate_ids(json_file, content)
    _validate_images(json_file, content["images"])
    _validate_annotations(json_file, content)
    return content


def sorted_categories(content: dict[str, list[dict[str, Any]]]) -> tuple[list[str], list[int]]:
    """Return the names and ids of the categories, in the order of the class indices."""
    categories = sorted(content["categories"], key=lambda category: category["id"])
    return [c["name"] for c in categories], [c["id"] for c in categories]


def validate_evaluation_boxes(json_file: str, annotations: list[dict[str, Any]]) -> None:
    """Validate the ground truth of a test set; warn about boxes that no detection can match.

    Args:
        json_file: path of the file, for messages.
        annotations: its annotations.

    Raises:
        DataError: there is no annotation.
    """
    if not annotations:
        raise DataError(
            f"{json_file} has no annotations, so nothing can be evaluated on it. Name a file "
            "with ground truth."
        )
    flat = [a for a in annotations if not (a["bbox"][2] > 0 and a["bbox"][3] > 0)]
    if flat:
        logger.warning(
            "%s has boxes without area: %d, for example annotation %s. No detection can match "
            "them, so they count as missed.",
            json_file,
            len(flat),
            flat[0]["id"],
        )


def _validate_fields(
    json_file: str, part: str, entries: list[Any], fields: tuple[str, ...]
) -> None:
    for entry in entries:
        missing = [x for x in fields if x not in entry] if isinstance(entry, dict) else fields
        if missing:
            raise DataError(
                f"{json_file}: an entry of {part!r} lacks {', '.join(missing)}. Add them to "
                f"{str(entry)[:100]}"
            )


def _validate_ids(json_file: str, content: dict[str, list[dict[str, Any]]]) -> None:
    for part in ("images", "categories"):
        if not content[part]:
            raise DataError(f"{json_file} has no {part}. A dataset needs at least one entry there.")
    for part in _FIELDS:
        ids = [entry["id"] for entry in content[part]]
        if not all(isinstance(i, (int, str)) for i in ids) or len(set(ids)) != len(ids):
            raise DataError(
                f"{json_file}: the ids of its {part} must be unique integers or strings."
            )


def _validate_images(json_file: str, images: list[dict[str, Any]]) -> None:
    for image in images:
        sized = _is_number(image["height"]) and _is_number(image["width"])
        if not sized or not isinstance(image["file_name"], str):
            raise DataError(
                f"{json_file}: height and width must be numbers and file_name a string in "
                f"{str(image)[:100]}"
            )


def _validate_annotations(json_file: str, content: dict[str, list[dict[str, Any]]]) -> None:
    """Validate boxes, and that every image and category that is referred to exists."""
    images = {image["id"] for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    for annotation in content["annotations"]:
        box = annotation["bbox"]
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            problem = f"its bbox {box} must be [x, y, width, height], four numbers"
        elif not _is_known(annotation["image_id"], images):
            problem = f"no image has the id {annotation['image_id']!r}"
        elif not _is_known(annotation["category_id"], categories):
            problem = f"no category has the id {annotation['category_id']!r}"
        elif annotation.get("ignore", 0):
            problem = "detectron2 does not support the field 'ignore'. Remove the field"
        else:
            continue
        raise DataError(f"{json_file}: annotation {annotation['id']}: {problem}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_known(reference: Any, ids: set[int | str]) -> bool:
    """Whether ``reference`` is one of ``ids``, type included: "1" is not 1, a list never is."""
    return isinstance(reference, (int, str)) and reference in ids
