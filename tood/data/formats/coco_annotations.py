"""Collects the annotations of a COCO file in arrays while the file is parsed."""

import math
from array import array
from typing import Any

import numpy as np
import numpy.typing as npt

from ..dataset import ChangeLog
from ..normalize import WRONG_AREAS
from .json_file import printable
from .keypoints import KeypointRows
from .masks import polygon_box

# The value of a field that an entry does not have.
MISSING: Any = object()
# What an annotation becomes in the parsed content.
COLLECTED: Any = object()

_IMAGE_FIELDS = ("id", "file_name", "height", "width")
_NUMBERS = frozenset((int, float))
_NO_BOX = (math.nan,) * 4
_NO_ID = -(2**63)
_LARGEST_ID = 2**63
_MAX_AREA = 1e300
_FALSE, _TRUE = ("", "0", "0.0", "false", "no", "null", "none"), ("1", "1.0", "true", "yes")


class References:
    """Ids that annotations refer to: numbers in an array, anything else by row."""

    def __init__(self) -> None:
        self.numbers = array("q")
        self.others: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, row: int) -> Any:
        return self.others[row] if row in self.others else self.numbers[row]

    def append(self, value: Any) -> None:
        """Add the reference of the next row."""
        if type(value) is int and -_LARGEST_ID < value < _LARGEST_ID:
            self.numbers.append(value)
        else:
            self.others[len(self.numbers)] = value
            self.numbers.append(0)


class AnnotationCollector:
    """Collects annotations in arrays: a million take 100 MB, as dicts they would take 1 GB.

    An instance is an ``object_hook`` of ``json.loads``. Whatever looks like an annotation is added
    and becomes ``COLLECTED``; everything else stays a dict. Masks and keypoints are kept only if
    they are needed.

    Args:
        with_masks: keep the segmentations.
        num_keypoints: number of keypoints to keep of each object; 0 keeps none.

    Attributes:
        image_ids: as the file has them, by row.
        category_ids: as the file has them.
        is_crowd: 0 or 1.
        has_box: 0 for annotations without any box.
        segmentations: as the file has them; None where masks are not needed.
        keypoints: of all rows; None where they are not needed.
        changes: what was changed.
        error: what is wrong with the first annotation that cannot be read, if there is one.
    """

    def __init__(self, with_masks: bool = False, num_keypoints: int = 0) -> None:
        self.image_ids = References()
        self.category_ids = References()
        self.is_crowd = bytearray()
        self.has_box = bytearray()
        self.segmentations: list[Any] | None = [] if with_masks else None
        self.keypoints = KeypointRows(num_keypoints) if num_keypoints else None
        self.changes = ChangeLog()
        self.error = ""
        self._boxes = array("d")
        self._areas = array("d")
        self._ids = array("q")
        self._odd_ids: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.image_ids)

    def __call__(self, entry: dict[str, Any]) -> Any:
        """Collect an annotation, and keep of an image what is used; return all else unchanged."""
        if "file_name" in entry and "width" in entry and "image_id" not in entry:
            return {key: entry[key] for key in _IMAGE_FIELDS if key in entry}
        if "bbox" not in entry or "image_id" not in entry or "file_name" in entry:
            return entry
        self.add(entry)
        return COLLECTED

    def add(self, entry: dict[str, Any]) -> None:
        """Add an annotation. Each part takes the fast path where it is as it should be."""
        get = entry.get
        row = len(self.image_ids)
        self.image_ids.append(get("image_id", MISSING))
        self.category_ids.append(get("category_id", MISSING))
        self._add_id(row, get("id", MISSING))
        box = get("bbox")
        if type(box) is list and len(box) == 4 and _NUMBERS.issuperset(map(type, box)):
            try:
                self._boxes.extend(box)
            except OverflowError:  # an integer beyond the range of floats
                del self._boxes[4 * row :]
                self._boxes.extend(_NO_BOX)
            self.has_box.append(1)
        else:
            self._add_odd_box(row, box, get("segmentation"))
        area = get("area", MISSING)
        if type(area) in _NUMBERS and 0 < area < _MAX_AREA:
            self._areas.append(area)
        else:
            self._add_odd_area(row, area)
        crowd = get("iscrowd", MISSING)
        if type(crowd) is int and crowd in (0, 1) and "ignore" not in entry:
            self.is_crowd.append(crowd)
        else:
            self._add_odd_crowd(row, crowd, get("ignore", MISSING))
        if self.segmentations is not None:
            self.segmentations.append(get("segmentation"))
        if self.keypoints is not None:
            self.keypoints.append(get("keypoints"), get("num_keypoints"))

    def describe(self, row: int) -> str:
        """Name an annotation in the file, for messages."""
        if row in self._odd_ids:
            return f"annotation {printable(repr(self._odd_ids[row]))}"
        annotation_id = self._ids[row]
        return f"annotations[{row}]" if annotation_id == _NO_ID else f"annotation {annotation_id}"

    @property
    def boxes(self) -> npt.NDArray[np.float64]:
        """(M, 4), NaN where a value is not a number."""
        return np.frombuffer(self._boxes, np.float64).reshape(-1, 4)

    @property
    def areas(self) -> npt.NDArray[np.float64]:
        """(M,), NaN where unknown."""
        return np.frombuffer(self._areas, np.float64)

    def _add_id(self, row: int, value: Any) -> None:
        """Ids of annotations are for messages only, so any value will do."""
        if type(value) is int and -_NO_ID > value > _NO_ID:
            self._ids.append(value)
            return
        self._ids.append(_NO_ID)
        if value is MISSING:
            self._count("annotations without id", row)
        else:
            self._odd_ids[row] = value

    def _add_odd_box(self, row: int, box: Any, segmentation: Any) -> None:
        if box is None or box == []:
            found = polygon_box(segmentation)
            if found is None:
                self._count("annotations without box dropped", row, lost=True)
            else:
                self._count("missing boxes taken from the polygons", row)
            self._boxes.extend(found or _NO_BOX)
            self.has_box.append(found is not None)
            return
        self.has_box.append(1)
        values = [_number(value) for value in box] if isinstance(box, list) else []
        if len(values) != 4:
            self._set_error(row, f"its bbox {printable(box)} must be [x, y, width, height]")
            values = list(_NO_BOX)
        elif any(isinstance(value, str) for value in box) and math.isfinite(sum(values)):
            self._count("boxes of numbers written as text", row, box)
        self._boxes.extend(values)

    def _add_odd_area(self, row: int, area: Any) -> None:
        if area is MISSING or area is None:
            self._count("missing areas set to width * height", row)
        else:
            self._count(WRONG_AREAS, row, area)
        self._areas.append(math.nan)

    def _add_odd_crowd(self, row: int, crowd: Any, ignore: Any) -> None:
        flags = []
        for key, value in (("iscrowd", crowd), ("ignore", ignore)):
            flag = read_flag(value)
            if flag is None:
                self._set_error(row, f"its {key} {printable(value)} must be 0 or 1")
            flags.append(bool(flag))
        if crowd is MISSING:
            self._count("missing iscrowd set to 0", row)
        elif type(crowd) is not int or crowd not in (0, 1):
            self._count(f"other values of iscrowd read as {int(flags[0])}", row, crowd)
        if flags[1] and not flags[0]:
            self._count("boxes with 'ignore' treated as crowds", row)
        self.is_crowd.append(any(flags))

    def _count(self, what: str, row: int, value: Any = MISSING, lost: bool = False) -> None:
        """Count a change; the text of the example is made once, as there may be millions."""
        if what in self.changes.counts:
            self.changes.counts[what] += 1
        else:
            shown = "" if value is MISSING else f": {printable(repr(value))}"
            self.changes.add(what, f"{self.describe(row)}{shown}", lost=lost)

    def _set_error(self, row: int, problem: str) -> None:
        self.error = self.error or f"{self.describe(row)}: {problem}"


def _number(value: Any) -> float:
    """A value of a bbox; NaN for what is not a number. Text that is a number is one."""
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            return math.nan
    return math.nan


def read_flag(value: Any) -> bool | None:
    """Return whether a value of iscrowd or ignore means yes; None if that is not clear."""
    if value is MISSING or value is None:
        return False
    if isinstance(value, (bool, int, float)):
        return None if value != value else bool(value)
    if isinstance(value, str):
        text = value.strip().lower()
        return False if text in _FALSE else True if text in _TRUE else None
    return None
