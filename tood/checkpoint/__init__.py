"""Read, convert, save and load checkpoints."""

from . import detectron2_loading  # noqa: F401 - detectron2's own programs read all layouts too
from .checkpointer import TOODCheckpointer, load_model
from .info import CheckpointInfo
from .loading import LoadedWeights, read_checkpoint

__all__ = ["CheckpointInfo", "LoadedWeights", "TOODCheckpointer", "load_model", "read_checkpoint"]
