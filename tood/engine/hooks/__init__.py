"""Training hooks."""

from .best import BestCheckpointHook, build_best_hook
from .checkpoint import CheckpointHook
from .evaluation import ResumableEvalHook
from .headers import HeaderCheckHook
from .patience import PatienceHook, StoppedEarly
from .phase import PhaseHook
from .precise_bn import build_precise_bn
from .writer import ResumableWriterHook

__all__ = [
    "BestCheckpointHook",
    "CheckpointHook",
    "HeaderCheckHook",
    "PatienceHook",
    "PhaseHook",
    "ResumableEvalHook",
    "ResumableWriterHook",
    "StoppedEarly",
    "build_best_hook",
    "build_precise_bn",
]
