"""Detection on images."""

from tood_runtime.detections import Detections

from .detector import Detector

__all__ = ["Detections", "Detector"]
