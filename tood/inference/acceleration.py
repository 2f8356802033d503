"""Faster inference: lower precision and torch.compile."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ..errors import ConfigError
from ..modeling.dense_detector import find_dense_core

#: What a model can compute in.
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def autocast_dtype(precision: str, device: str) -> torch.dtype | None:
    """The type that convolutions compute in; None for float32.

    Args:
        precision: one of :data:`PRECISIONS`.
        device: of the model.

    Raises:
        ConfigError: there is no such precision, or the device does not have it.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"Unknown precision {precision!r}. Available: {', '.join(PRECISIONS)}.")
    on_gpu = torch.device(device).type == "cuda"
    if precision == "float16" and not on_gpu:
        raise ConfigError(
            "float16 is for GPUs, and slower than float32 on a CPU. Use bfloat16 there."
        )
    if precision == "bfloat16" and on_gpu and not torch.cuda.is_bf16_supported():
        raise ConfigError("This GPU has no bfloat16. Use float16.")
    return PRECISIONS[precision]


def half_precision(device: str) -> str:
    """The lower precision that a device is fast in: float16 of a GPU, bfloat16 of a CPU."""
    return "float16" if torch.device(device).type == "cuda" else "bfloat16"


def compile_parts(model: nn.Module) -> None:
    """Compile the backbone and the head with torch.compile, for images of any size.

    They are compiled in the first call, which takes a minute. Post-processing and the ROI heads of
    a two-stage model stay as they are: their sizes vary with what is found.
    """
    core = find_dense_core(model)
    head = getattr(model, "head", None) if core is None else core.head
    for part in (getattr(model, "backbone", None), head):
        if isinstance(part, nn.Module):
            part.compile(dynamic=True)


@contextmanager
def compile_errors() -> Iterator[None]:
    """Say what helps where torch.compile cannot translate a model.

    Raises:
        ConfigError: in the place of errors of torch.compile.
    """
    from torch._dynamo import exc

    try:
        yield
    except exc.TorchDynamoException as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"torch.compile failed: {reason}. It needs a C++ compiler, such as g++; load the model "
            "without compile otherwise."
        ) from error
