"""YOLO's label files: where they are and what their rows mean."""

import math
import os
from pathlib import Path
from typing import NamedTuple

from ...errors import DataError
from ..dataset import ChangeLog
from .files import MAX_FRACTION
from .json_file import printable

# Files that list class names in datasets without a YAML file: Label Studio, labelImg, darknet.
CLASS_FILES = ("classes.txt", "obj.names", "labels.txt")

# Values beyond [0, 1] by rounding to six digits are not worth a word.
_ROUNDING = 1e-5


class LabelRow(NamedTuple):
    """A row of a label file: an object.

    Attributes:
        class_index: index in the list of classes.
        box: center x, center y, width and height, in fractions of the image.
        line: number of the line, from 1.
    """

    class_index: int
    box: tuple[float, float, float, float]
    line: int


class LabelParser:
    """Parses label files; counts what it changes.

    A row is ``class cx cy w h``. A sixth column is a confidence, as predictions have it, and is
    ignored. ``class x1 y1 x2 y2 x3 y3 ...`` is a polygon, of which the box is used. Values are
    separated by blanks or by commas.

    Args:
        classes: indices in the list of classes, by the number in the files.
        class_names: K names by class index; some tools write them instead of numbers.
        source: the file that lists the classes, for messages.
        changes: where changes are counted.
        num_keypoint_values: numbers per object after its box, of a dataset with keypoints; they are
            ignored.
    """

    def __init__(
        self,
        classes: dict[int, int],
        class_names: list[str],
        source: Path,
        changes: ChangeLog,
        num_keypoint_values: int = 0,
    ) -> None:
        self._classes = classes
        self._names = {name: index for index, name in enumerate(class_names)}
        self._source = source
        self._changes = changes
        self._num_keypoint_values = num_keypoint_values

    def parse(self, path: Path, text: str) -> list[LabelRow]:
        """Parse the text of a label file.

        Raises:
            DataError: a row is not understood; the message names file and line.
        """
        rows = []
        seen = set()
        for number, line in enumerate(text.split("\n"), start=1):
            tokens = line.split()
            if not tokens:
                continue
            where = f"{path}, line {number}"
            if "," in line:
                tokens = self._split_at_commas(line, tokens, where)
            try:
                values = [float(token) for token in tokens[1:]]
            except ValueError:
                raise DataError(
                    f"{where}: '{printable(line.strip())}' has a value that is not a number. "
                    "Write: class cx cy w h."
                ) from None
            row = LabelRow(self._class_index(tokens[0], where), self._box(values, where), number)
            if (key := (row.class_index, *values)) in seen:
                self._changes.add("rows that occur twice kept", where)
            seen.add(key)
            rows.append(row)
        return rows

    def _split_at_commas(self, line: str, tokens: list[str], where: str) -> list[str]:
        stripped = [token.strip(",") for token in tokens]
        if len(tokens) > 1 and not any("," in token for token in stripped):
            return [token for token in stripped if token]
        if len(tokens) == 1:  # no blanks, so commas separate
            return line.strip().strip(",").split(",")
        if "." not in line:  # decimal commas
            self._changes.add("rows with decimal commas", where)
            return [token.replace(",", ".") for token in tokens]
        raise DataError(
            f"{where}: '{printable(line.strip())}' is not clear. Write: class cx cy w h."
        )

    def _class_index(self, token: str, where: str) -> int:
        try:
            number = int(token)
        except ValueError:
            if token in self._names:
                self._changes.add("class names instead of numbers", where)
                return self._names[token]
            try:
                value = float(token)
            except ValueError:
                value = math.nan
            if not value.is_integer():
                raise DataError(
                    f"{where}: '{printable(token)}' is not a class. A row starts with the "
                    f"number of its class in {self._source}."
                ) from None
            number = int(value)
        if number not in self._classes:
            known = sorted(self._classes)
            raise DataError(
                f"{where}: there is no class {printable(number)}. {self._source} has "
                f"{len(known)} classes, numbered {known[0]} to {known[-1]}. Correct "
                "the row or add the class."
            )
        return self._classes[number]

    def _box(self, values: list[float], where: str) -> tuple[float, float, float, float]:
        count = len(values)
        if self._num_keypoint_values and count == 4 + self._num_keypoint_values:
            self._changes.add("keypoints ignored", where)
            values = values[:4]
        elif count == 5:
            self._changes.add("confidences in a sixth column ignored", where)
            values = values[:4]
        elif count < 4 or count % 2:
            raise DataError(
                f"{where} has {count + 1} values. A box has 5 (class cx cy w h), a polygon a class "
                "and at least 3 points. For keypoints, set kpt_shape in the YAML file."
            )
        for value in values:
            if MAX_FRACTION < abs(value) < math.inf:
                raise DataError(
                    f"{where}: {value:g} is not a fraction of the image. Divide x and width by the "
                    "image's width, y and height by its height."
                )
        if not all(-_ROUNDING <= value <= 1 + _ROUNDING for value in values):
            self._changes.add("rows with values outside of 0 to 1 kept", where)
        if len(values) == 4:
            return values[0], values[1], values[2], values[3]
        self._changes.add("polygons replaced by their boxes", where)
        xs, ys = values[0::2], values[1::2]
        left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
        return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


class LabelFinder:
    """Finds the label file of an image: the last folder ``images`` of its path becomes ``labels``.

    Where that file does not exist, the label file lies next to the image.

    Args:
        root: folder of the dataset.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: dict[Path, list[Path]] = {}
        self._files: dict[Path, dict[str, str]] = {}

    def find(self, image: Path) -> Path | None:
        """Return the label file of an image; None if there is none."""
        for folder in self.folders(image.parent):
            name = self._list(folder).get(image.stem)
            if name is not None:
                return folder / name
        return None

    def folders(self, parent: Path) -> list[Path]:
        """Return where the label files of the images in a folder may be, best first."""
        if parent not in self._folders:
            candidates = []
            parts = parent.parts
            for index in reversed(range(len(parts))):
                if parts[index].lower() == "images":
                    before, after = Path(*parts[:index]), parts[index + 1 :]
                    candidates += [before.joinpath(x, *after) for x in ("labels", "Labels")]
                    break
            else:
                if parent.is_relative_to(self._root):
                    candidates.append(self._root / "labels" / parent.relative_to(self._root))
            self._folders[parent] = [*candidates, parent]
        return self._folders[parent]

    def unused(self, used: set[Path]) -> list[Path]:
        """Return the label files in the searched folders that belong to no image."""
        found = []
        for folder, files in self._files.items():
            is_labels = folder.name.lower() == "labels" or "labels" in map(str.lower, folder.parts)
            paths = (folder / name for name in files.values()) if is_labels else ()
            found += [p for p in paths if p not in used and p.name not in CLASS_FILES]
        return sorted(found)

    def _list(self, folder: Path) -> dict[str, str]:
        if folder not in self._files:
            try:
                names = os.listdir(folder)
            except OSError:
                names = []
            pairs = (os.path.splitext(name) for name in sorted(names) if not name.startswith("."))
            self._files[folder] = {s: s + suffix for s, suffix in pairs if suffix.lower() == ".txt"}
        return self._files[folder]
