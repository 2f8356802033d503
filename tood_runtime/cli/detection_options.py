"""The options of the detection programs: ``tood detect`` and ``python -m tood_runtime``."""

import argparse
from typing import Any

from ..nms_methods import NMS_METHODS
from .common import positive_int, score
from .parser import CommandParser

#: Where drawings go if no output is named.
DEFAULT_OUTPUT = "output/detections"

#: What the positional arguments of a detection program can be.
INPUTS_HELP = (
    "images, folders of images, glob patterns, videos, http(s) URLs, streams (rtsp://...), list "
    "files (.txt), the number of a camera, or - for the standard input"
)


def fraction_below_one(text: str) -> float:
    """A number from 0 to below 1."""
    value = score(text)
    if value == 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not below 1")
    return value


def add_detection(parser: CommandParser) -> None:
    """Add the options that say which detections are kept, and how images are looked at."""
    parser.add_argument(
        "--score-threshold",
        "--confidence-threshold",
        type=score,
        default=0.3,
        metavar="SCORE",
        help="keep detections that score more than this (default: 0.3)",
    )
    parser.add_argument(
        "--classes", nargs="+", metavar="NAME", help="keep these classes only (default: all)"
    )
    parser.add_argument(
        "--max-detections",
        type=positive_int,
        metavar="N",
        help="keep the N best detections of an image (default: as many as the model, 100, and all "
        "of a sliced image)",
    )
    parser.add_argument(
        "--nms-threshold",
        type=score,
        metavar="IOU",
        help="boxes with a larger IoU suppress each other (default: the model's, 0.6)",
    )
    parser.add_argument(
        "--nms",
        choices=NMS_METHODS,
        default=NMS_METHODS[0],
        metavar="METHOD",
        help=f"how overlapping boxes are handled: {', '.join(NMS_METHODS)} (default: "
        f"{NMS_METHODS[0]}; soft needs supervision, wbf ensemble-boxes)",
    )
    _add_views(parser)
    parser.add_argument(
        "--batch-size",
        type=positive_int,
        metavar="N",
        help="images or slices that the network gets at once; only those of one padded size share "
        "a batch (default: 1, or that of an exported file with a fixed one)",
    )


def _add_views(parser: CommandParser) -> None:
    """Add the options of several looks at an image."""
    parser.add_argument(
        "--slice",
        dest="slice_size",
        type=positive_int,
        metavar="PIXELS",
        help="cut images into squares of this side, for small objects in large images",
    )
    parser.add_argument(
        "--overlap",
        dest="slice_overlap",
        type=fraction_below_one,
        default=0.2,
        metavar="FRACTION",
        help="of neighboring squares (default: 0.2)",
    )
    parser.add_argument(
        "--slices-only",
        dest="whole_image",
        action="store_false",
        help="do not look at sliced images as a whole too",
    )
    parser.add_argument(
        "--flip", action="store_true", help="look at the mirror image too, and join the detections"
    )


def add_acceleration(parser: CommandParser) -> None:
    """Add the options that make a model of PyTorch faster."""
    parser.add_argument(
        "--half",
        action="store_true",
        help="compute in float16 on a GPU, in bfloat16 on a CPU (faster on few)",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the model with torch.compile; the first image then takes a minute",
    )


def add_augmentation(parser: CommandParser) -> None:
    """Add the option of test-time augmentation, for models of PyTorch."""
    parser.add_argument(
        "--tta",
        action="store_true",
        help="test-time augmentation: look at images in the sizes of TEST.AUG.MIN_SIZES and, with "
        "TEST.AUG.FLIP, mirrored, and choose from what is found in all of them",
    )


def detection_options(args: argparse.Namespace) -> dict[str, Any]:
    """What the options of :func:`add_detection` are called in Python."""
    names = (
        *("score_threshold", "classes", "max_detections", "nms_threshold", "nms", "flip"),
        *("slice_size", "slice_overlap", "whole_image", "batch_size"),
    )
    return {name: getattr(args, name) for name in names}


def add_outputs(parser: CommandParser) -> None:
    """Add the options that say what is written."""
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        help=f"folder for the drawn images and videos (default: {DEFAULT_OUTPUT}, and none where "
        "another output is named)",
    )
    parser.add_argument(
        "--json",
        "--save-json",
        dest="json",
        metavar="FILE",
        help="write the detections in COCO's result format (- for the standard output)",
    )
    parser.add_argument("--csv", metavar="FILE", help="write a table with a row per detection")
    parser.add_argument(
        "--parquet", metavar="FILE", help="write the same table as Parquet (needs pyarrow)"
    )
    parser.add_argument("--yolo", metavar="FOLDER", help="write a YOLO label file per image")
    parser.add_argument(
        "--crops", metavar="FOLDER", help="write an image of each object, in folders by class"
    )
    parser.add_argument(
        "--show", action="store_true", help="show the drawings in a window (q quits)"
    )
    parser.add_argument(
        "--track", action="store_true", help="number the objects of videos (needs trackers)"
    )
    parser.add_argument(
        "--video-format",
        choices=("mp4", "webm"),
        default="mp4",
        metavar="FORMAT",
        help="of drawn videos: mp4 (H.264) or webm (VP9; default: mp4, and webm for odd sizes)",
    )
