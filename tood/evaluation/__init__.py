"""Evaluators for detectron2's ``inference_on_dataset``."""

from .alignment_evaluator import AlignmentEvaluator
from .building import build_evaluator, result_folder, validate_evaluators
from .coco_evaluator import FastCOCOEvaluator
from .loss_evaluator import LossEvaluator, add_loss_evaluator

__all__ = [
    "AlignmentEvaluator",
    "FastCOCOEvaluator",
    "LossEvaluator",
    "add_loss_evaluator",
    "build_evaluator",
    "result_folder",
    "validate_evaluators",
]
