"""Data loaders of the trainer and of evaluation."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils import comm
from tabulate import tabulate

from ..errors import ConfigError, DataError
from .batches import Batch, TrainingBatches, start_fetching
from .dataset import DetectionDataset, concatenate
from .fetching import Mapper, TestImages
from .filtering import filter_training_set
from .keypoints import min_keypoints
from .mapper import DetectionMapper, ErrorContextMapper
from .multi_image import MultiImageMapper, uses_several_images
from .registration import load_dataset

logger = logging.getLogger(__name__)
# With detectron2's loggers of data: such details go to log.txt, not to the terminal.
_detail_logger = logging.getLogger("detectron2.data.tood")


class TrainLoader:
    """A training loader that knows the length of an epoch and can continue.

    Args:
        loader: an endless iterable of batches: a `TrainingBatches`, or your own. It is not
            iterated before the first batch is asked for. It may have ``state_dict``,
            ``load_state_dict`` and ``bad_images``; without them, it starts over after a resume. Its
            ``close``, if it has one, is called at the end of a training.
        num_images: images that are drawn in an epoch.
    """

    def __init__(self, loader: Iterable[Batch], num_images: int) -> None:
        self.loader = loader
        self.num_images = num_images

    def __iter__(self) -> Iterator[Batch]:
        yield from self.loader

    def state_dict(self) -> dict[str, Any]:
        """Return where the loader is, in plain types; see `TrainingBatches.state_dict`."""
        return self.loader.state_dict() if hasattr(self.loader, "state_dict") else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue after the batches that `state_dict` counted."""
        if state and hasattr(self.loader, "load_state_dict"):
            self.loader.load_state_dict(state)
        else:
            logger.warning("The order of the training images starts over: it was not saved.")

    def start_at(self, iteration: int, multi_image_end: int | None) -> None:
        """Say which iteration the next batch is for; see `TrainingBatches.start_at`."""
        if hasattr(self.loader, "start_at"):
            self.loader.start_at(iteration, multi_image_end)

    def close(self) -> None:
        """End the workers, where the loader has any."""
        if hasattr(self.loader, "close"):
            self.loader.close()

    @property
    def bad_images(self) -> list[str]:
        """Names of the files that could not be used, in the order in which they were met."""
        return list(getattr(self.loader, "bad_images", ()))


class TestLoader:
    """The images of this process, one per batch; see `build_test_loader`."""

    __test__ = False  # pytest takes classes of this name for tests

    def __init__(self, images: TestImages, num_workers: int) -> None:
        self.images = images
        self.num_workers = num_workers
        rank, world_size = comm.get_rank(), comm.get_world_size()
        size = len(images)
        self.indices = range(size * rank // world_size, size * (rank + 1) // world_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Batch]:
        for fetched in start_fetching(self.images, self.indices, self.num_workers):
            if fetched.sample is None:
                raise DataError(fetched.problems[0][1])
            yield [fetched.sample]


def load_training_set(cfg: CfgNode) -> DetectionDataset:
    """Load the images that training uses, after filtering.

    Args:
        cfg: the config, after `tood.data.setup_datasets`.

    Raises:
        DataError: no training set is given, or it has no usable annotation.
    """
    if not cfg.DATASETS.TRAIN:
        raise DataError(
            "DATASETS.TRAIN is empty. Name a registered dataset, or set "
            "DATASETS.TRAIN_ANNOTATIONS and DATASETS.TRAIN_IMAGES."
        )
    dataset = concatenate([load_dataset(name) for name in cfg.DATASETS.TRAIN])
    dataset = filter_training_set(
        dataset, cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS, min_keypoints(cfg)
    )
    _detail_logger.info(
        "Distribution of instances among all %d categories:\n%s",
        len(dataset.class_names),
        _class_table(dataset),
    )
    return dataset


def _class_table(dataset: DetectionDataset) -> str:
    """How many boxes each class has, without crowds."""
    counts = dataset.num_objects_by_class.tolist()
    rows = [*zip(dataset.class_names, counts, strict=True), ("total", sum(counts))]
    return tabulate(rows, ["category", "instances"], tablefmt="github", disable_numparse=True)


def build_train_loader(cfg: CfgNode, mapper: Mapper | None = None) -> TrainLoader:
    """Build the training loader over the filtered training set.

    Args:
        cfg: the config, after `tood.data.setup_datasets`.
        mapper: maps one of detectron2's dataset dicts; by default `DetectionMapper`.

    Raises:
        ConfigError: see `TrainingBatches`; or mosaic or mix-up with a mapper of your own.
        DataError: see `load_training_set`. While iterating: an image cannot be used.
    """
    dataset = load_training_set(cfg)
    if mapper is None:
        mapper = DetectionMapper(cfg, is_train=True)
        _detail_logger.info("Augmentations used in training: %s", mapper.augmentations)
    composer = None
    if uses_several_images(cfg):
        if not isinstance(mapper, DetectionMapper):
            raise ConfigError(
                "INPUT.MOSAIC and INPUT.MIXUP need tood.data.mapper.DetectionMapper, but the "
                f"loader was given a {type(mapper).__name__}. Set their ENABLED to False, or "
                "derive your mapper from it."
            )
        composer = MultiImageMapper(cfg, mapper)
    batches = TrainingBatches(cfg, dataset, ErrorContextMapper(mapper), composer)
    return TrainLoader(batches, batches.num_images)


def build_test_loader(
    cfg: CfgNode, dataset_name: str, mapper: Mapper | None = None
) -> Iterable[Batch]:
    """Build the test loader of a dataset. Every image is in one batch of one process.

    With ``TEST.LOSS``, each has its ground truth as "instances", as training has it.

    Args:
        cfg: the config, after `tood.data.setup_datasets`.
        dataset_name: of a registered dataset.
        mapper: maps one of detectron2's dataset dicts; by default `DetectionMapper`.

    Raises:
        DataError: while iterating: an image cannot be used.
    """
    dataset = load_dataset(dataset_name)
    if mapper is None:
        mapper = DetectionMapper(cfg, is_train=False, with_ground_truth=cfg.TEST.LOSS)
        if cfg.TEST.LOSS:
            dataset = dataset.select_boxes(dataset.is_object)
    images = TestImages(dataset, ErrorContextMapper(mapper))
    return TestLoader(images, cfg.DATALOADER.NUM_WORKERS)
