"""Heads of one-stage detectors; importing this registers them."""

from .base import DENSE_HEAD_REGISTRY, DenseHeadOutput, build_dense_head
from .parallel_head import ParallelHead
from .tood_head import TaskDecomposition, TOODHead

__all__ = [
    "DENSE_HEAD_REGISTRY",
    "DenseHeadOutput",
    "ParallelHead",
    "TOODHead",
    "TaskDecomposition",
    "build_dense_head",
]
