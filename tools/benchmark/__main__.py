r"""Time this project's parts and whole models next to reference implementations.

python -m tools.benchmark                            # everything, on the GPU if there is one
python -m tools.benchmark --cases head dcn --repeat 9 --json head.json
python -m tools.benchmark --cases model retinanet --device cuda --amp float16 --batch 8 \
    --size 1344x800
python -m tools.benchmark --cases train --device cuda --batch 16 --size 1344x800

Both sides of a case are called alternately in one run, after one call each to warm up. The table
has medians in milliseconds, their spread (half the interquartile range) and their ratio, which
holds on a noisy machine where milliseconds do not. References: MMDetection 3.3.0
(pip install -e ".[mmdet]"), Ultralytics for assignment (pip install --no-deps ultralytics),
torchvision's operator for "dcn", detectron2's RetinaNet for "retinanet", its own detectors with RPN
for "two-stage", and the uncompiled model for "compile", which needs a C++ compiler. "roofline" is
the least time that the machine could need: the case's multiply-adds at the rate of one large 3x3
convolution, or the bytes it must read and write at the rate of a copy, whichever is larger. "MiB"
is the peak memory of a call on top of what was allocated before it (on a CPU: Linux only).
"""

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import tood  # noqa: F401  # imported first: reports missing dependencies

# isort: split
import torch
from tabulate import tabulate

from tood.cli.common import exit_on_user_error
from tools.benchmark.cases import GROUPS
from tools.benchmark.harness import Settings, measure, peak_rates
from tools.benchmark.options import add_device_options

COLUMNS = ["case", "candidate", "candidate spread", "reference", "reference spread", "ratio"]
COLUMNS += ["roofline", "over roofline", "candidate MiB", "reference MiB"]
FLOAT_FORMATS = ("", ".1f", ".1f", ".1f", ".1f", ".2f", ".1f", ".1f", ".0f", ".0f")


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmark",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--cases",
        nargs="+",
        choices=GROUPS,
        default=[group for group in GROUPS if group != "compile"],
    )
    parser.add_argument("--repeat", type=int, default=7, help="timed calls of each side")
    add_device_options(parser)
    parser.add_argument(
        "--gt-counts",
        type=int,
        nargs="+",
        default=[10, 100, 500, 1000, 5000],
        help="GT boxes per image, for the cases of assigners",
    )
    parser.add_argument("--json", help="also write the numbers to this file")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Print the machine and the table.

    Args:
        argv: command line; None for that of the process.
    """
    args = make_parser().parse_args(argv)
    torch.manual_seed(0)
    settings = Settings(args.device, args.amp, args.batch, args.size, args.gt_counts)
    name = torch.cuda.get_device_name() if args.device == "cuda" else platform.machine()
    machine = (
        f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"{args.amp or 'float32'}"
    )
    print(machine)
    macs_per_ms, bytes_per_ms = peak_rates(settings)
    print(f"{macs_per_ms / 1e6:.0f} G multiply-adds/s, {bytes_per_ms / 1e6:.1f} GB/s", flush=True)
    results = []
    for group in args.cases:
        for case in GROUPS[group](settings):
            result = measure(case, settings, args.repeat)
            roofline = max(case.macs / macs_per_ms, case.bytes / bytes_per_ms)
            if roofline:
                result["roofline"] = roofline
                result["over roofline"] = float(result["candidate"]) / roofline
            results.append(result)
            print(f"  {case.name}: done", file=sys.stderr, flush=True)
    rows = [[result.get(column) for column in COLUMNS] for result in results]
    print(tabulate(rows, COLUMNS, tablefmt="github", floatfmt=FLOAT_FORMATS, missingval="-"))
    if args.json:
        rates = {"macs_per_ms": macs_per_ms, "bytes_per_ms": bytes_per_ms}
        Path(args.json).write_text(
            json.dumps({"machine": machine, **rates, "cases": results}, indent=1)
        )


if __name__ == "__main__":
    with exit_on_user_error():
        main()
