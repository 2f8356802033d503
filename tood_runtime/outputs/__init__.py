"""What detection programs write: drawings, videos, tables, label files, crops."""

from .base import Output, Result
from .drawings import Drawings, Window
from .folders import CropsFolder, YoloFolder
from .tables import CocoFile, CsvFile, ParquetFile

__all__ = [
    "CocoFile",
    "CropsFolder",
    "CsvFile",
    "Drawings",
    "Output",
    "ParquetFile",
    "Result",
    "Window",
    "YoloFolder",
]
