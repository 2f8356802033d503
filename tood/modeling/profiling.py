"""Named ranges for PyTorch's profiler."""

from contextlib import AbstractContextManager, nullcontext

import torch


def profiler_range(name: str) -> AbstractContextManager:
    """A named range for PyTorch's profiler; nothing where the model is traced or compiled."""
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return nullcontext()
    return torch.profiler.record_function(name)
