"""Training."""

from .hooks.phase import PhaseHook
from .schedule import epochs_to_iters
from .trainer import Trainer

__all__ = ["PhaseHook", "Trainer", "epochs_to_iters"]
