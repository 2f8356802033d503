"""Evaluation beyond detectron2's."""

from ..analysis.recorder import PredictionRecorder
from ..modeling.structures import ImagePredictions
from .alignment_evaluator import AlignmentEvaluator
from .coco_evaluator import FastCOCOEvaluator

__all__ = ["AlignmentEvaluator", "FastCOCOEvaluator", "ImagePredictions", "PredictionRecorder"]
