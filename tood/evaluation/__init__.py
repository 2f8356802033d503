"""Evaluators for detectron2's ``inference_on_dataset``."""

from .alignment_evaluator import AlignmentEvaluator
from .building import build_evaluator, result_folder, validate_evaluators
from .coco_evaluator import FastCOCOEvaluator

__all__ = [
    "AlignmentEvaluator",
    "FastCOCOEvaluator",
    "build_evaluator",
    "result_folder",
    "validate_evaluators",
]
