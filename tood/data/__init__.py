"""Datasets: a user's own in COCO format, and the synthetic shapes of the quickstart."""

from .coco import register_coco, setup_datasets
from .loaders import build_test_loader, build_train_loader

__all__ = ["build_test_loader", "build_train_loader", "register_coco", "setup_datasets"]
