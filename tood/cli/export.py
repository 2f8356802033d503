"""``tood export``: write a model to a file that runs without the training code."""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from detectron2.config import CfgNode
from termcolor import colored
from torch import nn

from tood_runtime.cli.parser import EXIT_NOTHING_DONE, EXIT_OK, report_error
from tood_runtime.cli.signals import exit_on_signals
from tood_runtime.sources import collect_images

from ..checkpoint import load_model
from ..checkpoint.safe_load import resolve_path
from ..data import setup_datasets
from ..engine import Trainer
from ..export import ExportOptions, VerificationError, export_model
from ..export.files import file_parts
from ..model_zoo.resolving import CHECKPOINT_SUFFIXES
from .common import load_model_config, start_logging, table


def main(args: argparse.Namespace) -> int:
    """Export one model, print how the file was verified, and its AP where there is ground truth.

    Args:
        args: the options of ``tood export``.

    Raises:
        ExportError: the model cannot be exported as asked.
        ConfigError: there is no such model or config, or an option is wrong.
        CheckpointError: the weights are missing or do not match the model.
    """
    start_logging()
    options = ExportOptions(
        format=args.format,
        raw=args.raw,
        precision=args.precision,
        opset=args.opset,
        batch=args.batch,
        size=args.size,
        deform_conv=args.dcn,
    )
    source = args.model if args.config_file is None else args.config_file
    path = Path(source).resolve()
    name = path.stem if path.suffix in (".yaml", *CHECKPOINT_SUFFIXES) else path.name
    output = Path(args.output or f"{name}{options.suffix}")
    # ground truth is for AP; images alone are only looked at
    images, args.images = args.images, args.images if args.annotations else None
    cfg = load_model_config(args, opts=["MODEL.DEVICE", "cpu"])
    if args.annotations:
        setup_datasets(cfg, ("TEST",))
    model = load_model(cfg)
    try:
        with exit_on_signals():  # leaves no temporary folder
            result = export_model(
                model,
                cfg,
                output,
                options,
                name=name,
                weights=resolve_path(cfg.MODEL.WEIGHTS),
                images=None if images is None else [images],
                calibration_images=_calibration_images(args, images),
                verify=not args.no_verify,
                inspect=_ap_printer(model, cfg) if args.annotations else None,
            )
    except VerificationError as error:
        print("\n".join(error.report.lines()))
        report_error(str(error))
        return EXIT_NOTHING_DONE
    if result.report is None:
        print(colored("NOT VERIFIED: this file was not compared with the model.", "red"))
    else:
        print("\n".join(result.report.lines()))
    megabytes = sum(part.stat().st_size for part in file_parts(result.path)) / 1e6
    print(f"{result.path}: {megabytes:.1f} MB")
    return EXIT_OK


def _calibration_images(args: argparse.Namespace, images: str | None) -> list[Path] | None:
    if args.precision != "int8":
        return None
    sources = args.calibration_images or ([images] if images is not None else [])
    return collect_images(sources) if sources else None


def _ap_printer(model: nn.Module, cfg: CfgNode) -> Callable[[Path], None]:
    """Return what evaluates a file and the model on the test set of a config, and prints both."""

    def evaluate(file: Path) -> None:
        """Evaluate both, and print their AP."""
        # Not into the run's own folder, which has the results of its evaluations.
        with tempfile.TemporaryDirectory() as results:
            scratch = cfg.clone()
            scratch.defrost()
            scratch.OUTPUT_DIR = results
            before = Trainer.test(scratch, model)["bbox"]
            scratch.MODEL.WEIGHTS = str(file)
            after = Trainer.evaluate_checkpoint(scratch)["bbox"]
        columns = [name for name in ("AP", "AP50", "AP75") if name in before]
        rows = [
            ["model", *(before[name] for name in columns)],
            ["exported file", *(after[name] for name in columns)],
            ["difference", *(after[name] - before[name] for name in columns)],
        ]
        print(table(rows, ["", *columns], ["", *([".3f"] * len(columns))]))

    return evaluate
