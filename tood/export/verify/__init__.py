"""Verification of exported files: every detection is matched with the model's."""

from .matching import Limits
from .report import VerificationReport, report_path, write_report
from .verifying import verify_export

__all__ = ["Limits", "VerificationReport", "report_path", "verify_export", "write_report"]
