"""Assigners: tensors in, one and the same record out. Usable without the rest of the package."""

from .atss import ATSSAssigner
from .base import ASSIGNER_REGISTRY, IGNORED, Assigner, Assignment, ImageSamples
from .fixed import FCOSAssigner, FoveaBoxAssigner, IoUAssigner
from .statistics import AssignmentStatistics
from .task_aligned import TaskAlignedAssigner

__all__ = [
    "ASSIGNER_REGISTRY",
    "IGNORED",
    "ATSSAssigner",
    "Assigner",
    "Assignment",
    "AssignmentStatistics",
    "FCOSAssigner",
    "FoveaBoxAssigner",
    "ImageSamples",
    "IoUAssigner",
    "TaskAlignedAssigner",
]
