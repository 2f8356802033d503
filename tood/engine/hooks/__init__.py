"""Training hooks."""

from .checkpoint import CheckpointHook
from .evaluation import ResumableEvalHook
from .headers import HeaderCheckHook
from .phase import PhaseHook
from .writer import ResumableWriterHook

__all__ = [
    "CheckpointHook",
    "HeaderCheckHook",
    "PhaseHook",
    "ResumableEvalHook",
    "ResumableWriterHook",
]
