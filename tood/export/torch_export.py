"""torch.export files (.pt2): PyTorch's own format, a graph of ATen operators.

The program takes any batch and size, as the other formats do. AOTInductor and Torch-TensorRT
compile such programs further; neither was run here.
"""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._sympy.value_ranges import ValueRanges

from tood_runtime.backends.base import one_line
from tood_runtime.image_io import printable_path
from tood_runtime.model_files import read_model_info
from tood_runtime.model_info import ModelFileError, ModelInfo

from ..errors import ExportError
from .quiet import quiet
from .wrapper import ExportableNetwork

# The first with torch.fx.experimental._config.backed_size_oblivious and module(check_guards=False).
MIN_TORCH = (2, 9)


def to_torch_export(
    network: ExportableNetwork, inputs: tuple[Tensor, ...], dynamic: bool | Collection[str] = True
) -> Any:
    """Export a network with torch.export.

    Call it within :func:`tood.modeling.tracing.exporting`. It takes a minute: PyTorch reasons about
    the symbolic sizes of a thousand operators.

    Args:
        network: in evaluation mode, of the "portable" NMS form.
        inputs: examples of its inputs.
        dynamic: which of "batch", "height" and "width" stay symbolic, True for all; the others are
            those of ``inputs``.

    Returns:
        The ``torch.export.ExportedProgram``. Run its ``module(check_guards=False)``: while tracing,
        PyTorch records guesses about memory layouts, such as "the batch is not 1", as conditions on
        the input. The operators depend on none of them.

    Raises:
        ExportError: this PyTorch is too old.
    """
    _require_torch()
    axes = network.symbolic_axes(dynamic)
    shapes = {
        name: dict.fromkeys(axes.get(name, {}), torch.export.Dim.DYNAMIC)
        for name in network.input_names
    }
    # One tensor given twice would become one input, which the program then reads for both.
    inputs = tuple(x.clone() for x in inputs)
    with torch.no_grad(), _quiet_and_fast():
        program = torch.export.export(network, inputs, dynamic_shapes=shapes, strict=False)
    # The same guesses raise the lower limits of the inputs' sizes, which the module checks.
    for symbol, limits in program.range_constraints.items():
        if str(symbol).startswith("s"):  # of an input, not of a result
            program.range_constraints[symbol] = ValueRanges(1, limits.upper)
    return program


def save_torch_export(program: Any, path: Path, info: ModelInfo) -> None:
    """Write an exported program with its metadata, one extra file per key."""
    with _quiet_and_fast():
        torch.export.save(program, str(path), extra_files=info.to_strings())


def open_torch_export(path: str | os.PathLike[str]) -> tuple[Any, ModelInfo]:
    """Load a file that :func:`save_torch_export` wrote.

    Returns:
        The module, and what the file says about its model.

    Raises:
        ModelFileError: the file is missing, damaged, or not one of ours.
        ExportError: this PyTorch is too old.
    """
    import torchvision  # noqa: F401 (registers its operators)

    _require_torch()
    info = read_model_info(path)
    try:
        with _quiet_and_fast():
            program = torch.export.load(str(path))
    except Exception as error:  # whatever its readers raise
        raise ModelFileError(
            f"{printable_path(Path(path))} is not a program that PyTorch {torch.__version__} reads "
            f"({one_line(error)}). Export it again."
        ) from error
    return program.module(check_guards=False), info


def has_torch_export() -> bool:
    """Whether this PyTorch is new enough to write and read the files."""
    return tuple(int(number) for number in torch.__version__.split(".")[:2]) >= MIN_TORCH


def _require_torch() -> None:
    if not has_torch_export():
        needed = ".".join(map(str, MIN_TORCH))
        raise ExportError(
            f"torch.export files need PyTorch {needed} or newer; this is {torch.__version__}. "
            "Update it, or use --format torchscript."
        )


@contextmanager
def _quiet_and_fast() -> Iterator[None]:
    """PyTorch's settings for symbolic sizes.

    Sizes of 0 and 1 are treated like any other, so that one program is right for them too. The
    cache of fake tensors compares symbolic sizes, which takes longer than computing them.
    """
    import torch._dynamo.config as dynamo_config
    import torch.fx.experimental._config as fx_config

    with (
        quiet("torch.export"),
        fx_config.patch(backed_size_oblivious=True),
        dynamo_config.patch(fake_tensor_cache_enabled=False),
    ):
        yield
