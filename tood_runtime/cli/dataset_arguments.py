"""The options of ``tood detect-dataset``."""

import argparse

from .common import add_config_options, add_model, add_weights, positive_int
from .detection_options import add_acceleration, add_detection
from .parser import CommandParser


def add_detect_dataset(parser: CommandParser) -> None:
    """Add the options of ``tood detect-dataset``."""
    add_model(parser, exported=True)
    add_weights(parser)
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="SOURCE",
        help="folders, glob patterns, list files (.txt, one path per line), or one COCO file "
        "(.json) with --images",
    )
    parser.add_argument(
        "--images",
        metavar="FOLDER",
        help="that the names in the COCO file are relative to",
    )
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        required=True,
        help="folder for the results; a run that is in it goes on",
    )
    parser.add_argument(
        "--format",
        choices=("parquet", "coco"),
        default="parquet",
        help="parquet: a row per image in FOLDER/shards; coco: detections.json, images.json and "
        "errors.json (default: parquet)",
    )
    parser.add_argument(
        "--shard-size",
        type=positive_int,
        default=1000,
        metavar="N",
        help="images of a shard, which a restart does whole or not at all (default: 1000)",
    )
    parser.add_argument(
        "--num-gpus",
        type=int,
        metavar="N",
        help="processes on this machine, one per GPU, or on the CPU with --device cpu (default: 1, "
        "or what torchrun or srun has started)",
    )
    parser.add_argument(
        "--as-listed",
        action="store_true",
        help="go on with the images that were listed when the run was started, without looking at "
        "SOURCE again",
    )
    parser.add_argument(
        "--retry-errors",
        action="store_true",
        help="do the shards again that have images with errors",
    )
    add_detection(parser)
    add_acceleration(parser)
    add_config_options(parser)


def complete_detect_dataset(parser: CommandParser, args: argparse.Namespace) -> None:
    """Check that there is a source, and that none is a config key."""
    parser.refuse_keys(args.inputs)
    if not args.inputs:
        parser.error("Name at least one SOURCE: a folder, a glob pattern, a list or a COCO file")
