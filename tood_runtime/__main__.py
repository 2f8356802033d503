"""``python -m tood_runtime MODEL IMAGE ...``: detect objects with an exported model.

Needs NumPy, Pillow and the runtime of the file, and no PyTorch.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence

from .backends.openvino import PRECISIONS
from .cli.common import add_detection, add_json, add_output, detection_options, positive_int
from .cli.parser import (
    EXIT_NOTHING_DONE,
    EXIT_OK,
    CommandParser,
    UsageError,
    report_error,
)
from .detection_results import DetectionResults
from .detection_run import ImageFile, detect_files
from .detector import RuntimeDetector
from .model_info import ModelFileError
from .output_files import OutputError, make_output_folder, validate_output_file
from .prediction import OptionError
from .sources import SourceError, collect_images, make_image_ids, output_paths

logger = logging.getLogger("tood_runtime")

_STDOUT = "-"
_DEFAULT_OUTPUT = "output/detections"


def build_parser() -> CommandParser:
    """The options of the program."""
    parser = CommandParser(
        "python -m tood_runtime",
        "Detect objects in images with an exported model, without PyTorch.",
        (
            "model.onnx street.jpg --output out/",
            "model.onnx images/ --score-threshold 0.5 --json detections.json",
        ),
    )
    parser.add_argument(
        "file",
        metavar="MODEL",
        help="a file that tood export wrote: .onnx, or OpenVINO's .xml with its .bin",
    )
    parser.add_argument(
        "inputs", nargs="+", metavar="IMAGE", help="images, folders of images, or glob patterns"
    )
    add_output(
        parser,
        f"the images with their detections (default: {_DEFAULT_OUTPUT}, without --json none)",
    )
    add_json(parser, "the detections in COCO's result format (- for the standard output)")
    add_detection(parser)
    parser.add_argument(
        "--backend",
        choices=("onnxruntime", "openvino"),
        metavar="NAME",
        help="onnxruntime or openvino, which runs .onnx files too (default: by the kind of file)",
    )
    parser.add_argument(
        "--device",
        default="cpu",
        metavar="DEVICE",
        help="cpu, cuda or cuda:N; with OpenVINO also gpu (default: cpu)",
    )
    parser.add_argument(
        "--threads", type=positive_int, metavar="N", help="CPU threads (default: all cores)"
    )
    parser.add_argument(
        "--precision",
        choices=tuple(PRECISIONS),
        metavar="NAME",
        help="that OpenVINO computes in: float32, bfloat16 or float16 (default: float32)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        arguments: the command line without the program's name; by default that of this process.

    Returns:
        0, 1 if no image could be read, or 2 for a user error, which is one line on stderr.
    """
    _start_logging()
    try:
        return run(build_parser().parse(sys.argv[1:] if arguments is None else arguments))
    except (UsageError, ModelFileError, OptionError, OutputError, SourceError) as error:
        return report_error(str(error))
    except OSError as error:
        return report_error(f"{error.filename or 'A file'}: {error.strerror or error}.")
    except KeyboardInterrupt:
        return 130  # as a shell reports a program that Ctrl-C stopped


def run(args: argparse.Namespace) -> int:
    """Detect objects in all images.

    Args:
        args: the options of the program.

    Returns:
        0, or 1 if no image could be read.

    Raises:
        ModelFileError: the model cannot be run, or not with these options.
        SourceError: there are no images, or a drawing would overwrite one.
        OutputError: a result cannot be written.
    """
    if args.json != _STDOUT:
        validate_output_file("--json", args.json)
    folder = args.output or (_DEFAULT_OUTPUT if args.json is None else None)
    images = collect_images(args.inputs, folder)
    targets = [None] * len(images) if folder is None else output_paths(images, folder)
    detector = RuntimeDetector(
        args.file,
        runtime=args.backend,
        device=args.device,
        threads=args.threads,
        precision=args.precision,
    )
    options = detection_options(args)
    detector.validate_options(**options)
    output = None if folder is None else make_output_folder(folder)
    results = DetectionResults(detector.category_ids)
    files = map(ImageFile, images, targets, make_image_ids(images))
    try:
        detect_files(detector, files, results, **options)
    finally:  # whatever ends the loop, the results so far are kept
        if args.json == _STDOUT:
            print(json.dumps(results.detections, indent=1))
        elif args.json is not None:
            results.save_json(args.json)
        results.log_summary(len(images), output, args.score_threshold)
    return EXIT_OK if results.images else EXIT_NOTHING_DONE


def _start_logging() -> None:
    """Show what this package logs on stderr: stdout is for results."""
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)


if __name__ == "__main__":
    sys.exit(main())
