"""Datasets: registration, filtering and loaders for your own data, and the synthetic shapes."""

from .loaders import TrainLoader, build_test_loader, build_train_loader
from .registration import class_info, register_coco, setup_datasets

__all__ = [
    "TrainLoader",
    "build_test_loader",
    "build_train_loader",
    "class_info",
    "register_coco",
    "setup_datasets",
]
