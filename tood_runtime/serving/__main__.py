"""``python -m tood_runtime.serving MODEL``: serve an exported model over HTTP.

Needs NumPy, Pillow, the runtime of the file and the extra ``serve``, and no PyTorch.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from ..__main__ import add_runtime, load_detector, start_logging
from ..cli.parser import EXIT_OK, CommandParser, UsageError, report_error
from ..cli.serving_arguments import add_serving
from ..missing_packages import MissingPackageError
from ..model_info import ModelFileError
from ..prediction import OptionError
from .errors import ServerError
from .server import serve


def build_parser() -> CommandParser:
    """The options of the program."""
    parser = CommandParser(
        "python -m tood_runtime.serving",
        "Serve an exported model over HTTP, without PyTorch.",
        ("model.onnx", "model.onnx --host 0.0.0.0 --port 80 --rate-limit 10"),
    )
    add_runtime(parser)
    add_serving(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        arguments: the command line without the program's name; by default that of this process.

    Returns:
        0, or 2 for a user error, which is one line on stderr.
    """
    start_logging()
    try:
        args = build_parser().parse(sys.argv[1:] if arguments is None else arguments)
        detector = load_detector(args)
        info = detector.info
        sizes = {"min_size": info.min_size, "max_size": info.max_size}
        serve(args, detector, Path(args.file).name, **sizes)
    except (
        UsageError,
        MissingPackageError,
        ModelFileError,
        OptionError,
        ServerError,
    ) as error:
        return report_error(str(error))
    except KeyboardInterrupt:
        return 130  # as a shell reports a program that Ctrl-C stopped
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
