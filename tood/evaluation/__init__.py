"""Evaluation beyond detectron2's."""

from .alignment import AlignmentEvaluator
from .coco import FastCOCOEvaluator
from .dense import DensePredictions, PredictionRecorder

__all__ = ["AlignmentEvaluator", "DensePredictions", "FastCOCOEvaluator", "PredictionRecorder"]
