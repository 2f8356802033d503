"""The options of ``tood export``."""

import argparse

from .common import add_model, add_opts, add_weights, image_size, positive_int
from .parser import CommandParser

# As in tood.export.options, which imports torch.
FORMATS = {
    "onnx": ".onnx",
    "torchscript": ".torchscript",
    "torch-export": ".pt2",
    "openvino": ".xml",
}
PRECISIONS = ("float32", "float16", "bfloat16", "int8")
DEFAULT_OPSET = 19


def add_export(parser: CommandParser) -> None:
    """Add the options of ``tood export``."""
    add_model(parser)
    add_weights(parser)
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="the file to write (default: the model's name with the suffix of the format)",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help=f"{', '.join(FORMATS)} (default: by the suffix of FILE, else onnx)",
    )
    _add_graph(parser)
    _add_precision(parser)
    _add_verification(parser)
    add_opts(parser)


def _add_graph(parser: CommandParser) -> None:
    parser.add_argument(
        "--raw",
        action="store_true",
        help="boxes and scores of all points, without NMS (default: detections)",
    )
    parser.add_argument(
        "--opset",
        type=positive_int,
        metavar="N",
        help=f"ONNX opset, 17 to 20; deformable convolutions need 19 (default: {DEFAULT_OPSET})",
    )
    parser.add_argument(
        "--dcn",
        choices=("operator", "gather"),
        default="operator",
        help="deformable convolutions as the operator DeformConv (ONNX Runtime 1.25, TensorRT "
        "10.1), or as gathers that every runtime has; OpenVINO files always have gathers "
        "(default: operator)",
    )
    parser.add_argument(
        "--dynamic",
        action="store_true",
        help="take any batch and any size: the default, unless --batch or --size fixes one",
    )
    parser.add_argument("--batch", type=positive_int, metavar="N", help="take this batch size only")
    parser.add_argument(
        "--size",
        type=image_size,
        metavar="WIDTHxHEIGHT",
        help="take this size only; images are scaled to fit and padded, which changes scores "
        "slightly",
    )


def _add_precision(parser: CommandParser) -> None:
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help=f"of backbone and head: {', '.join(PRECISIONS)} (default: float32)",
    )
    parser.add_argument("--half", action="store_true", help="the same as --precision float16")
    parser.add_argument(
        "--calibration-images",
        nargs="+",
        metavar="IMAGE",
        help="for int8: images, folders or glob patterns like what the model will see; 32 or more "
        "are recommended (default: --images)",
    )


def _add_verification(parser: CommandParser) -> None:
    parser.add_argument(
        "--annotations",
        metavar="PATH",
        help="ground truth, to print AP of the model and of the file; its images are those of "
        "--images",
    )
    parser.add_argument(
        "--images", metavar="FOLDER", help="images to verify with (default: drawn ones)"
    )
    parser.add_argument(
        "--no-verify",
        action="store_true",
        help="do not compare the file with the model",
    )


def complete_export(parser: CommandParser, args: argparse.Namespace) -> None:
    """Settle format and precision, and refuse options that contradict each other."""
    if vars(args).pop("half"):
        if args.precision not in (None, "float16"):
            parser.error("Give either --half or --precision, not both")
        args.precision = "float16"
    if args.precision is None:
        args.precision = "float32"
    if vars(args).pop("dynamic") and (args.batch is not None or args.size is not None):
        parser.error("Give either --dynamic, or --batch and --size")
    if args.format is None:
        suffixes = {suffix: name for name, suffix in FORMATS.items()}
        suffix = None if args.output is None else f".{args.output.rpartition('.')[2]}"
        args.format = suffixes.get(suffix or ".onnx", "onnx")
    if args.opset is None:
        args.opset = DEFAULT_OPSET
    elif args.format in ("torchscript", "torch-export"):
        parser.error(f"--opset is for ONNX and OpenVINO files, not for {args.format}")
    if args.calibration_images and args.precision != "int8":
        parser.error("--calibration-images is for --precision int8")
    if args.no_verify and args.images and not args.annotations and args.precision != "int8":
        parser.error("--images is for the verification, which --no-verify skips")
