"""Training: detectron2's trainer with TOOD's phases, checkpoints, data and logs."""

from .divergence import TrainingDivergedError
from .hooks import PhaseHook
from .schedule import epochs_to_iters
from .terminal import setup_loggers
from .trainer import Trainer

__all__ = ["PhaseHook", "Trainer", "TrainingDivergedError", "epochs_to_iters", "setup_loggers"]
