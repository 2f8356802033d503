#!/usr/bin/env python3
"""Time this project's operators against others', alternately in one run.

tools/benchmark.py [--repeat 7]

Each row is one case: medians of both in milliseconds, and their ratio. A ratio holds on a noisy
machine, the milliseconds do not.
"""

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import tood  # noqa: F401  (before the others: it explains what is missing)

# isort: split
import torch
import torchvision
from tabulate import tabulate

from tood.modeling.layers import deform_conv2d


@dataclass
class Case:
    """What is timed: two functions of no arguments."""

    name: str
    ours: Callable[[], object]
    theirs: Callable[[], object]


def deform_conv_cases() -> list[Case]:
    """DCNv2 against torchvision's operator: sizes of the head and of ResNet's stages."""
    cases = []
    for name, channels, groups, deform_groups, height, width in (
        ("head, P3 of 800x1216", 256, 1, 4, 100, 152),
        ("ResNet res4", 256, 1, 1, 50, 76),
        ("ResNet res5", 512, 1, 1, 25, 38),
        ("ResNeXt res4", 1024, 64, 1, 50, 76),
    ):
        x = torch.randn(1, channels, height, width, requires_grad=True)
        weight = torch.randn(channels, channels // groups, 3, 3, requires_grad=True)
        offset = torch.randn(1, 18 * deform_groups, height, width).requires_grad_()
        mask = torch.rand(1, 9 * deform_groups, height, width, requires_grad=True)

        def ours(x=x, offset=offset, weight=weight, mask=mask) -> torch.Tensor:
            return deform_conv2d(x, offset, weight, mask=mask, padding=1)

        def theirs(x=x, offset=offset, weight=weight, mask=mask) -> torch.Tensor:
            return torchvision.ops.deform_conv2d(x, offset, weight, mask=mask, padding=1)

        cases.append(Case(f"DCNv2, {name}, forward", *map(torch.no_grad(), (ours, theirs))))
        backward = [lambda f=f: f().sum().backward() for f in (ours, theirs)]
        cases.append(Case(f"DCNv2, {name}, forward and backward", *backward))
    return cases


def measure(case: Case, repeat: int) -> list:
    """A row of the table: medians of both, alternately timed after one call each to warm up."""
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for turn in range(repeat + 1):
        for who, function in (("ours", case.ours), ("theirs", case.theirs)):
            start = time.perf_counter()
            function()
            if turn:
                times[who].append(1e3 * (time.perf_counter() - start))
    ours, theirs = (statistics.median(values) for values in times.values())
    return [case.name, ours, theirs, ours / theirs]


def main() -> None:
    """Print the machine and the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=7, help="timed calls of each function")
    args = parser.parse_args()
    torch.manual_seed(0)
    print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"torchvision {torchvision.__version__}"
    )
    rows = [measure(case, args.repeat) for case in deform_conv_cases()]
    header = ["case", "ours, ms", "torchvision, ms", "ratio"]
    print(tabulate(rows, header, tablefmt="github", floatfmt=(None, ".1f", ".1f", ".2f")))


if __name__ == "__main__":
    sys.exit(main())
