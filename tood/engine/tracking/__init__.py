"""Experiment trackers: a training's metrics and config in Weights & Biases and MLflow."""

from .building import build_tracking_hook, require_trackers
from .hook import TrackingHook

__all__ = ["TrackingHook", "build_tracking_hook", "require_trackers"]
