"""The options of ``tood report``."""

import argparse

from .common import add_opts, positive_int
from .parser import CommandParser

SPLITS = ("train", "val", "test")


def add_report(parser: CommandParser) -> None:
    """Add the options."""
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="the folder of a training run or an evaluation"
    )
    parser.add_argument(
        "--detections",
        nargs="+",
        metavar="FILE",
        help="results in COCO's format, such as inference/coco_instances_results.json; several for "
        "several test sets",
    )
    parser.add_argument(
        "--annotations",
        nargs="+",
        metavar="PATH",
        help="the ground truth of each file of --detections (COCO, YOLO, Pascal VOC, Open Images)",
    )
    parser.add_argument(
        "--images",
        nargs="+",
        metavar="FOLDER",
        help="the images of each (default: the folder of the annotations)",
    )
    parser.add_argument(
        "--split",
        choices=SPLITS,
        default="val",
        metavar="SPLIT",
        help="the split of annotations that have several: train, val or test (default: val)",
    )
    parser.add_argument("--metrics", metavar="FILE", help="metrics.json of a run, for curves")
    parser.add_argument("--config-file", metavar="FILE", help="a config to show on the page")
    parser.add_argument(
        "--max-detections",
        type=positive_int,
        default=100,
        metavar="N",
        help="how many detections per image and class count, at least 100 (default: 100)",
    )
    parser.add_argument(
        "--output", metavar="FILE", help="the page (default: report.html, in RUN if there is one)"
    )
    add_opts(parser)


def validate_report(parser: CommandParser, args: argparse.Namespace) -> None:
    """Check which of the options belong together."""
    files = ("detections", "annotations", "images", "metrics", "config_file")
    if args.run is not None:
        for option in files:
            if getattr(args, option) is not None:
                flag = option.replace("_", "-")
                parser.error(f"RUN has its own files: leave out RUN or --{flag}")
        return
    if args.detections is None or args.annotations is None:
        parser.error("Name a RUN, or --detections with their --annotations")
    if args.opts:
        parser.error("--opts changes the config of a RUN: name one")
    for option in ("annotations", "images"):
        paths = getattr(args, option)
        if paths is not None and len(paths) != len(args.detections):
            parser.error(
                f"--{option} needs one path for each file of --detections, got {len(paths)} for "
                f"{len(args.detections)}"
            )
