"""Detections as rows: COCO's results, CSV, Parquet."""

import csv
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from ..conversions import table_columns, table_rows
from ..image_detector import ImageDetector
from ..missing_packages import import_optional
from ..output_files import OutputError, validate_output_file, write_json
from .base import Output, Result

logger = logging.getLogger(__name__)

_ROWS_AT_ONCE = 10_000


def index_path(path: Path) -> Path:
    """The file that maps image ids to files, next to that of COCO's results."""
    return path.with_name(f"{path.stem}_images.json")


class CocoFile(Output):
    """COCO's result format, and next to it which image has which id.

    Args:
        path: of the file; None for the standard output.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, path: str | None) -> None:
        validate_output_file("--json", path)
        self.path = path
        self._category_ids: Sequence[int | str] = []
        self.images: list[dict[str, Any]] = []
        self.detections: list[dict[str, Any]] = []

    def open(self, detector: ImageDetector[Any]) -> None:
        """Take the model's category ids."""
        self._category_ids = detector.category_ids

    def add(self, result: Result) -> None:
        """Add the detections of an image."""
        found = result.found
        height, width = found.image_size
        record = {"id": result.image_id, "file_name": result.name, "height": height, "width": width}
        if found.frame is not None:
            record |= {"frame": found.frame, "time": round(found.time or 0.0, 6)}
        self.images.append(record)
        rows = found.to_coco(result.image_id, self._category_ids)
        if found.tracker_id is not None:
            for row, number in zip(rows, found.tracker_id.tolist(), strict=True):
                row["tracker_id"] = number
        self.detections += rows

    def close(self) -> None:
        """Write the files."""
        if self.path is None:
            print(json.dumps(self.detections, indent=1))
            return
        path = Path(self.path)
        index = index_path(path)
        write_json(path, self.detections)
        if path.is_file():  # and no pipe or device
            write_json(index, self.images)
            logger.info("%d detections in %s; image ids in %s", len(self.detections), path, index)


class CsvFile(Output):
    """A table with one row per detection.

    Args:
        path: of the file.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, path: str) -> None:
        validate_output_file("--csv", path)
        self.path = path
        self._file: TextIO | None = None

    def open(self, detector: ImageDetector[Any]) -> None:
        """Create the file and write the names of the columns."""
        try:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "w", encoding="utf-8", newline="")  # noqa: SIM115
            self._writer = csv.writer(self._file)
            self._columns = table_columns(detector.predicts_masks)
            self._writer.writerow(self._columns)
        except OSError as error:
            raise _error(self.path, error) from error

    def add(self, result: Result) -> None:
        """Write the detections of an image."""
        columns = table_rows(result.found, result.name)
        assert list(columns) == list(self._columns)
        try:
            self._writer.writerows(zip(*columns.values(), strict=True))
        except OSError as error:
            raise _error(self.path, error) from error

    def close(self) -> None:
        """Write what is left."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                raise _error(self.path, error) from error


class ParquetFile(Output):
    """A Parquet table with one row per detection, through PyArrow.

    Args:
        path: of the file.

    Raises:
        ImportError: PyArrow is not installed.
        OutputError: the file cannot be written.
    """

    def __init__(self, path: str) -> None:
        self._pyarrow = import_optional("pyarrow", "--parquet", "pyarrow")
        validate_output_file("--parquet", path)
        self.path = path

    def open(self, detector: ImageDetector[Any]) -> None:
        """Create the file."""
        parquet = import_optional("pyarrow.parquet", "--parquet", "pyarrow")
        names = table_columns(detector.predicts_masks)
        self._schema = self._pyarrow.schema(
            [(name, getattr(self._pyarrow, kind)()) for name, kind in names.items()]
        )
        self._columns: dict[str, list[Any]] = {name: [] for name in names}
        try:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            self._writer = parquet.ParquetWriter(self.path, self._schema)
        except OSError as error:
            raise _error(self.path, error) from error

    def add(self, result: Result) -> None:
        """Add the detections of an image."""
        columns = table_rows(result.found, result.name)
        assert list(columns) == list(self._columns)
        for name, values in columns.items():
            self._columns[name] += values
        if len(self._columns["path"]) >= _ROWS_AT_ONCE:
            self._write()

    def close(self) -> None:
        """Write what is left."""
        try:
            self._write()
        finally:
            try:
                self._writer.close()
            except OSError as error:
                raise _error(self.path, error) from error

    def _write(self) -> None:
        table = self._pyarrow.table(self._columns, schema=self._schema)
        self._columns = {name: [] for name in self._columns}
        try:
            self._writer.write_table(table)
        except OSError as error:
            raise _error(self.path, error) from error


def _error(path: str, error: OSError) -> OutputError:
    return OutputError(f"Cannot write {path}: {error.strerror or error}. Choose another file.")
