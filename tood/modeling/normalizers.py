"""What losses are divided by: normalizers of a batch, whole or processed in parts.

A normalizer is the number of positives of a batch, or the sum of their weights. It is averaged over
all processes, so that the gradient is that of one process with all images, and at least 1.
"""

from collections.abc import Iterator, Mapping

import torch
from detectron2.utils import comm
from torch import Tensor

from .structures import LossSum

# A power of two, by which floats are multiplied and divided exactly. About what a batch of 2 COCO
# images has, so that the gradients of AMP have their usual size.
PROVISIONAL_NORMALIZER = 64.0


def batch_normalizers(sums: Mapping[str, LossSum]) -> dict[str, Tensor]:
    """The normalizer of each loss: the mean over all processes, at least 1.

    Args:
        sums: of this process. All processes call this together.
    """
    stacked = torch.stack([loss.normalizer for loss in sums.values()]).detach()
    world_size = comm.get_world_size()
    if world_size > 1:
        torch.distributed.all_reduce(stacked)
    return dict(zip(sums, (stacked / world_size).clamp(min=1), strict=True))


class BatchParts:
    """A batch that is processed in parts, for the gradient of the whole batch.

    Its normalizers are known only after the forward pass of the last part, because labels may
    depend on predictions. All other parts divide by `PROVISIONAL_NORMALIZER`; the last one divides
    by the normalizers of the whole batch, and `corrections` are the factors for the gradients and
    losses of the others.

    Args:
        num_parts: how many parts there are, at least 1.
    """

    def __init__(self, num_parts: int) -> None:
        self.num_parts = num_parts
        self.index = 0  # of the part that is processed now
        self.corrections: dict[str, Tensor] = {}
        self._sums: dict[str, Tensor] = {}
        self._groups: list[tuple[str, ...]] = []

    @property
    def is_first(self) -> bool:
        """Whether this is the first part."""
        return self.index == 0

    @property
    def is_last(self) -> bool:
        """Whether this is the last part."""
        return self.index == self.num_parts - 1

    @property
    def groups(self) -> list[tuple[str, ...]]:
        """The losses that share a normalizer, by name; their gradients need one correction."""
        return list(self._groups)

    def __iter__(self) -> Iterator[int]:
        """Go through the parts; `index` follows."""
        for index in range(self.num_parts):
            self.index = index
            yield index

    def normalizers(self, sums: Mapping[str, LossSum]) -> dict[str, Tensor]:
        """What the losses of this part are divided by.

        Args:
            sums: of this part. In the last part, all processes call this together.

        Raises:
            RuntimeError: the part has other losses than the first one, or other shared normalizers.
        """
        groups = _group(sums)
        if self.is_first:
            self._groups = groups
        elif groups != self._groups:
            raise RuntimeError(
                f"The parts of a batch need the same losses with the same shared normalizers, but "
                f"part 1 has {self._groups} and part {self.index + 1} has {groups}."
            )
        for name, loss in sums.items():
            own = loss.normalizer.detach().float()
            self._sums[name] = self._sums[name] + own if name in self._sums else own
        if not self.is_last:
            return {
                name: torch.full_like(self._sums[name], PROVISIONAL_NORMALIZER) for name in sums
            }
        whole = {name: LossSum(loss.total, self._sums[name]) for name, loss in sums.items()}
        normalizers = batch_normalizers(whole)
        self.corrections = {
            name: PROVISIONAL_NORMALIZER / value for name, value in normalizers.items()
        }
        return normalizers


def _group(sums: Mapping[str, LossSum]) -> list[tuple[str, ...]]:
    """Names of the losses that share one tensor as their normalizer."""
    groups: dict[int, list[str]] = {}
    for name, loss in sums.items():
        groups.setdefault(id(loss.normalizer), []).append(name)
    return [tuple(names) for names in groups.values()]
