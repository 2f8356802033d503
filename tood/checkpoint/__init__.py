"""Reading and writing weights."""

from .checkpointer import TOODCheckpointer

__all__ = ["TOODCheckpointer"]
