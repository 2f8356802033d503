"""Command-line options that the benchmark programs share."""

import argparse

import torch

from tood_runtime.cli.common import image_size


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``, ``--amp``, ``--batch`` and ``--size``."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=device, choices=("cpu", "cuda"))
    parser.add_argument("--amp", choices=("float16", "bfloat16"), help="autocast; default float32")
    parser.add_argument("--batch", type=int, default=1, help="images per call of a whole model")
    parser.add_argument(
        "--size",
        type=image_size,
        default=(1216, 800),
        metavar="WIDTHxHEIGHT",
        help="of these images, in pixels",
    )
