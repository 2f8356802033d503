"""``tood detect-dataset``: detect objects in any number of images, in any number of processes."""

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode

from tood_runtime.cli.detection_options import detection_options
from tood_runtime.cli.parser import EXIT_NOTHING_DONE, EXIT_OK
from tood_runtime.dataset.batch_detector import BatchDetector
from tood_runtime.dataset.finishing import SUMMARY_FILE, Summary
from tood_runtime.dataset.listing import list_images
from tood_runtime.dataset.manifest import RunSettings
from tood_runtime.dataset.rows import import_pyarrow
from tood_runtime.dataset.run import DatasetRun, read_result
from tood_runtime.output_files import make_output_folder

from ..engine.child_processes import run_processes, stop_with_parent
from ..engine.launch import asks_for_cpu, gpu_index
from ..engine.launchers import Launcher, detect_launcher
from ..engine.signals import TrainingInterrupted, stop_request
from ..errors import ConfigError
from ..inference.acceleration import half_precision
from ..inference.detector import Detector
from ..inference.identity import model_identity, software_versions
from .common import exit_on_user_error, load_model_config, start_logging

logger = logging.getLogger(__name__)


def main(args: argparse.Namespace) -> int:
    """Run detection in this process, or in those that ``--num-gpus`` asks for.

    Args:
        args: the options of ``tood detect-dataset``.

    Returns:
        0, or 1 if no image could be read; otherwise that of the first process that failed.

    Raises:
        ConfigError: the command line does not fit this machine or what has started this process.
    """
    start_logging()
    launcher = detect_launcher(os.environ)
    _validate(args, launcher)
    folder = make_output_folder(args.output)
    if launcher is None and (args.num_gpus or 1) > 1:
        places = [_place(rank, args.num_gpus) for rank in range(args.num_gpus)]
        code = run_processes(run_in_child, args, places, independent=True)
        summary = read_result(folder)
        if summary is None or code in (EXIT_OK, EXIT_NOTHING_DONE):
            return code
        logger.warning("A process has failed; the others have done its images.")
        return _exit_code(summary)
    if launcher is not None and launcher.name == "torchrun":  # killed, it leaves its processes
        stop_with_parent(os.getppid())
    return run(args, launcher)


def run_in_child(args: argparse.Namespace, place: Launcher | None) -> None:
    """Run one of several processes; exits with its code."""
    start_logging()
    with exit_on_user_error():
        code = run(args, place)
    sys.exit(code)


def run(args: argparse.Namespace, place: Launcher | None = None) -> int:
    """Take part in a run until it is finished.

    Args:
        args: the options of ``tood detect-dataset``.
        place: of this process among several; None if it is alone.

    Returns:
        0, or 1 if no image could be read.
    """
    cfg = load_model_config(args, exported=True)
    _choose_device(cfg, place)
    precision = half_precision(cfg.MODEL.DEVICE) if args.half else "float32"
    detector = Detector.from_config(cfg, precision=precision, compile=args.compile)
    batch_detector = BatchDetector(detector, **detection_options(args))
    model = {**model_identity(cfg), "precision": precision}
    settings = _settings(args, model, batch_detector)
    is_first = place is None or place.rank == 0
    name = "" if place is None else f"process {place.rank} of {place.world_size}"
    dataset_run = DatasetRun(Path(args.output), name)
    try:
        with stop_request.installed():
            dataset_run.prepare(
                settings,
                lambda: list_images(args.inputs, args.images),
                check_images=is_first and not args.as_listed,
                retry_errors=is_first and args.retry_errors,
            )
            summary = dataset_run.work(batch_detector)
    except TrainingInterrupted as end:
        logger.warning(
            "Stopped by %s. Finished shards are kept; run the same command to go on.",
            end.signal_name,
        )
        raise
    finally:
        dataset_run.close()
    if is_first:
        _log_summary(summary, Path(args.output))
    return _exit_code(summary)


def _settings(
    args: argparse.Namespace, model: dict[str, str], batch_detector: BatchDetector
) -> RunSettings:
    detector = batch_detector.detector
    options: dict[str, Any] = {
        name: value for name, value in detection_options(args).items() if name != "batch_size"
    }
    return RunSettings(
        sources=[name if "://" in name else os.path.abspath(name) for name in args.inputs],
        image_folder=None if args.images is None else os.path.abspath(args.images),
        format=args.format,
        shard_size=args.shard_size,
        model=model,
        options=options,
        class_names=detector.class_names,
        category_ids=detector.category_ids,
        batch_size=batch_detector.batch_size,
        software=software_versions(),
        working_directory=os.getcwd(),
    )


def _choose_device(cfg: CfgNode, place: Launcher | None) -> None:
    """Give each process of a machine a GPU of its own, or its share of the CPU's cores."""
    on_gpu = cfg.MODEL.DEVICE.startswith("cuda") and torch.cuda.is_available()
    if place is None:
        return
    if on_gpu:
        torch.cuda.set_device(gpu_index(place, cfg.MODEL.DEVICE))
    elif "OMP_NUM_THREADS" not in os.environ:
        cores = len(os.sched_getaffinity(0))
        torch.set_num_threads(max(1, cores // place.local_size))


def _validate(args: argparse.Namespace, launcher: Launcher | None) -> None:
    """Check the command line before anything is loaded.

    Raises:
        ConfigError: it cannot work.
    """
    if args.format == "parquet":
        import_pyarrow("pyarrow.parquet")
    if args.num_gpus is None:
        return
    if args.num_gpus < 1:
        raise ConfigError(f"--num-gpus must be at least 1, not {args.num_gpus}.")
    if launcher is not None and args.num_gpus != launcher.local_size:
        raise ConfigError(
            f"--num-gpus is {args.num_gpus}, but {launcher.name} has {launcher.local_size} "
            "processes on this machine. Leave the option out: the launcher decides."
        )
    available = torch.cuda.device_count()
    if launcher is None and args.num_gpus > max(available, 1) and not asks_for_cpu(args):
        gpus = "1 GPU" if available == 1 else f"{available} GPUs"
        raise ConfigError(
            f"--num-gpus {args.num_gpus} exceeds the {gpus} on this machine. With --device cpu, it "
            f"starts {args.num_gpus} processes on the CPU."
        )


def _place(rank: int, size: int) -> Launcher:
    return Launcher(
        name="tood detect-dataset",
        rank=rank,
        world_size=size,
        local_rank=rank,
        local_size=size,
        address="",
        port=0,
    )


def _log_summary(summary: Summary, folder: Path) -> None:
    by_class = ", ".join(f"{count} {name}" for name, count in list(summary.by_class.items())[:10])
    more = len(summary.by_class) - 10
    if more > 0:
        by_class += f", and {more} more classes in {SUMMARY_FILE}"
    logger.info(
        "%d objects in %d images%s. Results: %s",
        summary.detections,
        summary.images - summary.errors,
        f" ({by_class})" if by_class else "",
        folder,
    )
    if summary.errors:
        logger.warning(
            "%d of %d images could not be read; the column error says why (errors.json of --format "
            "coco).",
            summary.errors,
            summary.images,
        )


def _exit_code(summary: Summary) -> int:
    return EXIT_OK if summary.images > summary.errors else EXIT_NOTHING_DONE
