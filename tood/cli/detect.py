"""``tood detect`` and ``demo/demo.py``: detect objects, draw them, write the results."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from tood_runtime.cli.detection import run_detection

from ..inference.acceleration import half_precision
from ..inference.detector import Detector
from .common import load_model_config, start_logging


def main(args: argparse.Namespace) -> int:
    """Run detection on everything that is named.

    Args:
        args: the options of ``tood detect``.

    Returns:
        0, or 1 if no image could be read.
    """
    start_logging()
    return run_detection(args, lambda: _load_detector(args), _progress)


def _load_detector(args: argparse.Namespace) -> Detector:
    cfg = load_model_config(args, exported=True)
    precision = half_precision(cfg.MODEL.DEVICE) if args.half else "float32"
    return Detector.from_config(cfg, precision=precision, compile=args.compile, tta=args.tta)


@contextmanager
def _progress(total: int | None) -> Iterator[Callable[[], object]]:
    """A progress bar with images per second."""
    with tqdm(total=total, unit="image") as bar:
        yield bar.update
