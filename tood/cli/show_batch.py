"""``tood show-batch``: what a model is trained on, as it gets it."""

import argparse
from itertools import islice

from detectron2.config import CfgNode

from tood_runtime.cli.parser import EXIT_OK
from tood_runtime.image_writing import save_image
from tood_runtime.output_files import make_output_folder

from ..analysis.batch_figures import draw_batch
from ..config.validation import validate_batches
from ..data import TrainLoader, build_train_loader, setup_datasets
from ..data.batches import TrainingBatches
from ..data.mapper import DetectionMapper
from ..engine.schedule import multi_image_end, schedule_epochs
from ..errors import ConfigError
from .common import load_model_config, start_logging


def main(args: argparse.Namespace) -> int:
    """Write the drawings and print their paths.

    Args:
        args: the options of ``tood show-batch``.

    Raises:
        ConfigError: a setting cannot work, or training has no such iteration.
        DataError: a dataset or an image cannot be used.
    """
    start_logging()
    cfg = load_model_config(args, trained=False, opts=["MODEL.DEVICE", args.device or "cpu"])
    validate_batches(cfg)
    cfg.DATASETS.TEST, cfg.DATASETS.TEST_ANNOTATIONS, cfg.DATASETS.TEST_IMAGES = (), "", ""
    setup_datasets(cfg, ("TRAIN",))
    cfg.DATALOADER.NUM_WORKERS = 0  # the batches do not depend on them
    output = make_output_folder(args.output)
    cfg, batches = build_batches(cfg, args.iteration)
    print(f"seed {batches.state_dict()['seed']}", end="")
    print("" if cfg.SEED >= 0 else " (SEED is negative, so training draws another one)")
    for iteration, batch in enumerate(islice(batches, args.num_batches), args.iteration):
        drawing = draw_batch(batch, cfg.INPUT.FORMAT, batches.dataset.class_names)
        path = output / f"batch-{iteration:06d}.png"
        save_image(drawing, path)
        boxes, crowds = (
            sum(len(sample[key]) for sample in batch) for key in ("instances", "crowds")
        )
        print(f"{path}: {len(batch)} images, {boxes} boxes, {crowds} crowds")
    drops = batches.drops
    if drops.num_dropped:
        print(f"Augmentation has cut away {drops.num_dropped} of {drops.num_objects} objects.")
    return EXIT_OK


def build_batches(cfg: CfgNode, iteration: int) -> tuple[CfgNode, TrainingBatches]:
    """Build the batches of a training, from an iteration of it on.

    Args:
        cfg: after `tood.data.setup_datasets`; batch and schedule are taken as they are, for the
            number of processes that they are written for.
        iteration: that of the first batch.

    Returns:
        The config with its schedule in iterations, and the batches, whose images have their crowds.

    Raises:
        ConfigError: training ends before the iteration.
    """
    cfg.SOLVER.REFERENCE_WORLD_SIZE = 0

    def build(cfg: CfgNode) -> TrainLoader:
        return build_train_loader(cfg, DetectionMapper(cfg, is_train=True, with_crowds=True))

    cfg, loader = schedule_epochs(cfg, build)
    loader = loader or build(cfg)
    if iteration >= cfg.SOLVER.MAX_ITER:
        raise ConfigError(
            f"--iteration is {iteration}, but training ends after {cfg.SOLVER.MAX_ITER} "
            "iterations, counted from 0. Use a smaller number."
        )
    batches = loader.loader
    assert isinstance(batches, TrainingBatches)
    batches.load_state_dict({**batches.state_dict(), "num_batches": iteration})
    batches.start_at(iteration, multi_image_end(cfg, loader.num_images))
    return cfg, batches
