"""Finds operators that make the host wait for a GPU."""

from collections import Counter
from traceback import walk_stack
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tools import ROOT

PACKAGE = f"{ROOT / 'tood'}/"

# Operators whose result or its size the host has to wait for. So does indexing with a mask.
READING_OPERATORS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim"}
READING_OPERATORS |= {"torchvision::nms"}
INDEXING_OPERATORS = {"index", "index_put", "index_put_", "_index_put_impl_"}


class HostReads(TorchDispatchMode):
    """Counts what makes the host wait for a GPU, by operator and innermost place in the package."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[tuple[str, str]] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Call the operator, and count it if the host has to wait for it."""
        name = func.name().removeprefix("aten::").split(".")[0]
        if name in READING_OPERATORS or (name in INDEXING_OPERATORS and _has_mask(args[1])):
            place = "elsewhere"
            for frame, line in walk_stack(None):
                code = frame.f_code
                if code.co_filename.startswith(PACKAGE):
                    place = f"{code.co_filename.removeprefix(PACKAGE)}:{line} {code.co_name}"
                    break
            self.counts[name, place] += 1
        return func(*args, **(kwargs or {}))


def _has_mask(indices: list[Tensor | None]) -> bool:
    return any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in indices)
