"""Adds up a few integers over all processes, once per iteration."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from detectron2.utils import comm

from ..compat import gloo_group


class StepSums:
    """Sums integers over all processes without waiting for the slowest one.

    A call starts to add up this iteration's values and returns the sums of the previous call, which
    have had an iteration's time to arrive. All processes get the same sums in the same iteration.
    A single process gets its own values at once. The sums travel over gloo, so that a GPU is
    neither used nor waited for.

    Args:
        num_values: how many integers.
    """

    def __init__(self, num_values: int) -> None:
        self.num_values = num_values
        self._pending: tuple[dist.Work, torch.Tensor] | None = None

    def exchange(self, values: Sequence[int]) -> list[int]:
        """Add this process's values; return the sums of the previous call, at first zeros."""
        if comm.get_world_size() == 1:
            return list(values)
        previous = self._collect()
        sums = torch.tensor(values, dtype=torch.int64)
        work = dist.all_reduce(sums, group=gloo_group(), async_op=True)
        self._pending = work, sums
        return previous

    def _collect(self) -> list[int]:
        if self._pending is None:
            return [0] * self.num_values
        work, sums = self._pending
        work.wait()
        self._pending = None
        return [int(value) for value in sums]

    def close(self) -> None:
        """Wait for what is under way, at the end of training."""
        self._collect()
