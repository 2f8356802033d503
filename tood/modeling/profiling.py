"""Named ranges for PyTorch's profiler."""

from contextlib import AbstractContextManager, nullcontext

import torch

from .tracing import is_tracing


def profiler_range(name: str) -> AbstractContextManager:
    """Return a named profiler range; a no-op while the model is traced or compiled."""
    if is_tracing() or torch.compiler.is_compiling():
        return nullcontext()
    return torch.profiler.record_function(name)
