"""Read, convert, save and load checkpoints."""

from .checkpointer import TOODCheckpointer, load_model
from .info import CheckpointInfo
from .loading import LoadedWeights, read_checkpoint

__all__ = ["CheckpointInfo", "LoadedWeights", "TOODCheckpointer", "load_model", "read_checkpoint"]
