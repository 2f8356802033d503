"""Evaluation beyond detectron2's."""

from .coco import FastCOCOEvaluator

__all__ = ["FastCOCOEvaluator"]
