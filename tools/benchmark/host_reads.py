"""Finds operators that make the host wait for a GPU."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from traceback import walk_stack
from typing import Any

import detectron2
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tools import ROOT

# Where operators are called from, and what the names of its files begin with. The innermost place
# in the first package counts; those that follow are for calls that come from none before.
PACKAGES = {
    f"{ROOT / 'tood'}/": "",
    f"{Path(detectron2.__file__).parent}/": "detectron2/",
    f"{Path(torch.__file__).parent / 'amp'}/": "torch/amp/",
    f"{Path(torch.__file__).parent / 'optim'}/": "torch/optim/",
}

# Operators whose result or its size the host has to wait for. So does indexing with a mask.
READING_OPERATORS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim"}
READING_OPERATORS |= {"equal", "bincount", "unique_consecutive", "torchvision::nms"}
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
        name = waiting_operator(func, args, kwargs or {})
        if name is not None:
            file, line, function = calling_place()
            place = f"{file}:{line} {function}" if file else "elsewhere"
            self.counts[name, place] += 1
        return func(*args, **(kwargs or {}))


def waiting_operator(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """The name of what the host waits for in a call of an operator; None if it does not wait.

    On a CPU, calls that would make it wait on a GPU are named too, except copies between devices.
    Those wait in both directions, because the host's memory is not pinned.

    Args:
        func: an operator of PyTorch.
        args: of the call.
        kwargs: of the call.
    """
    name: str = func.name().removeprefix("aten::").split(".")[0]
    if name in READING_OPERATORS or (name == "repeat_interleave" and len(args) == 1):
        return name
    if name in INDEXING_OPERATORS:
        indices = [x for x in args[1] if x is not None]
        if any(x.dtype in (torch.bool, torch.uint8) for x in indices):
            return None if _is_masked_fill(args) else name
        if any(x.device.type != args[0].device.type for x in indices):
            return f"{name} from the {indices[0].device.type}"
    source = target = None
    if name in ("_to_copy", "to") and kwargs.get("device") is not None:
        source, target = args[0].device.type, torch.device(kwargs["device"]).type
    elif name == "copy_":
        source, target = args[1].device.type, args[0].device.type
    return None if source == target else f"{source} to {target}"


def _is_masked_fill(args: Sequence[Any]) -> bool:
    """Whether ``x[mask] = value`` writes a number of the host, which needs no sizes."""
    if len(args) < 3 or args[0].device.type == "cpu":  # there, who knows where the number would be
        return False
    value: Tensor = args[2]
    return value.numel() == 1 and value.device.type == "cpu"


def calling_place() -> tuple[str, int, str]:
    """File, line and function that an operator is called from; see :data:`PACKAGES`.

    Comprehensions belong to their function, as in Python 3.12. The file is "" for other packages.
    """
    found = ("", 0, "")
    best = len(PACKAGES)
    for frame, line in walk_stack(None):
        code = frame.f_code
        if code.co_name.startswith("<"):
            continue
        for rank, (folder, prefix) in enumerate(PACKAGES.items()):
            if rank < best and code.co_filename.startswith(folder):
                path = code.co_filename.removeprefix(folder)
                found, best = (f"{prefix}{path}", line, code.co_name), rank
        if best == 0:
            break
    return found
