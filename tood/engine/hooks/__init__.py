"""Training hooks."""

from .checkpoint import CheckpointHook
from .evaluation import ResumableEvalHook
from .phase import PhaseHook
from .writer import ResumableWriterHook

__all__ = ["CheckpointHook", "PhaseHook", "ResumableEvalHook", "ResumableWriterHook"]
