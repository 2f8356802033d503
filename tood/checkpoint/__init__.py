"""Read, convert and load weights."""

from .checkpointer import TOODCheckpointer, load_model
from .loading import LoadedWeights, read_checkpoint

__all__ = ["LoadedWeights", "TOODCheckpointer", "load_model", "read_checkpoint"]
