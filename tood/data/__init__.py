"""Datasets: a user's own in COCO format, and the synthetic shapes of the quickstart."""

from .loaders import build_test_loader, build_train_loader
from .registration import register_coco, setup_datasets

__all__ = ["build_test_loader", "build_train_loader", "register_coco", "setup_datasets"]
