"""What differs while a model is traced: one graph has to be right for every batch and size.

The layers ask :func:`is_tracing` where their fastest eager form would write a size, or a loop over
the images, into the graph.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import torch

DeformConvOperator = Literal["torchvision", "gather"]

_EXPORTER_RUNS: ContextVar[bool] = ContextVar("exporter_runs", default=False)
_DEFORM_CONV: ContextVar[DeformConvOperator] = ContextVar("deform_conv", default="torchvision")


def is_tracing() -> bool:
    """Whether ``torch.jit.trace`` or ``torch.export`` records the operators that run now.

    ``torch.compile`` does not count: it translates again for sizes that a graph is wrong for.
    """
    # torch.compiler.is_exporting came with PyTorch 2.7. In some versions (2.11) it is true in
    # torch.compile as well.
    is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
    return bool(
        torch.jit.is_tracing() or (is_exporting() and not torch.compiler.is_dynamo_compiling())
    )


def deform_conv_operator() -> DeformConvOperator:
    """The operator that deformable convolutions are traced as."""
    return _DEFORM_CONV.get()


@contextmanager
def exporting(deform_conv: DeformConvOperator = "torchvision") -> Iterator[None]:
    """Trace a model that gets its sizes as tensors; ``tood.export`` does.

    Args:
        deform_conv: trace deformable convolutions as torchvision's operator, or as gathers for
            runtimes that lack one.
    """
    tokens = _EXPORTER_RUNS.set(True), _DEFORM_CONV.set(deform_conv)
    try:
        yield
    finally:
        _EXPORTER_RUNS.reset(tokens[0])
        _DEFORM_CONV.reset(tokens[1])


def refuse_foreign_tracing() -> None:
    """Raise where something else than ``tood.export`` traces a whole model.

    The number of images, their sizes and the number of candidates become constants then: the traced
    model runs on other images too, and is wrong by hundreds of pixels. fvcore's FLOP counter is let
    through, because it never runs what it traces.

    Raises:
        RuntimeError: the sentence that names the exporter.
    """
    if not is_tracing() or _EXPORTER_RUNS.get() or _counts_flops():
        return
    raise RuntimeError(
        "TOOD cannot be traced like this: the result would be wrong on images of another size. Use "
        "tood.export.export_model, or the command tood export, which writes ONNX, TorchScript, "
        "torch.export and OpenVINO files for any size and verifies them."
    )


def _counts_flops() -> bool:
    frame = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("fvcore.nn."):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
