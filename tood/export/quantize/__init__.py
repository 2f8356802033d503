"""int8 for CPUs: post-training quantization of exported files, calibrated on your images."""

from .calibration import FEW_IMAGES, CalibrationBatches, select_images
from .quantizing import FileKind, quantize, require_packages
from .scope import PARTS, is_quantized
from .settings import DEFAULTS, QuantizationSettings

__all__ = [
    "DEFAULTS",
    "FEW_IMAGES",
    "PARTS",
    "CalibrationBatches",
    "FileKind",
    "QuantizationSettings",
    "is_quantized",
    "quantize",
    "require_packages",
    "select_images",
]
