"""``tood serve``: detect objects over HTTP."""

import argparse
import os

from tood_runtime.cli.parser import EXIT_OK
from tood_runtime.serving.server import serve

from ..inference.detector import Detector
from .common import load_model_config, start_logging


def main(args: argparse.Namespace) -> int:
    """Serve a model until a signal stops the process.

    Args:
        args: the options of ``tood serve``.

    Returns:
        0.
    """
    start_logging()
    cfg = load_model_config(args, exported=True)
    detector = Detector.from_config(cfg)
    sizes = {"min_size": cfg.INPUT.MIN_SIZE_TEST, "max_size": cfg.INPUT.MAX_SIZE_TEST}
    name = os.path.basename(os.path.normpath(args.model or args.config_file))  # others read it
    serve(args, detector, name, **sizes)
    return EXIT_OK
