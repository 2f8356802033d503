"""Reads detections from a file in COCO's result format."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..config.validation.rules import is_number
from ..data.dataset import DetectionDataset
from ..data.formats.json_file import printable
from ..errors import DataError


@dataclass(frozen=True)
class DetectionRows:
    """Detections of a dataset: D rows, sorted by image, and by falling score within an image.

    Attributes:
        image_index: (D,) int64, the position of the image in the dataset.
        class_ids: (D,) int64 class indices.
        scores: (D,) float64.
        boxes: (D, 4) float64, [x, y, width, height] in pixels.
    """

    image_index: npt.NDArray[np.int64]
    class_ids: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    boxes: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, rows: npt.NDArray[Any] | slice) -> "DetectionRows":
        """Return some of the detections, by a mask or in the order of indices."""
        return DetectionRows(
            self.image_index[rows], self.class_ids[rows], self.scores[rows], self.boxes[rows]
        )

    def limited(self, limit: int) -> "DetectionRows":
        """Return the best ``limit`` detections of each image and class, as COCO counts them.

        Args:
            limit: at least 1; negative for all.
        """
        if limit < 0 or not len(self):
            return self
        # Stable: equal scores stay in their order.
        order = np.lexsort((self.class_ids, self.image_index))
        images, classes = self.image_index[order], self.class_ids[order]
        is_first = np.ones(len(order), bool)
        is_first[1:] = (images[1:] != images[:-1]) | (classes[1:] != classes[:-1])
        starts = np.flatnonzero(is_first)
        rank = np.arange(len(order)) - np.repeat(starts, np.diff([*starts, len(order)]))
        return self.select(np.sort(order[rank < limit]))

    def offsets(self, num_images: int) -> npt.NDArray[np.int64]:
        """(N + 1,): the detections of image i are rows ``offsets[i]:offsets[i + 1]``."""
        return np.searchsorted(self.image_index, np.arange(num_images + 1)).astype(np.int64)

    def to_coco(self) -> list[dict[str, Any]]:
        """Return entries with the ids of ``DetectionDataset.to_coco``."""
        columns = (self.image_index, self.class_ids, self.scores, self.boxes)
        return [
            {"image_id": image + 1, "category_id": label + 1, "score": score, "bbox": box}
            for image, label, score, box in zip(*(x.tolist() for x in columns), strict=True)
        ]


def make_rows(
    image_index: npt.ArrayLike,
    class_ids: npt.ArrayLike,
    scores: npt.ArrayLike,
    boxes: npt.ArrayLike,
) -> DetectionRows:
    """Sort detections by image and falling score; equal scores stay in their order."""
    rows = DetectionRows(
        np.asarray(image_index, np.int64),
        np.asarray(class_ids, np.int64),
        np.asarray(scores, np.float64),
        np.asarray(boxes, np.float64).reshape(-1, 4),
    )
    return rows.select(np.lexsort((-rows.scores, rows.image_index)))


def read_detections(
    path: str | os.PathLike[str], dataset: DetectionDataset, max_bytes: int | None = None
) -> DetectionRows:
    """Read a file such as ``coco_instances_results.json``.

    Args:
        path: a list of entries with "image_id", "category_id", "bbox" ([x, y, width, height]) and
            "score", with the ids of the dataset's file. They may have more, such as masks.
        dataset: what the detections are of.
        max_bytes: of the file; None for no limit.

    Raises:
        DataError: the file is missing or too large, or an entry does not fit the dataset.
    """
    shown = printable(os.fspath(path), 300)
    try:
        if max_bytes is not None and os.path.getsize(path) > max_bytes:
            raise DataError(
                f"{shown} is larger than {max_bytes >> 20} MiB. If there is memory enough, about "
                "30 times as much, make the report with tood report."
            )
        with open(path, encoding="utf-8") as file:
            entries = json.load(file)
    except OSError as error:
        raise DataError(f"The detections {shown} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"The detections {shown} are no JSON file: {error}.") from error
    if not isinstance(entries, list):
        raise DataError(
            f"{shown} is not in COCO's result format: a list of entries with image_id, "
            "category_id, bbox and score."
        )
    return _read_entries(entries, shown, dataset)


def _read_entries(entries: list[Any], shown: str, dataset: DetectionDataset) -> DetectionRows:
    if not entries:
        return make_rows([], [], [], [])
    try:
        columns = [[entry[key] for entry in entries] for key in ("image_id", "category_id")]
        scores = np.array([entry["score"] for entry in entries], np.float64)
        boxes = np.array([entry["bbox"] for entry in entries], np.float64)
        if scores.ndim != 1 or boxes.shape != (len(entries), 4):
            raise ValueError
        positions = [
            _positions(column, ids)
            for column, ids in zip(columns, (dataset.image_ids, dataset.category_ids), strict=True)
        ]
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        raise DataError(_first_fault(entries, shown)) from None
    finite = np.isfinite(scores) & np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] >= 0).all(axis=1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        raise DataError(
            f"{shown}, entry {row}: score and bbox must be finite, and width and height not "
            f"negative, but they are {printable(entries[row]['score'])} and "
            f"{printable(entries[row]['bbox'])}."
        )
    for key, known, found in zip(("image_id", "category_id"), positions, columns, strict=True):
        unknown = np.flatnonzero(known < 0)
        if len(unknown):
            raise DataError(
                f"{shown}: {len(unknown)} detections have a {key} that {dataset.source} does not "
                f"have, for example {printable(found[unknown[0]])} in entry {unknown[0]}. Name the "
                "annotations that belong to these detections."
            )
    return make_rows(positions[0], positions[1], scores, boxes)


def _positions(values: Sequence[Any], ids: Sequence[Any]) -> npt.NDArray[np.int64]:
    """The position of each id; -1 for unknown ones. Other programs may turn ids into text."""
    table: dict[Any, int] = {str(known): position for position, known in enumerate(ids)}
    table.update((known, position) for position, known in enumerate(ids))
    return np.fromiter((table.get(value, -1) for value in values), np.int64, len(values))


def _first_fault(entries: list[Any], shown: str) -> str:
    """Name the first entry that is not in COCO's result format."""
    for row, entry in enumerate(entries):
        if not isinstance(entry, dict):
            return f"{shown}, entry {row}: {printable(entry)} is no detection."
        for key in ("image_id", "category_id"):
            if not isinstance(entry.get(key), (int, str)):
                return f"{shown}, entry {row}: {key} is {printable(entry.get(key))}, not an id."
        if not is_number(entry.get("score")):
            return f"{shown}, entry {row}: score is {printable(entry.get('score'))}, not a number."
        box = entry.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
            return (
                f"{shown}, entry {row}: bbox is {printable(box)}, not [x, y, width, height] in "
                "pixels."
            )
    return f"{shown} is not in COCO's result format."
