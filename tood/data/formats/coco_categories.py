"""The classes of a COCO file."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import DataError
from ..dataset import ChangeLog, FileId
from .coco_file import COCOFile
from .ids import IdTable
from .json_file import printable

# Names of the category 0 that some tools write for "no object".
_BACKGROUND = ("background", "_background_", "__background__", "__ignore__")


@dataclass(frozen=True)
class Categories:
    """The classes of a file, in the order of their ids.

    Attributes:
        names: as the file has them; those without a name are named after their id.
        ids: of the file.
        class_ids: (M,) class index by annotation.
    """

    names: list[Any]
    ids: list[FileId]
    class_ids: npt.NDArray[np.int64]


def read_categories(file: COCOFile, used: npt.NDArray[np.int64], changes: ChangeLog) -> Categories:
    """Read the categories of a file and the class of each annotation.

    A category 0 without annotations that is the super-category of others (Roboflow) or the
    background is left out.

    Args:
        file: the parsed file.
        used: rows of the annotations that are used.
        changes: counts what was changed.

    Raises:
        DataError: an entry is invalid, or an annotation refers to none.
    """
    table = IdTable(file.shown, "categories", file.values("categories", "id"))
    names = _texts(file, table, changes)
    order = sorted(range(len(names)), key=_sort_key(table.ids))
    positions = file.resolve("category_id", table, used)
    first = order[0]
    if len(order) > 1 and table.ids[first] in (0, "0") and not (positions[used] == first).any():
        others = [file.content["categories"][position] for position in order[1:]]
        parents = [entry.get("supercategory") for entry in others]
        if names[first] in parents or str(names[first]).lower() in _BACKGROUND:
            order = order[1:]
            changes.add("unused super-category 0 dropped", printable(repr(names[first])))
    class_index = np.full(len(names) + 1, -1)  # the last one is for unused annotations
    class_index[order] = np.arange(len(order))
    return Categories(
        [names[position] for position in order],
        [table.ids[position] for position in order],
        class_index[positions],
    )


def _texts(file: COCOFile, table: IdTable, changes: ChangeLog) -> list[Any]:
    names = file.values("categories", "name")
    for position, (name, category_id) in enumerate(zip(names, table.ids, strict=True)):
        if isinstance(name, (list, dict)):
            raise DataError(
                f"{file.shown}: category {printable(category_id)} has the name {printable(name)}, "
                "which is not text."
            )
        if name is None or not str(name).strip():
            names[position] = f"class {category_id}"
            changes.add("classes without name called by their id", f"category {category_id}")
    return names


def _sort_key(ids: list[FileId]) -> Any:
    """Sort by number where all ids are numbers, also as text: "10" after "9"."""
    if all(isinstance(i, int) or (i.isascii() and i.isdecimal() and len(i) < 100) for i in ids):
        return lambda position: int(ids[position])
    return lambda position: ids[position]
