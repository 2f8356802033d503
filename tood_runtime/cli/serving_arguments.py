"""The options of the HTTP server, for ``tood serve`` and ``python -m tood_runtime.serving``."""

import argparse
import math

from .common import add_config_options, add_model, add_weights, positive_int, score
from .parser import CommandParser


def positive_number(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def port(text: str) -> int:
    """A TCP port; 0 for any that is free."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 0 to 65535")
    return int(text)


def add_serve(parser: CommandParser) -> None:
    """Add the options of ``tood serve``."""
    add_model(parser, exported=True)
    add_weights(parser)
    add_serving(parser)
    add_config_options(parser)


def add_serving(parser: CommandParser) -> None:
    """Add the options that do not depend on the kind of model."""
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at; 0.0.0.0 for all of the machine's (default: 127.0.0.1, which "
        "only programs on this machine can reach)",
    )
    parser.add_argument("--port", type=port, default=8000, help="0 for a free one (default: 8000)")
    _add_detection(parser)
    _add_limits(parser)
    parser.add_argument(
        "--allow-urls",
        action="store_true",
        help="detect in images that clients name by URL, at public addresses only",
    )
    parser.add_argument(
        "--allowed-hosts",
        nargs="+",
        metavar="NAME",
        help="host names by which clients may call the server (default: on loopback localhost and "
        "its addresses, elsewhere any)",
    )
    parser.add_argument(
        "--cors-origins",
        nargs="+",
        default=[],
        metavar="ORIGIN",
        help="web pages of other origins that may use the server, such as https://example.com "
        "(default: none)",
    )
    parser.add_argument(
        "--trusted-proxies",
        nargs="+",
        default=[],
        metavar="ADDRESS",
        help="reverse proxies whose X-Forwarded-For names the client (default: none)",
    )


def _add_detection(parser: CommandParser) -> None:
    parser.add_argument(
        "--score-threshold",
        type=score,
        default=0.3,
        metavar="SCORE",
        help="of requests without one: keep detections that score more (default: 0.3)",
    )
    parser.add_argument(
        "--classes", nargs="+", metavar="NAME", help="of requests that name none (default: all)"
    )
    parser.add_argument(
        "--max-detections",
        type=positive_int,
        metavar="N",
        help="of requests without a number (default: all of the model's)",
    )
    parser.add_argument(
        "--batch-size",
        type=positive_int,
        metavar="N",
        help="images that the network gets at once, at most; only images of one padded size share "
        "a batch (default: 4, or that of an exported file with a fixed one)",
    )
    parser.add_argument(
        "--batch-wait",
        type=positive_number,
        default=5,
        metavar="MS",
        help="milliseconds that an image waits for others (default: 5)",
    )


def _add_limits(parser: CommandParser) -> None:
    parser.add_argument(
        "--queue-size",
        type=positive_int,
        default=256,
        metavar="N",
        help="requests in progress; more get status 503 (default: 256)",
    )
    parser.add_argument(
        "--rate-limit",
        type=positive_number,
        metavar="N",
        help="requests per second of each client; more get status 429 (default: any)",
    )
    parser.add_argument(
        "--max-megabytes",
        type=positive_number,
        default=20,
        metavar="N",
        help="size of an image file (default: 20)",
    )
    parser.add_argument(
        "--max-megapixels",
        type=positive_number,
        default=50,
        metavar="N",
        help="size of an image (default: 50, at most 170)",
    )
    parser.add_argument(
        "--decode-threads",
        type=positive_int,
        default=2,
        metavar="N",
        help="images that are decoded at the same time (default: 2)",
    )
