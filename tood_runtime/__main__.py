"""``python -m tood_runtime MODEL IMAGE ...``: detect objects with an exported model.

Needs NumPy, Pillow and the runtime of the file, and no PyTorch.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from .backends.openvino import PRECISIONS
from .cli.common import positive_int
from .cli.detection import run_detection
from .cli.detection_options import INPUTS_HELP, add_detection, add_outputs
from .cli.parser import (
    CommandParser,
    UsageError,
    report_error,
)
from .detector import RuntimeDetector
from .missing_packages import MissingPackageError
from .model_info import ModelFileError
from .output_files import OutputError
from .prediction import OptionError
from .sources import SourceError

logger = logging.getLogger("tood_runtime")

_USER_ERRORS = (
    UsageError,
    MissingPackageError,
    ModelFileError,
    OptionError,
    OutputError,
    SourceError,
)


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
    add_runtime(parser)
    parser.add_argument("inputs", nargs="+", metavar="IMAGE", help=INPUTS_HELP)
    add_outputs(parser)
    add_detection(parser)
    return parser


def add_runtime(parser: CommandParser) -> None:
    """Add the exported file, and the options that choose how it is run."""
    parser.add_argument(
        "file",
        metavar="MODEL",
        help="a file that tood export wrote: .onnx, or OpenVINO's .xml with its .bin",
    )
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        arguments: the command line without the program's name; by default that of this process.

    Returns:
        0, 1 if no image could be read, or 2 for a user error, which is one line on stderr.
    """
    start_logging()
    try:
        return run(build_parser().parse(sys.argv[1:] if arguments is None else arguments))
    except _USER_ERRORS as error:
        return report_error(str(error))
    except OSError as error:
        return report_error(f"{error.filename or 'A file'}: {error.strerror or error}.")
    except KeyboardInterrupt:
        return 130  # as a shell reports a program that Ctrl-C stopped


def run(args: argparse.Namespace) -> int:
    """Detect objects in everything that is named.

    Args:
        args: the options of the program.

    Returns:
        0, or 1 if no image could be read.

    Raises:
        ModelFileError: the model cannot be run, or not with these options.
        Exception: see :func:`tood_runtime.cli.detection.run_detection`.
    """
    return run_detection(args, lambda: load_detector(args), _no_progress)


def load_detector(args: argparse.Namespace) -> RuntimeDetector:
    """Open the exported file that the options of :func:`add_runtime` name."""
    return RuntimeDetector(
        args.file,
        runtime=args.backend,
        device=args.device,
        threads=args.threads,
        precision=args.precision,
    )


@contextmanager
def _no_progress(_: int | None) -> Iterator[Callable[[], object]]:
    """No progress bar, which would need another package."""
    yield lambda: None


def start_logging() -> None:
    """Show what this package logs on stderr: stdout is for results."""
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)


if __name__ == "__main__":
    sys.exit(main())
