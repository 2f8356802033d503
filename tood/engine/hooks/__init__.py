"""Training hooks."""

from .best import BestCheckpointHook, build_best_hook
from .checkpoint import CheckpointHook
from .evaluation import ResumableEvalHook
from .headers import HeaderCheckHook
from .phase import PhaseHook
from .writer import ResumableWriterHook

__all__ = [
    "BestCheckpointHook",
    "CheckpointHook",
    "HeaderCheckHook",
    "PhaseHook",
    "ResumableEvalHook",
    "ResumableWriterHook",
    "build_best_hook",
]
