"""Export to ONNX, TorchScript, torch.export and OpenVINO, with verification."""

from .exporter import ExportResult, VerificationError, export_model
from .options import ExportOptions

__all__ = ["ExportOptions", "ExportResult", "VerificationError", "export_model"]
