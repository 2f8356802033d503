"""The parsed content of a COCO file, and access to its lists with errors that name the entry."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import DataError
from .coco_annotations import COLLECTED, MISSING, AnnotationCollector
from .ids import IdTable
from .json_file import load_text, parse, printable

_PARTS = "images, annotations and categories"


@dataclass(frozen=True)
class COCOFile:
    """A parsed file.

    Attributes:
        shown: the path, for messages.
        content: the object in the file, without its annotations.
        rows: the annotations.
    """

    shown: str
    content: dict[str, Any]
    rows: AnnotationCollector

    @property
    def has_annotations(self) -> bool:
        """Whether there is a list of annotations. COCO's test-dev has none."""
        return "annotations" in self.content

    def entries(self, part: str) -> list[dict[str, Any]]:
        """Return the list "images" or "categories".

        Raises:
            DataError: it is missing, empty, or has other entries than objects.
        """
        entries = self.content.get(part)
        if not isinstance(entries, list):
            raise DataError(
                f"{self.shown} is not a COCO-format dataset: it has no list {part!r}. It needs "
                f"{_PARTS}; result files have none of them."
            )
        for position, entry in enumerate(entries):
            if not isinstance(entry, dict):
                raise DataError(
                    f"{self.shown}: {part}[{position}] is {printable(entry)}, not an object with "
                    "an id."
                )
        if not entries:
            raise DataError(
                f"{self.shown} has no {part}. A dataset needs at least one entry there."
            )
        return entries

    def values(self, part: str, key: str) -> list[Any]:
        """Return a field of all entries of a list.

        Raises:
            DataError: an entry does not have it.
        """
        entries = self.entries(part)
        for position, entry in enumerate(entries):
            if key not in entry:
                raise DataError(
                    f"{self.shown}: {part}[{position}] lacks {key}. Add it to {printable(entry)}"
                )
        return [entry[key] for entry in entries]

    def resolve(
        self, key: str, table: IdTable, used: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Return the positions that the annotations' references mean.

        Args:
            key: "image_id" or "category_id".
            table: the ids that there are.
            used: rows of the annotations that are used.

        Returns:
            (M,) by row; -1 for those that are not used and mean none.

        Raises:
            DataError: a reference means none.
        """
        rows = self.rows
        values = rows.image_ids if key == "image_id" else rows.category_ids
        # Few different numbers stand for many references.
        numbers, where = np.unique(np.frombuffer(values.numbers, np.int64), return_inverse=True)
        found = np.array([table.find(int(x)) for x in numbers], np.float64)[where]  # NaN for None
        for row, value in values.others.items():
            position = table.find(value)
            found[row] = np.nan if position is None else position
        unknown = used[np.isnan(found[used])]
        if len(unknown):
            row = int(unknown[0])
            value = values[row]
            problem = f"it lacks {key}" if value is MISSING else table.explain(value)
            raise DataError(
                f"{self.shown}: {rows.describe(row)}: {problem}. Correct or remove the annotation."
            )
        return np.nan_to_num(found, nan=-1).astype(np.int64)


def parse_coco(json_file: str, with_masks: bool = False, num_keypoints: int = 0) -> COCOFile:
    """Parse a file, in one pass that collects its annotations.

    Args:
        json_file: path of the file.
        with_masks: keep the segmentations.
        num_keypoints: number of keypoints to keep of each object; 0 keeps none.

    Raises:
        DataError: it cannot be read, or has another structure.
    """
    text = load_text(json_file)
    shown = printable(json_file, 300)
    rows = AnnotationCollector(with_masks, num_keypoints)
    content = parse(json_file, text, rows)
    entries = content.get("annotations") if isinstance(content, dict) else None
    collected = entries.count(COLLECTED) if isinstance(entries, list) else 0
    if collected != len(rows) or (isinstance(entries, list) and collected != len(entries)):
        # Something else looks like an annotation, or an annotation does not. Go by where they are
        # instead, which takes more memory.
        content = parse(json_file, text)
        rows = AnnotationCollector(with_masks, num_keypoints)
        if isinstance(content, dict):
            _add_annotations(shown, content.get("annotations"), rows)
    if not isinstance(content, dict):
        raise DataError(
            f"{shown} is not a COCO-format dataset: it has no list 'images'. It needs an object "
            f"with {_PARTS}; a list of detections has none of them."
        )
    if "annotations" in content:
        if not isinstance(content["annotations"], list):
            raise DataError(
                f"{shown} is not a COCO-format dataset: its 'annotations' are not a list, but "
                f"{printable(content['annotations'])}."
            )
        content["annotations"] = []
    return COCOFile(shown, content, rows)


def _add_annotations(shown: str, entries: Any, rows: AnnotationCollector) -> None:
    for position, entry in enumerate(entries if isinstance(entries, list) else ()):
        if not isinstance(entry, dict):
            raise DataError(
                f"{shown}: annotations[{position}] is {printable(entry)}, not an object with "
                "image_id, category_id and bbox."
            )
        rows.add(entry)
