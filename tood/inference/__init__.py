"""Detection on images."""

from tood_runtime.detections import Detections

from .detector import Detector
from .exported_model import ExportedModel

__all__ = ["Detections", "Detector", "ExportedModel"]
