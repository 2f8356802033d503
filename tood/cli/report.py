"""``tood report``: the page about a run's last evaluation, or about results of any model."""

import argparse
import os
from pathlib import Path

from tood_runtime.cli.parser import EXIT_OK
from tood_runtime.output_files import validate_output_file

from ..config.loading import load_config
from ..data import setup_datasets
from ..data.formats import DataSource, find_format
from ..data.formats.coco import COCOFormat
from ..data.formats.json_file import printable
from ..data.registration import validate_ground_truth
from ..errors import ConfigError, DataError
from ..report.content import EvaluatedSet, Report, RunFacts
from ..report.detections import read_detections
from ..report.metrics import read_metrics
from ..report.page import write_report
from ..report.run import (
    METRICS_FILE,
    REPORT_FILE,
    build_run_report,
    program_versions,
    when_written,
)
from .common import start_logging


def main(args: argparse.Namespace) -> int:
    """Write the page and print where it is.

    Args:
        args: the options of ``tood report``.
    """
    start_logging()
    validate_output_file("--output", args.output)
    report = report_of_files(args) if args.run is None else report_of_run(args)
    write_report(report)
    print(f"Report: {report.path}")
    return EXIT_OK


def report_of_run(args: argparse.Namespace) -> Report:
    """Build the report about the last evaluation in a run's folder.

    Raises:
        ConfigError: it is no such folder.
        DataError: its dataset or its results cannot be read.
    """
    config = Path(args.run, "config.yaml")
    if not config.is_file():
        raise ConfigError(
            f"{args.run} is no folder of a training run: it has no config.yaml. For result files, "
            "use --detections and --annotations."
        )
    cfg = load_config(str(config), ["OUTPUT_DIR", args.run, *args.opts])
    setup_datasets(cfg, ("TEST",))
    has_metrics = Path(args.run, METRICS_FILE).is_file()
    try:
        report = build_run_report(cfg, args.run if has_metrics else None)
    except DataError as error:
        raise DataError(f"There is no report of {args.run}: {error}") from error
    path = report.path if args.output is None else Path(args.output)
    return Report(report.sets, report.run, path)


def report_of_files(args: argparse.Namespace) -> Report:
    """Build the report about result files.

    Raises:
        DataError: a file cannot be read, or has nothing to evaluate.
        ConfigError: the config cannot be read.
    """
    images = args.images or [""] * len(args.detections)
    sets = [
        _read_set(*paths, args)
        for paths in zip(args.detections, args.annotations, images, strict=True)
    ]
    run = RunFacts(
        title=f"Report of {_shown(args.detections[0])}",
        metrics=None if args.metrics is None else read_metrics(args.metrics),
        facts={"Detections of": ", ".join(map(_shown, args.detections)), **when_written()},
        config="" if args.config_file is None else _read_config(args.config_file),
        versions=program_versions(),
    )
    return Report(sets, run, Path(args.output or REPORT_FILE))


def _read_set(
    detections: str, annotations: str, images: str, args: argparse.Namespace
) -> EvaluatedSet:
    source = DataSource(annotations, images, args.split, keep_unreadable=True)
    reader = find_format(source)
    if reader is COCOFormat and not images:
        source = DataSource(annotations, os.path.dirname(annotations) or ".", keep_unreadable=True)
    dataset = reader.read(source)
    if not dataset.annotated:
        raise DataError(f"{_shown(annotations)} has no annotations, so nothing can be evaluated.")
    validate_ground_truth(dataset)
    rows = read_detections(detections, dataset)
    return EvaluatedSet(_shown(annotations), dataset, rows, args.max_detections)


def _shown(path: str) -> str:
    return printable(path, 100)


def _read_config(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError(f"The config {path} cannot be read: {error.strerror}.") from error
