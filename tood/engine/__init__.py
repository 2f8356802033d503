"""Training."""

from .hooks.phase import PhaseHook
from .schedule import warmup_iterations
from .trainer import Trainer

__all__ = ["PhaseHook", "Trainer", "warmup_iterations"]
