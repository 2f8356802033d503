"""Keypoints of COCO files: (x, y, visibility) of the named points of an object."""

from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import ConfigError, DataError
from ..dataset import ChangeLog
from ..keypoint_arrays import Points
from ..normalize import SUSPICIOUS_FRACTION, SUSPICIOUS_MARGIN
from .json_file import printable

KEY = "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS"
_NUMBERS = frozenset((int, float))
_VISIBILITIES = (0, 1, 2)
# Rounding puts keypoints beyond their box by up to this (pixels).
_ROUNDING = 1.0


class KeypointRows:
    """Collects the keypoints of annotations in an array: K of 12 bytes each, by row.

    Args:
        num_keypoints: K, of each object.
    """

    def __init__(self, num_keypoints: int) -> None:
        self.num_keypoints = num_keypoints
        self._values = array("f")
        self._no_values = array("f", [0.0] * (3 * num_keypoints))
        self._is_missing = bytearray()
        self._odd: dict[int, Any] = {}
        self._counts = array("q")  # num_keypoints of the file, -1 where it does not say

    def append(self, values: Any, count: Any = None) -> None:
        """Add the keypoints of the next row.

        Args:
            values: 3 * K numbers; None or an empty list for an object without keypoints.
            count: what the file says in ``num_keypoints``.
        """
        self._is_missing.append(values is None or values == [])
        self._counts.append(count if type(count) is int and 0 <= count < 2**31 else -1)
        size = len(self._no_values)
        if type(values) is list and len(values) == size and _NUMBERS.issuperset(map(type, values)):
            start = len(self._values)
            try:
                self._values.extend(array("f", values))
                return
            except OverflowError:  # an integer beyond the range of floats
                del self._values[start:]
        if not self._is_missing[-1]:
            self._odd[len(self._is_missing) - 1] = values
        self._values.extend(self._no_values)

    def select(
        self,
        rows: npt.NDArray[np.int64],
        source: str,
        describe: Callable[[int], str],
        boxes: npt.NDArray[np.float64],
        sizes: npt.NDArray[np.int32],
        changes: ChangeLog,
        offset: float = 0.0,
    ) -> Points:
        """Return the keypoints of some rows, checked.

        Labeled keypoints outside of their image become unlabeled: training cannot show them, and no
        prediction can match them.

        Args:
            rows: (M,) of the objects that are used.
            source: what was read, for messages.
            describe: names the annotation of a row and its image, for messages.
            boxes: (M, 4) [x, y, width, height], pixels.
            sizes: (M, 2) height and width of the image of each, pixels; 0 where unknown.
            changes: counts what was changed.
            offset: added to x and y.

        Returns:
            (M, K, 3) x, y in pixels from the image's corner, and the visibility: 0 not labeled, 1
            labeled but hidden, 2 visible.

        Raises:
            DataError: a value cannot be understood; the message names the annotation.
        """
        used = set(rows.tolist()) if self._odd else ()
        for row in (row for row in self._odd if row in used):
            raise DataError(f"{source}: {describe(row)}: {self._explain(self._odd[row])}")
        stored = np.frombuffer(self._values, np.float32).reshape(-1, self.num_keypoints, 3)
        points = stored[rows]
        _validate_values(points, rows, source, describe)
        missing = np.flatnonzero(np.frombuffer(self._is_missing, bool)[rows])
        if len(missing):
            first = describe(int(rows[missing[0]]))
            changes.add("objects without keypoints, used for their boxes", first, len(missing))
        counts = np.frombuffer(self._counts, np.int64)[rows]
        wrong = np.flatnonzero((counts >= 0) & (counts != (points[..., 2] > 0).sum(1)))
        if len(wrong):
            example = f"{describe(int(rows[wrong[0]]))}: {counts[wrong[0]]}"
            changes.add("num_keypoints replaced by the labeled ones", example, len(wrong))
        points[..., :2] += np.float32(offset)
        _drop_outside(points, rows, sizes, describe, changes)
        _warn_about_places(points, boxes, rows, describe, changes)
        return points

    def _explain(self, values: Any) -> str:
        """What is wrong with the keypoints of an annotation."""
        if not isinstance(values, list):
            return (
                f"its keypoints are {printable(values)}, not a list of numbers. Correct or remove "
                "them."
            )
        if len(values) % 3:
            return (
                f"its keypoints have {len(values)} values, which is not a multiple of 3 "
                "(x, y, visibility). Correct or remove them."
            )
        if len(values) != len(self._no_values):
            return (
                f"it has {len(values) // 3} keypoints, but {KEY} is {self.num_keypoints}. Correct "
                f"the annotation, or set {KEY} {len(values) // 3}."
            )
        return (
            f"its keypoints {printable(values)} must be numbers: x, y and visibility of each. "
            "Correct or remove them."
        )


def _validate_values(
    points: Points, rows: npt.NDArray[np.int64], source: str, describe: Callable[[int], str]
) -> None:
    """Refuse what is no coordinate or no visibility, and fractions of the image."""
    for faulty, problem in (
        (~np.isfinite(points), "of which a value is not finite. Correct or remove them."),
        (
            ~np.isin(points[..., 2:], _VISIBILITIES),
            "of which a visibility (every third value) is not 0, 1 or 2. Correct it.",
        ),
    ):
        found = np.flatnonzero(faulty.any(axis=(1, 2)))
        if len(found):
            values = printable(points[found[0]].reshape(-1).tolist())
            where = describe(int(rows[found[0]]))
            raise DataError(f"{source}: {where}: its keypoints are {values}, {problem}")
    labeled = points[points[..., 2] > 0][:, :2]
    if len(labeled) > 1 and (labeled <= 1).all() and (labeled % 1 != 0).any():
        raise DataError(
            f"{source}: the keypoints seem to be fractions of the image, such as "
            f"{labeled[0].tolist()}. Give x and y in pixels."
        )


def _drop_outside(
    points: Points,
    rows: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int32],
    describe: Callable[[int], str],
    changes: ChangeLog,
) -> None:
    """Make labeled keypoints outside of their image unlabeled, in place."""
    limits = sizes[:, None, ::-1]  # (M, 1, 2) width, height
    inside = ((points[..., :2] >= 0) & (points[..., :2] <= limits)).all(axis=2)
    outside = (points[..., 2] > 0) & ~inside & (limits > 0).all(axis=2)
    objects, numbers = np.nonzero(outside)
    if not len(objects):
        return
    x, y, _ = points[objects[0], numbers[0]].tolist()
    width, height = limits[objects[0], 0].tolist()
    changes.add(
        "labeled keypoints outside of their image treated as unlabeled",
        f"{describe(int(rows[objects[0]]))}: keypoint {numbers[0] + 1} at ({x:g}, {y:g}) of "
        f"{width}x{height} pixels",
        len(objects),
        lost=True,
    )
    points[outside] = 0


def _warn_about_places(
    points: Points,
    boxes: npt.NDArray[np.float64],
    rows: npt.NDArray[np.int64],
    describe: Callable[[int], str],
    changes: ChangeLog,
) -> None:
    """Warn where many keypoints are beyond their box, so that they are probably something else."""
    low, side = boxes[:, None, :2], boxes[:, None, 2:]
    margin = SUSPICIOUS_MARGIN * side + _ROUNDING
    with np.errstate(invalid="ignore"):
        outside = (points[..., :2] < low - margin) | (points[..., :2] > low + side + margin)
    labeled = points[..., 2] > 0
    beyond = labeled & outside.any(axis=2)
    objects, numbers = np.nonzero(beyond)
    if len(objects) and len(objects) >= SUSPICIOUS_FRACTION * labeled.sum():
        row = objects[0]
        x, y, _ = points[row, numbers[0]].tolist()
        changes.warnings.append(
            f"{len(objects)} of {labeled.sum()} labeled keypoints lie beyond the box of their "
            f"object, for example {describe(int(rows[row]))}: ({x:g}, {y:g}) and the box "
            f"{boxes[row].tolist()}. Training ignores them. Are keypoints [x, y, visibility, ...]?"
        )


def read_keypoint_names(
    shown: str, categories: Sequence[dict[str, Any]], num_keypoints: int
) -> list[str]:
    """Return the names of the keypoints of a COCO file; none if its categories have none.

    Args:
        shown: the file, for messages.
        categories: its entries.
        num_keypoints: K, ``MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS``.

    Raises:
        DataError: they are not a list of texts.
        ConfigError: there are not K, or categories have different ones.
    """
    known: tuple[str, list[str]] | None = None
    for entry in categories:
        names, category = entry.get("keypoints"), printable(repr(entry.get("name")))
        if names is None or names == []:
            continue
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(
                f"{shown}: the category {category} has the keypoints {printable(names)}, which are "
                "not a list of names."
            )
        if len(names) != num_keypoints:
            raise ConfigError(
                f"The category {category} of {shown} has {len(names)} keypoints "
                f"({printable(', '.join(names), 300)}), but {KEY} is {num_keypoints}. Set {KEY} "
                f"{len(names)}."
            )
        known = known or (category, names)
        if names != known[1]:
            raise ConfigError(
                f"The categories {known[0]} and {category} of {shown} have different keypoints. A "
                "model has the same keypoints for all classes; leave one of the categories out."
            )
    return known[1] if known else []
