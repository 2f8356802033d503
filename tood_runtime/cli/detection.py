"""The body of the detection programs: ``tood detect`` and ``python -m tood_runtime``."""

import argparse
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ..detection_run import DetectionRun
from ..image_detector import ImageDetector
from ..output_files import OutputError
from ..outputs import (
    CocoFile,
    CropsFolder,
    CsvFile,
    Drawings,
    Output,
    ParquetFile,
    Window,
    YoloFolder,
)
from ..outputs.tables import index_path
from ..sources import Input, collect_inputs
from ..tracking import require_trackers
from .detection_options import DEFAULT_OUTPUT, detection_options
from .parser import EXIT_NOTHING_DONE, EXIT_OK
from .signals import exit_on_signals

logger = logging.getLogger(__name__)

_STDOUT = "-"


def make_outputs(args: argparse.Namespace, inputs: Sequence[Input]) -> list[Output]:
    """The outputs that the options of :func:`add_outputs` name.

    Args:
        args: the options.
        inputs: what is detected in.

    Raises:
        OutputError: one cannot be written.
        SourceError: one would overwrite an input.
        MissingPackageError: one needs a package that is not installed.
    """
    _require_free(args, inputs)
    outputs: list[Output] = []
    if args.json is not None:
        outputs.append(CocoFile(None if args.json == _STDOUT else args.json))
    outputs += [CsvFile(args.csv)] if args.csv is not None else []
    outputs += [ParquetFile(args.parquet)] if args.parquet is not None else []
    outputs += [YoloFolder(args.yolo, inputs)] if args.yolo is not None else []
    outputs += [CropsFolder(args.crops, inputs)] if args.crops is not None else []
    outputs += [Window()] if args.show else []
    if args.output is not None or not outputs:
        folder = args.output or DEFAULT_OUTPUT
        outputs.append(Drawings(folder, inputs, f".{args.video_format}"))
    return outputs


def _require_free(args: argparse.Namespace, inputs: Sequence[Input]) -> None:
    """Check that the tables overwrite neither each other nor what is read.

    Raises:
        OutputError: one does.
    """
    names = vars(args)
    read = [item.location for item in inputs] + list(args.inputs)
    read += [names.get(name) for name in ("file", "model", "weights", "config_file")]
    taken = {os.path.realpath(name): "is read" for name in read if name}
    for option in ("json", "csv", "parquet"):
        name = names[option]
        if name is None or name == _STDOUT:
            continue
        files = [name, str(index_path(Path(name)))] if option == "json" else [name]
        for file in map(os.path.realpath, files):
            if file in taken:
                raise OutputError(
                    f"--{option} {name} would overwrite {file}, which {taken[file]}. Choose "
                    "another file."
                )
        taken |= dict.fromkeys(map(os.path.realpath, files), f"--{option} writes")


def run_detection(
    args: argparse.Namespace,
    make_detector: Callable[[], ImageDetector[Any]],
    progress: Callable[[int | None], AbstractContextManager[Callable[[], object]]],
) -> int:
    """Detect objects in all inputs.

    Args:
        args: the options of the program.
        make_detector: loads the model, after everything else has been checked.
        progress: given the number of images and frames, None if it is not known, shows how far the
            program is; it returns what to call after each image.

    Returns:
        0, or 1 if no image could be read.

    Raises:
        SourceError: there are no images, or an output would overwrite one.
        OutputError: a result cannot be written.
        MissingPackageError: an option needs a package that is not installed.
        ValueError: the model cannot be run, or not with these options.
    """
    inputs = collect_inputs(args.inputs, args.output or DEFAULT_OUTPUT)
    outputs = make_outputs(args, inputs)
    if args.track:
        require_trackers()
    detector = make_detector()
    options = detection_options(args)
    detector.validate_options(**options)
    run = DetectionRun(detector, inputs, outputs, track=args.track, **options)
    try:
        with exit_on_signals(), progress(_count(inputs)) as on_image:
            run.run(on_image)
    finally:  # whatever ends the run, the results so far are there
        run.summary.log(args.score_threshold)
    return EXIT_OK if run.summary.num_images else EXIT_NOTHING_DONE


def _count(inputs: Sequence[Input]) -> int | None:
    """The number of images and frames; None if an input does not say its own."""
    total = 0
    for item in inputs:
        count = item.count()
        if count is None:
            return None
        total += count
    return total
