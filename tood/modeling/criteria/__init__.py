"""Criteria: the losses of one training phase; importing this registers them."""

from .base import CRITERION_REGISTRY
from .focal import CenternessFocalCriterion, FocalCriterion
from .foveabox import FoveaBoxCriterion
from .quality_focal import QualityFocalCriterion
from .task_aligned import TaskAlignedCriterion

__all__ = [
    "CRITERION_REGISTRY",
    "CenternessFocalCriterion",
    "FocalCriterion",
    "FoveaBoxCriterion",
    "QualityFocalCriterion",
    "TaskAlignedCriterion",
]
