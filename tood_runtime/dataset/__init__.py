"""Detection in data sets of any size: shards, restarts, and a function for other engines."""

from .batch_detector import BatchDetector, ImageRecord
from .rows import COLUMNS, arrow_schema, to_table

__all__ = ["COLUMNS", "BatchDetector", "ImageRecord", "arrow_schema", "to_table"]
