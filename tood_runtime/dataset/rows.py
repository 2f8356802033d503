"""Rows of results, one per image, and the columns that Parquet, pandas and DuckDB get."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..conversions import segmentation_texts
from ..detections import Detections
from ..missing_packages import import_optional

Row: TypeAlias = dict[str, Any]

#: The columns, in order. Those of detections hold one list per image, best detection first;
#: segmentation is COCO's RLE as the text of a JSON object, and None of models without masks.
COLUMNS = (
    "path",
    "image_id",
    "width",
    "height",
    "class_id",
    "class_name",
    "confidence",
    "x1",
    "y1",
    "x2",
    "y2",
    "segmentation",
    "error",
)

_CORNERS = ("x1", "y1", "x2", "y2")


def detection_row(path: str | None, image_id: int | None, found: Detections) -> Row:
    """The row of an image whose detections are known; plain Python values.

    Raises:
        MissingPackageError: pycocotools is not installed, and there are masks.
    """
    height, width = found.image_size
    corners = {name: found.xyxy[:, i].tolist() for i, name in enumerate(_CORNERS)}
    return {
        "path": path,
        "image_id": image_id,
        "width": width,
        "height": height,
        "class_id": found.class_id.tolist(),
        "class_name": list(found.class_names),
        "confidence": found.confidence.tolist(),
        **corners,
        "segmentation": None if found.mask is None else segmentation_texts(found.mask),
        "error": None,
    }


def error_row(path: str | None, image_id: int | None, error: str) -> Row:
    """The row of an image that cannot be read: everything but its name is None."""
    return {**dict.fromkeys(COLUMNS), "path": path, "image_id": image_id, "error": error}


def to_coco(rows: Sequence[Row], category_ids: Sequence[int | str]) -> list[dict[str, Any]]:
    """The detections of rows without errors, as :meth:`Detections.to_coco` gives them.

    Args:
        rows: from :func:`detection_row`, or read back from a file.
        category_ids: category id of each class index.
    """

    def joined(name: str, dtype: type[np.generic]) -> npt.NDArray[Any]:
        return np.array([value for row in rows for value in row[name]], dtype)

    # One conversion for all: those of each image would take most of the time.
    found = Detections(
        xyxy=np.stack([joined(name, np.float32) for name in _CORNERS], axis=1),
        confidence=joined("confidence", np.float32),
        class_id=joined("class_id", np.int64),
        class_names=[name for row in rows for name in row["class_name"]],
        image_size=(1, 1),  # which has no effect
    )
    results = found.to_coco(0, category_ids)
    image_ids = [row["image_id"] for row in rows for _ in row["class_id"]]
    for result, image_id in zip(results, image_ids, strict=True):
        result["image_id"] = image_id
    texts = [text for row in rows for text in row["segmentation"] or [None] * len(row["class_id"])]
    for result, text in zip(results, texts, strict=True):
        if text is not None:
            result["segmentation"] = json.loads(text)
    return results


def to_columns(rows: Iterable[Row]) -> dict[str, list[Any]]:
    """Turn rows into columns, a list for each of :data:`COLUMNS`."""
    rows = list(rows)
    return {name: [row[name] for row in rows] for name in COLUMNS}


def arrow_schema() -> Any:
    """The types of the columns, as a ``pyarrow.Schema``.

    Raises:
        MissingPackageError: pyarrow is not installed.
    """
    pa = import_pyarrow()
    integers, texts, numbers = pa.list_(pa.int32()), pa.list_(pa.string()), pa.list_(pa.float32())
    types = {
        "path": pa.string(),
        "image_id": pa.int64(),
        "width": pa.int32(),
        "height": pa.int32(),
        "class_id": integers,
        "class_name": texts,
        "confidence": numbers,
        **dict.fromkeys(_CORNERS, numbers),
        "segmentation": texts,
        "error": pa.string(),
    }
    return pa.schema([(name, types[name]) for name in COLUMNS])


def to_table(columns: Mapping[str, Any]) -> Any:
    """Turn columns into a ``pyarrow.Table`` with :func:`arrow_schema`.

    The types do not depend on the rows: without them, a batch in which no image has an error or a
    detection would have columns of nulls, which do not fit those of other batches.

    Args:
        columns: what a :class:`BatchDetector` returns.

    Raises:
        MissingPackageError: pyarrow is not installed.
    """
    pa = import_pyarrow()
    return pa.table({name: columns[name] for name in COLUMNS}, schema=arrow_schema())


def import_pyarrow(module: str = "pyarrow") -> Any:
    """Import pyarrow or one of its modules.

    Raises:
        MissingPackageError: it is not installed, or too old.
    """
    return import_optional(module, "Parquet", '"tood-detectron2[dataset]"')
