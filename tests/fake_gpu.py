"""A GPU that is not there, for tests: its tensors have shapes and types, but no values.

Inside of :func:`fake_gpu`, "cuda" is a device of PyTorch's FakeTensorMode, while tensors on the CPU
are real. Everything runs as with a GPU, including autocast and backward passes, and raises

* where tensors of both devices are mixed, as on a GPU;
* where the host waits for the GPU, which it would do silently: where it reads a value, or a size
  that depends on values, or copies between the devices. Waits that a test knows of go on, with
  invented values.

What values decide, what kernels support, how they round and how much memory they need takes a GPU.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.utils._python_dispatch import TorchDispatchMode

from tools.benchmark.host_reads import INDEXING_OPERATORS, calling_place, waiting_operator

# Operator, file, function; see `calling_place`.
Wait = tuple[str, str, str]

# What is copied to the GPU: the model once, and each batch.
WEIGHTS: dict[Wait, str] = {
    (
        "cpu to cuda",
        "detectron2/modeling/meta_arch/build.py",
        "build_model",
    ): "weights",
}
IMAGES: dict[Wait, str] = {
    ("cpu to cuda", "modeling/meta_arch.py", "preprocess_image"): "the images of a batch",
}
GROUND_TRUTH: dict[Wait, str] = {
    ("cpu to cuda", "modeling/ground_truth.py", "to_ground_truth"): "boxes and classes",
}


class HostWaits(AssertionError):
    """The host waits for the GPU at a place where it should not."""


@contextmanager
def fake_gpu(known: Mapping[Wait, str], ignored: tuple[str, ...] = ()) -> Iterator["FakeGPU"]:
    """Provide a GPU without values.

    Args:
        known: what the host waits for, and why.
        ignored: waits in files whose names begin with one of these are not looked at.

    Raises:
        HostWaits: the host waits for something else.
        AssertionError: the host did not wait for something that is known.
    """
    if not hasattr(torch._C, "_ensureCUDADeviceGuardSet"):
        pytest.skip(f"PyTorch {torch.__version__} asks the driver for fake tensors, too")
    gpu = FakeGPU(known, ignored)
    with (
        mock.patch("torch.cuda.is_available", _asked_by_a_trainer),
        mock.patch("torch.cuda.synchronize", lambda: gpu.count("synchronize")),
        mock.patch("torch.cuda.max_memory_allocated", return_value=0),
        mock.patch("torch.cuda.amp.common.amp_definitely_not_available", return_value=False),
        mock.patch("torch.cuda.is_bf16_supported", return_value=True),
        mock.patch("torch.autograd.backward", run_backward),
        FakeTensorMode(allow_non_fake_inputs=True),
        gpu,
    ):
        yield gpu
    gone = set(known) - set(gpu.waits)
    assert not gone, f"The host does not wait for these any more; remove them from the list: {gone}"


def _asked_by_a_trainer() -> bool:
    """Whether there is a GPU: for PyTorch there is none, or it would use its driver."""
    return sys._getframe(1).f_globals["__name__"].startswith(("detectron2.", "tood."))


class FakeGPU(TorchDispatchMode):
    """Runs operators of the CPU for real, and watches those of the GPU; see :func:`fake_gpu`.

    Attributes:
        waits: how often the host has waited for what is known.
    """

    def __init__(self, known: Mapping[Wait, str], ignored: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.known, self.ignored = known, ignored
        self.waits: Counter[Wait] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        device = kwargs.get("device")
        is_upload = device is not None and torch.device(device).type == "cuda"
        if not is_upload and FakeTensor not in types:
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        operator = waiting_operator(func, args, kwargs)
        if operator is not None:
            self.count(operator)
            if operator != "cpu to cuda":
                return invent(func, args, kwargs)
        try:
            return func(*args, **kwargs)
        except (DataDependentOutputException, DynamicOutputShapeException):
            self.count(func.name())  # which is not known
            raise

    def count(self, operator: str) -> None:
        """Count a wait at the place that this is called from, if it is known."""
        file, line, function = calling_place()
        wait = (operator, file, function)
        if file.startswith(self.ignored):
            return
        if wait not in self.known:
            raise HostWaits(f"The host waits for the GPU: {operator} in {file}:{line} {function}.")
        self.waits[wait] += 1


def invent(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What the host gets instead: zeros, True, and sizes as large as they can be."""
    x = args[0]
    name = func.name().removeprefix("aten::").split(".")[0]
    if name == "_local_scalar_dense":
        return True if x.dtype == torch.bool else 0.0 if x.dtype.is_floating_point else 0
    if name == "nonzero":
        return x.new_empty((x.numel(), x.dim()), dtype=torch.int64)
    if name == "torchvision::nms":
        return x.new_empty(len(x), dtype=torch.int64)
    if name in INDEXING_OPERATORS:
        indices: list[Tensor | None] = []
        for index in args[1]:
            is_mask = index is not None and index.dtype == torch.bool
            rows = index.new_empty(index.numel(), dtype=torch.int64) if is_mask else index
            indices += [rows] * (index.dim() if is_mask else 1)
        return func(x, indices, *args[2:], **kwargs)
    if name == "_to_copy":
        with unset_fake_temporarily():
            return torch.zeros(x.shape, dtype=kwargs.get("dtype") or x.dtype)
    if name == "copy_":
        return x
    raise NotImplementedError(f"Nothing is known of the results of {func.name()}")


def run_backward(tensors: Any, grad_tensors: Any = None, *_: Any, **options: Any) -> None:
    """PyTorch's backward pass in Python: its own asks the driver for the GPU's streams.

    Hooks of tensors are not called, and the graph is kept.

    Args:
        tensors: a scalar, or several.
        grad_tensors: only None.
        options: those of ``torch.autograd.backward`` that change nothing here.
    """
    assert grad_tensors is None and not options.get("create_graph") and not options.get("inputs")
    roots = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    waiting = _count_parents([root.grad_fn for root in roots])
    gradients: dict[Any, list[Tensor | None]] = {}
    with torch.no_grad():
        for root in roots:
            _add_gradient(gradients, root.grad_fn, root.output_nr, torch.ones_like(root))
        ready = [node for node in gradients if not waiting[node]]
        while ready:
            node = ready.pop()
            for child, index, gradient in _call_node(node, gradients.pop(node, None)):
                if gradient is not None:
                    _add_gradient(gradients, child, index, gradient)
                waiting[child] -= 1
                if not waiting[child]:
                    ready.append(child)


def _call_node(node: Any, values: list[Tensor | None] | None) -> list[tuple[Any, int, Any]]:
    """The nodes that follow a node, the results of theirs that it has used, and gradients of them.

    Args:
        node: of the graph.
        values: the gradients of its results; None for no gradient at all.
    """
    forms = node._input_metadata
    values = values or [None] * len(forms)
    if not isinstance(node, torch.autograd.function.BackwardCFunction):
        found = node(*values)
        found = found if isinstance(found, tuple) else (found,)
        children = node.next_functions
    else:  # Python's: it gets zeros for None, and returns something for each argument
        pairs = zip(values, forms, strict=True)
        zeros = (torch.zeros(x.shape, dtype=x.dtype, device=x.device) for x in forms)
        values = [zero if x is None else x for (x, _), zero in zip(pairs, zeros, strict=True)]
        found = node.apply(*values)
        found = found if isinstance(found, tuple) else (found,)
        found = [x for x, needed in zip(found, node.needs_input_grad, strict=False) if needed]
        children = [x for x in node.next_functions if x[0] is not None]
    edges = zip(children, found, strict=len(children) > 0)
    return [(child, index, x) for (child, index), x in edges if child is not None]


def _count_parents(roots: list[Any]) -> Counter[Any]:
    """How many edges lead to each node of the graph."""
    counts: Counter[Any] = Counter()
    stack, seen = list(roots), set(roots)
    while stack:
        for child, _ in stack.pop().next_functions:
            if child is not None:
                counts[child] += 1
                if child not in seen:
                    seen.add(child)
                    stack.append(child)
    return counts


def _add_gradient(
    gradients: dict[Any, list[Tensor | None]], node: Any, index: int, gradient: Tensor
) -> None:
    """Add to the gradient of a node's result, which the node expects in the result's form."""
    form = node._input_metadata[index]
    assert gradient.device == form.device, f"{node.name()}: a gradient on {gradient.device}"
    if gradient.shape != form.shape:
        gradient = gradient.sum_to_size(form.shape)
    if gradient.dtype != form.dtype:
        gradient = gradient.to(form.dtype)
    values = gradients.setdefault(node, [None] * len(node._input_metadata))
    earlier = values[index]
    values[index] = gradient if earlier is None else earlier + gradient
