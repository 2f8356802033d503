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
# Sets the random numbers of partners apart from those of images, which have two numbers as seed.
_PARTNERS = 1


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
        num_partners: P, other images that are drawn for each image, to put it together with. They
            are drawn like images: of those of the same passes, each is as likely as any other.
    """

    def __init__(
        self,
        sampler: ImageSampler,
        seed: int,
        batch_size: int,
        orientation: npt.NDArray[np.bool_] | None = None,
        num_partners: int = 0,
    ) -> None:
        self.sampler = sampler
        self.seed = seed
        self.batch_size = batch_size
        self.orientation = orientation
        self.num_partners = num_partners

    def batches(self, start: int = 0, skip: int = 0) -> Iterator[Indices]:
        """Yield batch after batch: (B, 2 + P), for each image its position, itself, its partners.

        Args:
            start: position of the first draw; draws before it are left out.
            skip: batches after ``start`` to leave out.
        """
        waiting = [np.empty((0, 2 + self.num_partners), np.int64)] * 2
        for draws in self._draws(start):
            landscape = (
                np.ones(len(draws), bool)
                if self.orientation is None
                else self.orientation[draws[:, 1]]
            )
            complete = []
            for group in (0, 1):
                rows = np.concatenate([waiting[group], draws[landscape == bool(group)]])
                end = len(rows) // self.batch_size * self.batch_size
                complete.append(rows[:end].reshape(-1, self.batch_size, rows.shape[1]))
                waiting[group] = rows[end:]
            batches = np.concatenate(complete)
            order = np.argsort(batches[:, -1, 0])
            for row in order[skip:]:
                yield batches[row]
            skip = max(0, skip - len(order))

    def _draws(self, start: int) -> Iterator[Indices]:
        """Yield positions, images and partners (n, 2 + P) of some passes at a time."""
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
                columns = [np.arange(first, end)[:, None], images[:, None]]
                if self.num_partners:
                    columns.append(self._partners(images, first))
                yield np.concatenate(columns, axis=1)[max(0, start - first) :]
            first = end

    def _partners(self, images: Indices, first: int) -> Indices:
        """Draw partners (n, P) for the images of some passes, which begin at a position."""
        # Of its own, so that the order of the images does not depend on them.
        generator = np.random.default_rng((self.seed, first, _PARTNERS))
        return images[generator.integers(len(images), size=(len(images), self.num_partners))]


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
