"""Assigners: match points to GT boxes. Tensors in, an `Assignment` out."""

from ..structures import IGNORED, UNMATCHED, AssignerInput, Assignment
from .atss import ATSSAssigner
from .base import ASSIGNER_REGISTRY, Assigner
from .fcos import FCOSAssigner
from .foveabox import FoveaBoxAssigner
from .max_iou import MaxIoUAssigner
from .task_aligned import TaskAlignedAssigner

__all__ = [
    "ASSIGNER_REGISTRY",
    "IGNORED",
    "UNMATCHED",
    "ATSSAssigner",
    "Assigner",
    "AssignerInput",
    "Assignment",
    "FCOSAssigner",
    "FoveaBoxAssigner",
    "MaxIoUAssigner",
    "TaskAlignedAssigner",
]
