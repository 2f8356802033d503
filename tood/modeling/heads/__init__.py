"""Heads of one-stage detectors; importing this registers them."""

from ..structures import DensePredictions
from .base import DENSE_HEAD_REGISTRY, DenseHead, build_dense_head
from .parallel_head import ParallelHead
from .task_alignment import TaskDecomposition
from .tood_head import TOODHead

__all__ = [
    "DENSE_HEAD_REGISTRY",
    "DenseHead",
    "DensePredictions",
    "ParallelHead",
    "TOODHead",
    "TaskDecomposition",
    "build_dense_head",
]
