"""Evaluators for detectron2's ``inference_on_dataset``."""

from .alignment_evaluator import AlignmentEvaluator
from .coco_evaluator import FastCOCOEvaluator

__all__ = ["AlignmentEvaluator", "FastCOCOEvaluator"]
