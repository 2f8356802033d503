"""The exponential moving average (EMA) of the weights over training."""

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


class WeightAverage:
    """The average of a model's weights and buffers, in memory of its own.

    ``average = d * average + (1 - d) * weights`` after each step, with ``d = decay * (1 - exp(-n /
    ramp_up))`` at the n-th: an average of few steps would otherwise be mostly the initialization.
    What is no floating-point number, such as a counter, is copied.

    Args:
        model: the model, without a wrapper of DistributedDataParallel. Its processes have the same
            weights, and so the same average, without a word to each other.
        decay: d, at the end; 0 to 1.
        ramp_up: in steps; 0 for none.
    """

    def __init__(self, model: nn.Module, decay: float, ramp_up: float) -> None:
        self.decay, self.ramp_up = decay, ramp_up
        self.num_updates = 0
        self._model = model
        self._is_swapped = False
        self._values = self._copy()

    def _copy(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self._model.state_dict().items()}

    def start(self) -> None:
        """Begin with the current weights, after others were loaded."""
        self.num_updates, self._values = 0, self._copy()

    @torch.no_grad()
    def update(self) -> None:
        """Add the current weights."""
        self.num_updates += 1
        ramp = 1 - math.exp(-self.num_updates / self.ramp_up) if self.ramp_up else 1.0
        averages, weights = [], []
        for name, value in self._model.state_dict().items():
            if value.is_floating_point():
                averages.append(self._values[name])
                weights.append(value.detach())
            else:
                self._values[name].copy_(value)
        torch._foreach_lerp_(averages, weights, 1 - self.decay * ramp)

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """Put the average into the model, and keep the weights here meanwhile."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, value in self._model.state_dict().items():
            kept = value.clone()
            value.copy_(self._values[name])
            self._values[name].copy_(kept)
        self._is_swapped = not self._is_swapped

    def state_dict(self) -> dict[str, Any]:
        """Return the weights, while the model has the average; so checkpoints are written.

        Raises:
            RuntimeError: outside of `in_model`.
        """
        if not self._is_swapped:
            raise RuntimeError("A checkpoint has the average as its model: save it in in_model().")
        return {"num_updates": self.num_updates, "weights": dict(self._values)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore average and weights, after the checkpoint's model was loaded: the average."""
        self.num_updates = int(state_dict["num_updates"])
        self._values = self._copy()
        with torch.no_grad():
            for name, value in self._model.state_dict().items():
                value.copy_(state_dict["weights"][name])


def build_average(cfg: CfgNode, model: nn.Module) -> WeightAverage | None:
    """Build the average that ``SOLVER.EMA`` asks for; None if it does not.

    Args:
        cfg: the config.
        model: the model, which DistributedDataParallel may wrap.
    """
    node = cfg.SOLVER.EMA
    if not node.ENABLED:
        return None
    if isinstance(model, DistributedDataParallel):
        model = model.module
    return WeightAverage(model, node.DECAY, node.RAMP_UP)


def put_into_model(average: WeightAverage | None) -> AbstractContextManager[None]:
    """What is evaluated and saved is the average, if there is one."""
    return nullcontext() if average is None else average.in_model()


class WeightAverageHook(HookBase):
    """Updates the average after each step.

    Args:
        average: of the trainer's model.
    """

    def __init__(self, average: WeightAverage) -> None:
        self._average = average
        self._is_resumed = False

    def before_train(self) -> None:
        """Start from the weights that the training starts from."""
        if not self._is_resumed:
            self._average.start()

    def after_step(self) -> None:
        """Update the average."""
        self._average.update()

    def state_dict(self) -> dict[str, Any]:
        """See `WeightAverage.state_dict`."""
        return self._average.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `WeightAverage.load_state_dict`."""
        self._average.load_state_dict(state_dict)
        self._is_resumed = True
