"""Time this project's parts and whole models, beside its peers where they are installed.

tools/benchmark.py                              # everything, on the GPU if there is one
tools/benchmark.py --cases head dcn --repeat 9 --json head.json
tools/benchmark.py --cases model retinanet --device cuda --amp float16 --batch 8 --size 1344x800
tools/benchmark.py --cases train --device cuda --batch 16 --size 1344x800

Both sides of a case are called alternately in one run, after a call each to warm up; printed are
medians in milliseconds, their spread (half the distance of the quartiles), and the ratio, which
holds on a noisy machine where milliseconds do not. Peers: MMDetection 3.3.0
(pip install -e ".[mmdet]"), Ultralytics for assignment (pip install --no-deps ultralytics),
torchvision's operator for "dcn", detectron2's RetinaNet for "retinanet", and the model itself for
"compile", which wants a C++ compiler. "floor" is the least that the machine could need: the case's
multiply-adds at the rate of one large 3x3 convolution, or the bytes it must read and write at the
rate of a copy, whichever is more. "MiB" is the peak memory of a call on top of what was there (on
a CPU: Linux only).
"""

import argparse
import ctypes
import json
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import tood  # noqa: F401  (before the others: it explains what is missing)

# isort: split
import torch
from tabulate import tabulate

from tood.analysis.complexity import image_size
from tood.errors import exit_on_user_error
from tools.benchmark.cases.model import GROUPS
from tools.benchmark.harness import Case, Settings


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cuda = torch.cuda.is_available()
    parser.add_argument(
        "--cases",
        nargs="+",
        choices=GROUPS,
        default=[group for group in GROUPS if group != "compile"],
    )
    parser.add_argument("--repeat", type=int, default=7, help="timed calls of each side")
    parser.add_argument("--device", default="cuda" if cuda else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--amp", choices=("float16", "bfloat16"), help="autocast; else float32")
    parser.add_argument("--batch", type=int, default=1, help="images in the cases of whole models")
    parser.add_argument(
        "--size", type=image_size, default=(1216, 800), help="of these, width x height"
    )
    parser.add_argument(
        "--ground-truths", type=int, nargs="+", default=[10, 100, 500, 1000, 5000], help="counts"
    )
    parser.add_argument("--json", help="also write the numbers into this file")
    return parser.parse_args()


def timed(function: Callable[[], object], device: str) -> float:
    """Milliseconds of one call."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if device == "cuda":
        torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - start)


def autocast(settings: Settings) -> torch.autocast:
    """The precision that was asked for."""
    dtype = getattr(torch, settings.amp or "bfloat16")
    return torch.autocast(settings.device, dtype=dtype, enabled=settings.amp is not None)


def rates(settings: Settings) -> tuple[float, float]:
    """What the machine reaches: multiply-adds and bytes per millisecond."""
    device = settings.device
    conv = torch.nn.Conv2d(256, 256, 3, padding=1, bias=False, device=device)
    x = torch.randn(1, 256, 100, 152, device=device)
    source = torch.empty(2**26, device=device)
    target = torch.empty_like(source)
    with torch.no_grad(), autocast(settings):
        macs = 256 * 256 * 9 * 100 * 152 / min(timed(lambda: conv(x), device) for _ in range(9))
        copies = [timed(lambda: target.copy_(source), device) for _ in range(9)]
    return macs, 2 * source.numel() * 4 / min(copies)


def peak_memory(function: Callable[[], object], device: str) -> float:
    """MiB that a call needs on top of what is there before it."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    ctypes.CDLL(None).malloc_trim(0)  # what was freed and kept would hide what is needed
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts here
    before = _status("VmRSS")
    function()
    return (_status("VmHWM") - before) / 1024


def _status(key: str) -> int:
    """A number of kB that Linux keeps about this process."""
    text = Path("/proc/self/status").read_text()
    return int(re.search(rf"^{key}:\s+(\d+) kB", text, re.M).group(1))


def measure(case: Case, settings: Settings, repeat: int) -> dict[str, float | str]:
    """Times and peak memory of one case."""
    sides = {"ours": case.ours, "peer": case.peer}
    sides = {who: function for who, function in sides.items() if function is not None}
    times: dict[str, list[float]] = {who: [] for who in sides}
    for turn in range(repeat + 1):
        for who, function in sides.items():
            with autocast(settings):
                taken = timed(function, settings.device)
            if turn:
                times[who].append(taken)
    result: dict[str, float | str] = {"case": case.name}
    for who, values in times.items():
        result[who] = statistics.median(values)
        quartiles = statistics.quantiles(values) if len(values) > 1 else [values[0]] * 3
        result[f"{who} spread"] = (quartiles[2] - quartiles[0]) / 2
    for who, function in sides.items():
        with autocast(settings):
            result[f"{who} MiB"] = peak_memory(function, settings.device)
    if "peer" in times:
        result["ratio"] = result["ours"] / result["peer"]
    return result


def main() -> None:
    """Print the machine and the table."""
    args = parse_args()
    torch.manual_seed(0)
    settings = Settings(args.device, args.amp, args.batch, args.size, args.ground_truths)
    name = torch.cuda.get_device_name() if args.device == "cuda" else platform.machine()
    machine = (
        f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"{args.amp or 'float32'}"
    )
    print(machine)
    macs_rate, bytes_rate = rates(settings)
    print(f"{macs_rate / 1e6:.0f} G multiply-adds/s, {bytes_rate / 1e6:.1f} GB/s", flush=True)
    results = []
    for group in args.cases:
        for case in GROUPS[group](settings):
            result = measure(case, settings, args.repeat)
            floor = max(case.macs / macs_rate, case.bytes / bytes_rate)
            if floor:
                result["floor"], result["over floor"] = floor, result["ours"] / floor
            results.append(result)
            print(f"  {case.name}: done", file=sys.stderr, flush=True)
    columns = ["case", "ours", "ours spread", "peer", "peer spread", "ratio", "floor", "over floor"]
    header = [*columns, "ours MiB", "peer MiB"]
    rows = [[result.get(column) for column in header] for result in results]
    formats = ("", ".1f", ".1f", ".1f", ".1f", ".2f", ".1f", ".1f", ".0f", ".0f")
    print(tabulate(rows, header, tablefmt="github", floatfmt=formats, missingval="-"))
    if args.json:
        contents = {"machine": machine, "macs_per_ms": macs_rate, "bytes_per_ms": bytes_rate}
        Path(args.json).write_text(json.dumps({**contents, "cases": results}, indent=1))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
