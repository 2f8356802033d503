"""Training."""

from .hooks import PhaseHook, warmup_iterations
from .trainer import Trainer

__all__ = ["PhaseHook", "Trainer", "warmup_iterations"]
