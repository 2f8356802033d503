"""Gradient accumulation: an optimizer step whose batch is processed in parts."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine.train_loop import SimpleTrainer
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import ConfigError
from ..modeling.dense_detector import find_dense_core
from ..modeling.normalizers import BatchParts

Gradients = list[Tensor | None]


class GradientAccumulator:
    """Runs detectron2's training step with the batch in parts, one after the other.

    The gradient is that of the whole batch: the losses of a dense detector are divided by the
    normalizers of all parts, over all processes. Other losses are averaged over the parts.

    The normalizers are known after the last forward pass. The parts before it divide by a
    provisional one; their gradients are corrected, and the last backward pass adds its own. With
    several processes, only that one exchanges gradients. Losses with different normalizers (those
    of the warm-up phase) have a backward pass and a buffer of gradients each, in all parts but the
    last.

    Args:
        trainer: detectron2's; its model, data loader, optimizer and loss scale are used.
        num_parts: how many parts a batch has.
    """

    def __init__(self, trainer: SimpleTrainer, num_parts: int) -> None:
        self.trainer = trainer
        self.num_parts = num_parts
        self._scaler = getattr(trainer, "grad_scaler", None)

    def run_step(self, iteration: int) -> None:
        """Run one iteration.

        Args:
            iteration: its number.

        Raises:
            FloatingPointError: a loss is NaN or infinite.
        """
        trainer = self.trainer
        trainer.iter = iteration
        start = time.perf_counter()
        batch = next(trainer._data_loader_iter)
        data_time = time.perf_counter() - start
        trainer.optimizer.zero_grad()
        losses = accumulate_gradients(
            trainer.model,
            split_batch(batch, self.num_parts),
            scale=(lambda loss: loss) if self._scaler is None else self._scaler.scale,
            autocast=self._autocast,
        )
        trainer._write_metrics(losses, data_time)
        if self._scaler is None:
            trainer.optimizer.step()
        else:
            self._scaler.step(trainer.optimizer)
            self._scaler.update()

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._scaler is None:
            return nullcontext()
        device = next(self.trainer.model.parameters()).device.type
        # detectron2 main's AMPTrainer has a precision.
        return torch.autocast(device, dtype=getattr(self.trainer, "precision", torch.float16))


def build_accumulator(cfg: CfgNode, trainer: SimpleTrainer) -> GradientAccumulator | None:
    """Build the accumulator of a config; None where batches are processed as a whole.

    Args:
        cfg: the config; ``SOLVER.ACCUMULATE`` is used.
        trainer: detectron2's.
    """
    parts = cfg.SOLVER.ACCUMULATE
    return None if parts == 1 else GradientAccumulator(trainer, parts)


def split_batch(batch: Sequence[Any], num_parts: int) -> list[Sequence[Any]]:
    """Split a batch into parts of the same size, in its order.

    Raises:
        ConfigError: the images do not divide among the parts.
    """
    if not batch or len(batch) % num_parts:
        raise ConfigError(
            f"A batch of {len(batch)} images on each GPU does not divide into {num_parts} parts "
            "(SOLVER.ACCUMULATE). Choose another SOLVER.IMS_PER_BATCH."
        )
    size = len(batch) // num_parts
    return [batch[start : start + size] for start in range(0, len(batch), size)]


def accumulate_gradients(
    model: nn.Module,
    parts: Sequence[Any],
    scale: Callable[[Tensor], Tensor] = lambda loss: loss,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> dict[str, Tensor]:
    """Add the gradient of a batch in parts to the gradients of a model, which are None before.

    Args:
        model: in training mode; may be wrapped in DistributedDataParallel.
        parts: inputs of the model.
        scale: multiplies a loss before its backward pass, as ``GradScaler.scale``.
        autocast: what a forward pass runs in.

    Returns:
        The losses of the whole batch in this process, detached.
    """
    core, num_parts = find_dense_core(model), len(parts)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    buffers: list[Gradients] = []
    sums: dict[str, Tensor] = {}
    with nullcontext(BatchParts(num_parts)) if core is None else core.in_parts(num_parts) as state:
        for index in state:
            with nullcontext() if state.is_last else _no_sync(model):
                with autocast():
                    losses, groups = _group_losses(model(parts[index]), state)
                buffers = buffers or [[None] * len(parameters) for _ in groups]
                if state.is_last:
                    factors = [state.corrections.get(names[0]) for names in groups]
                    _combine(parameters, buffers, factors)
                    scale(sum(losses.values())).backward()
                else:
                    _backward(parameters, losses, groups, buffers, scale)
            for name, loss in losses.items():
                if state.is_last and name in state.corrections:
                    sums[name] = sums.get(name, 0) * state.corrections[name]
                sums[name] = sums.get(name, 0) + loss.detach()
    return sums


def _group_losses(
    losses: Tensor | dict[str, Tensor], state: BatchParts
) -> tuple[dict[str, Tensor], list[tuple[str, ...]]]:
    """The losses of a part by name, and the names of those whose gradients get one correction.

    Losses without normalizers are a group of their own. They are divided by the number of parts.
    """
    if isinstance(losses, Tensor):
        losses = {"total_loss": losses}
    groups = state.groups
    normalized = {name for group in groups for name in group}
    others = tuple(name for name in losses if name not in normalized)
    losses = {**losses, **{name: losses[name] / state.num_parts for name in others}}
    return losses, [*groups, others] if others else groups


def _backward(
    parameters: Sequence[nn.Parameter],
    losses: dict[str, Tensor],
    groups: Sequence[tuple[str, ...]],
    buffers: Sequence[Gradients],
    scale: Callable[[Tensor], Tensor],
) -> None:
    """Add the gradient of each group of losses to its buffer."""
    for names, buffer in zip(groups, buffers, strict=True):
        is_last = names is groups[-1]
        with _gradients_in(parameters, buffer):
            scale(sum(losses[name] for name in names)).backward(retain_graph=not is_last)


@contextmanager
def _gradients_in(parameters: Sequence[nn.Parameter], buffer: Gradients) -> Iterator[None]:
    """Let backward passes add to a buffer."""
    for parameter, gradient in zip(parameters, buffer, strict=True):
        parameter.grad = gradient
    try:
        yield
    finally:
        for index, parameter in enumerate(parameters):
            buffer[index] = parameter.grad
            parameter.grad = None


@torch.no_grad()
def _combine(
    parameters: Sequence[nn.Parameter],
    buffers: Sequence[Gradients],
    factors: Sequence[Tensor | None],
) -> None:
    """Correct the gradients in all buffers, and make their sum the gradients of the parameters."""
    for buffer, factor in zip(buffers, factors, strict=True):
        for parameter, gradient in zip(parameters, buffer, strict=True):
            if gradient is None:
                continue
            if factor is not None:
                gradient.mul_(factor)
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        buffer[:] = [None] * len(buffer)


def _no_sync(model: nn.Module) -> AbstractContextManager[None]:
    """Without an exchange of gradients between processes."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()
