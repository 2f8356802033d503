"""The order of the training images, and random numbers that depend on the place in it alone."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch

from .samplers import ImageSampler, Indices

# Passes over small datasets are grouped together, which costs less per image.
_MIN_DRAWS = 4096


class BatchStream:
    """The endless sequence of batches, each over all processes.

    Images are drawn pass after pass; the position of a draw in this sequence is what its random
    augmentation is seeded with. With ``orientation``, images wait until there is a batch of one
    orientation, as in detectron2's ``AspectRatioGroupedDataset``; batches come in the order in
    which their last image is drawn. Because batches are formed before they are divided among
    processes, they do not depend on the number of processes.

    Args:
        sampler: draws the images.
        seed: of the draws.
        batch_size: images per batch, over all processes.
        orientation: (N,) of each image of the dataset; True for landscape. None not to group.
    """

    def __init__(
        self,
        sampler: ImageSampler,
        seed: int,
        batch_size: int,
        orientation: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self.sampler = sampler
        self.seed = seed
        self.batch_size = batch_size
        self.orientation = orientation

    def batches(self, start: int = 0, skip: int = 0) -> Iterator[tuple[Indices, Indices]]:
        """Yield positions (B,) and images (B,) of batch after batch.

        Args:
            start: position of the first draw; draws before it are left out.
            skip: batches after ``start`` to leave out.
        """
        waiting: list[tuple[Indices, Indices]] = [(np.empty(0, np.int64),) * 2] * 2
        for first, images in self._draws(start):
            positions = np.arange(first, first + len(images))
            landscape = (
                np.ones(len(images), bool) if self.orientation is None else self.orientation[images]
            )
            complete = []
            for group in (0, 1):
                mine = landscape == bool(group)
                pair = (
                    np.concatenate([waiting[group][0], positions[mine]]),
                    np.concatenate([waiting[group][1], images[mine]]),
                )
                end = len(pair[0]) // self.batch_size * self.batch_size
                complete.append([x[:end].reshape(-1, self.batch_size) for x in pair])
                waiting[group] = (pair[0][end:], pair[1][end:])
            all_positions = np.concatenate([complete[0][0], complete[1][0]])
            all_images = np.concatenate([complete[0][1], complete[1][1]])
            order = np.argsort(all_positions[:, -1])
            for row in order[skip:]:
                yield all_positions[row], all_images[row]
            skip = max(0, skip - len(order))

    def _draws(self, start: int) -> Iterator[tuple[int, Indices]]:
        """Yield the position of the first draw, and images, of some passes at a time."""
        generator = torch.Generator().manual_seed(self.seed)
        first = 0
        while True:
            passes: list[Indices] = []
            end = first
            while end - first < _MIN_DRAWS:
                passes.append(self.sampler.draw_pass(generator))
                end += len(passes[-1])
            images = np.concatenate(passes)
            if end > start:
                left_out = max(0, start - first)
                yield first + left_out, images[left_out:]
            first = end


@contextmanager
def seeded(seed: int, position: int) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and PyTorch (CPU) by a place in the stream.

    Their states are restored afterwards. What augments an image therefore depends neither on the
    number of workers nor on anything else that draws random numbers.

    Args:
        seed: of the training.
        position: of the image in the stream.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = np.random.SeedSequence((seed, position)).generate_state(6)
    random.seed(int(words[0]) << 32 | int(words[1]))
    np.random.seed(words[2:4])
    # Not torch.manual_seed: it would seed the GPUs too.
    torch.default_generator.manual_seed(int(words[4]) << 32 | int(words[5]))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
