"""Batches of training images that depend on the seed alone, and continue where they stopped."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset

from ..errors import ConfigError, DataError
from .dataset import DetectionDataset
from .drops import DropCounter
from .fetching import Fetched, Mapper, Sample, TrainingImages
from .multi_image import NUM_PARTNERS, MultiImageMapper
from .samplers import Indices, sampler_factory
from .stream import BatchStream
from .worker_signals import end_workers_at_exit, outlive_stop_signals

logger = logging.getLogger(__name__)

Batch = list[Sample]

# What the order of the batches depends on, as messages call it.
_LAYOUT = {
    "sampler": "the sampler",
    "num_images": "the number of images",
    "batch_size": "the batch size",
    "grouped": "grouping by orientation",
}


class TrainingBatches:
    """This process's share of the batches of a `BatchStream`, without end.

    It is its own iterator: whoever iterates it continues after the last batch. Workers start with
    the first batch.

    Args:
        cfg: the config; ``SOLVER.IMS_PER_BATCH``, ``SEED`` and the keys of ``DATALOADER`` are used.
        dataset: the training set, filtered.
        mapper: maps a dataset dict.
        composer: puts images together with others; None for one image at a time.

    Raises:
        ConfigError: an unknown sampler, or a batch size that the processes cannot share.
    """

    def __init__(
        self,
        cfg: CfgNode,
        dataset: DetectionDataset,
        mapper: Mapper,
        composer: MultiImageMapper | None = None,
    ) -> None:
        self.batch_size = cfg.SOLVER.IMS_PER_BATCH
        world_size = comm.get_world_size()
        if self.batch_size < 1 or self.batch_size % world_size:
            raise ConfigError(
                f"SOLVER.IMS_PER_BATCH {self.batch_size} cannot be divided among {world_size} "
                "processes. Choose a multiple of their number."
            )
        self.dataset = dataset
        self.mapper = mapper
        self.composer = composer
        self.sampler_name = cfg.DATALOADER.SAMPLER_TRAIN
        self.group_by_orientation = cfg.DATALOADER.ASPECT_RATIO_GROUPING
        self.num_workers = cfg.DATALOADER.NUM_WORKERS
        self.max_bad_images = cfg.DATALOADER.MAX_BAD_IMAGES
        self._make_sampler = sampler_factory(cfg, dataset)
        self._landscape = dataset.widths > dataset.heights
        self._seed: int = int(cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed())
        self._given_seed = int(cfg.SEED)
        self._start = 0
        self._num_batches = 0
        self._iteration = 0  # of the next batch
        self._multi_image_end: int | None = None
        self.drops = DropCounter(self.num_images)
        self._bad: dict[str, None] = {}
        self._fetched: Iterator[Fetched] | None = None

    @property
    def num_images(self) -> int:
        """Images that are drawn in an epoch."""
        return self._make_sampler(self._seed).num_images

    @property
    def bad_images(self) -> list[str]:
        """Names of the files that could not be used."""
        return list(self._bad)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        """Return the next batch.

        Raises:
            DataError: more than ``DATALOADER.MAX_BAD_IMAGES`` images cannot be used.
        """
        if self._fetched is None:
            self._fetched = self._start_fetching()
        count = self.batch_size // comm.get_world_size()
        try:
            batch = [self._accept(next(self._fetched)) for _ in range(count)]
        except Exception:
            self._fetched = None  # ends the workers
            raise
        self._num_batches += 1
        self._iteration += 1
        self.drops.finish_batch(self.batch_size)
        return batch

    def start_at(self, iteration: int, multi_image_end: int | None) -> None:
        """Say which iteration of the training the next batch is for.

        Args:
            iteration: its number; by default that of the batches drawn so far.
            multi_image_end: the first iteration in which images are no longer put together; None
                for no end.
        """
        if (iteration, multi_image_end) != (self._iteration, self._multi_image_end):
            self._fetched = None  # what workers have prepared may be of the other kind
        self._iteration, self._multi_image_end = iteration, multi_image_end

    def close(self) -> None:
        """End the workers; the next batch would start new ones."""
        self._fetched = None

    def state_dict(self) -> dict[str, Any]:
        """Return the place after the last batch that was returned, in plain types.

        Returns:
            ``seed``, ``sampler``, ``num_images`` of the dataset, ``batch_size`` over all processes,
            ``grouped``, ``world_size``; ``start``, where in the stream this order of batches
            begins, and ``num_batches`` since; ``num_drawn``, images of all batches so far; all
            equal in all processes. ``bad_images`` are those of this process.
        """
        return {
            **self._layout(),
            "seed": self._seed,
            "world_size": comm.get_world_size(),
            "start": self._start,
            "num_batches": self._num_batches,
            "num_drawn": self._start + self._num_batches * self.batch_size,
            "bad_images": self.bad_images,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue after the batches that `state_dict` counted, with the same seed.

        Another number of processes shares the same batches. With another batch size, sampler or
        dataset, a new order of batches begins at the same position in the stream.
        """
        self._fetched = None
        self._seed = int(state["seed"])
        if self._given_seed >= 0 and self._given_seed != self._seed:
            logger.warning(
                "SEED is %d, but the order of the images and their augmentation keep the seed of "
                "the checkpoint, %d.",
                self._given_seed,
                self._seed,
            )
        self._bad = dict.fromkeys(state["bad_images"])
        self._iteration = int(state["num_drawn"]) // self.batch_size
        changed = [
            f"{_LAYOUT[key]} was {state.get(key)} and is {value}"
            for key, value in self._layout().items()
            if state.get(key) != value
        ]
        world_size = comm.get_world_size()
        if changed:
            self._start, self._num_batches = int(state["num_drawn"]), 0
            logger.info(
                "Since the checkpoint, %s: training continues at position %d of the new order of "
                "images.",
                " and ".join(changed),
                self._start,
            )
            return
        self._start, self._num_batches = int(state["start"]), int(state["num_batches"])
        if state["world_size"] != world_size:
            logger.info(
                "%d processes instead of %d share the same batches.",
                world_size,
                state["world_size"],
            )

    def _layout(self) -> dict[str, Any]:
        """What the order of the batches depends on in addition to the seed."""
        return {
            "sampler": self.sampler_name,
            "num_images": len(self.dataset),
            "batch_size": self.batch_size,
            "grouped": self.group_by_orientation,
        }

    def _start_fetching(self) -> Iterator[Fetched]:
        sampler = self._make_sampler(self._seed)
        stream = BatchStream(
            sampler,
            self._seed,
            self.batch_size,
            self._landscape if self.group_by_orientation else None,
            0 if self.composer is None else NUM_PARTNERS,
        )
        images = TrainingImages(
            self.dataset,
            self.mapper,
            self._seed,
            landscape=self._landscape,
            members=sampler.members,
            composer=self.composer,
            bad_images=self._bad,
            max_bad_images=self.max_bad_images,
        )
        draws = _draws(
            stream.batches(self._start, self._num_batches), self._iteration, self._multi_image_end
        )
        return start_fetching(images, draws, self.num_workers)

    def _accept(self, fetched: Fetched) -> Sample:
        self.drops.add(fetched)
        for name, message in fetched.problems:
            if name in self._bad:
                continue
            self._bad[name] = None
            if len(self._bad) <= self.max_bad_images:
                logger.warning(
                    "%s It is skipped (%d of at most %d).",
                    message,
                    len(self._bad),
                    self.max_bad_images,
                )
                continue
            if not self.max_bad_images:
                raise DataError(
                    f"{message} To skip up to N such images, set DATALOADER.MAX_BAD_IMAGES N."
                )
            raise DataError(
                f"{message} These are more unusable images than DATALOADER.MAX_BAD_IMAGES "
                f"{self.max_bad_images} allows."
            )
        if fetched.sample is None:
            raise DataError(f"No image of {self.dataset.source} can be used.")
        return fetched.sample


def _draws(batches: Iterator[Indices], iteration: int, end: int | None) -> Iterator[list[int]]:
    """This process's images of each batch, with partners if they are put together.

    Workers get them as they are ready for more. So the iteration of the batch decides, not that of
    the training at this moment.

    No method: the iterator of the loader holds this generator, and would be in a cycle with its
    TrainingBatches. Workers of garbage do not get the message that they are to end.

    Args:
        batches: of a `BatchStream`.
        iteration: of the first batch.
        end: the first iteration in which images are not put together; None for no end.
    """
    rank, world_size = comm.get_rank(), comm.get_world_size()
    for number, batch in enumerate(batches, iteration):
        composes = end is None or number < end
        for draw in batch[rank::world_size].tolist():
            yield draw if composes else draw[:2]


def start_fetching(
    images: Dataset[Fetched], draws: Iterable[Any], num_workers: int
) -> Iterator[Fetched]:
    """Start the workers of a data loader, and yield what they fetch in the order of the draws.

    Args:
        images: is asked for one draw at a time.
        draws: what to ask for.
        num_workers: 0 fetches in this process.
    """
    fetched = iter(
        DataLoader(
            images,
            batch_size=None,
            sampler=draws,
            num_workers=num_workers,
            collate_fn=_identity,
            worker_init_fn=outlive_stop_signals,
            # Its own, because the workers' seed would be drawn from the global generator.
            generator=torch.Generator(),
        )
    )
    end_workers_at_exit(fetched)
    return fetched


def _identity(fetched: Fetched) -> Fetched:
    return fetched
