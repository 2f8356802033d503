"""Times a case: a candidate and a reference, called alternately on the same machine."""

import ctypes
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass
class Settings:
    """What the command line chose.

    Attributes:
        device: "cpu" or "cuda".
        amp: name of autocast's dtype; None for float32.
        batch: images in the cases of whole models.
        size: (width, height) of their images in pixels.
        gt_counts: GT boxes per image in the cases of assigners, one case each.
    """

    device: str
    amp: str | None
    batch: int
    size: tuple[int, int]
    gt_counts: list[int]

    @property
    def title(self) -> str:
        """Size and batch, for the names of cases."""
        width, height = self.size
        return f"{height}x{width}, batch {self.batch}"

    def autocast(self) -> torch.autocast:
        """The chosen precision as a context."""
        dtype = getattr(torch, self.amp or "bfloat16")
        return torch.autocast(self.device, dtype=dtype, enabled=self.amp is not None)


@dataclass
class Case:
    """What is timed.

    Attributes:
        name: of the case.
        candidate: this project's function, without arguments.
        reference: what it is compared with; None if that is not installed.
        macs: multiply-adds that the case cannot avoid.
        bytes: memory traffic that the case cannot avoid.
    """

    name: str
    candidate: Callable[[], object]
    reference: Callable[[], object] | None = None
    macs: float = 0
    bytes: float = 0


def time_call(function: Callable[[], object], device: str) -> float:
    """Milliseconds of one call."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if device == "cuda":
        torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - start)


def time_alternately(
    calls: Mapping[str, Callable[[], object]], rounds: int, device: str = "cpu"
) -> dict[str, list[float]]:
    """Milliseconds of each call in each round, after one round to warm up.

    Args:
        calls: by name; called in turn in each round, so that a busy machine slows them alike.
        rounds: number of timed rounds.
        device: "cpu" or "cuda".
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            milliseconds = time_call(call, device)
            if turn:
                times[name].append(milliseconds)
        print(f"  round {turn} of {rounds}", file=sys.stderr, flush=True)
    return times


def peak_rates(settings: Settings) -> tuple[float, float]:
    """What the machine reaches: multiply-adds and bytes per millisecond."""
    device = settings.device
    conv = torch.nn.Conv2d(256, 256, 3, padding=1, bias=False, device=device)
    x = torch.randn(1, 256, 100, 152, device=device)
    source = torch.empty(2**26, device=device)
    target = torch.empty_like(source)
    with torch.no_grad(), settings.autocast():
        macs = 256 * 256 * 9 * 100 * 152 / min(time_call(lambda: conv(x), device) for _ in range(9))
        copies = [time_call(lambda: target.copy_(source), device) for _ in range(9)]
    return macs, 2 * source.numel() * 4 / min(copies)


def peak_memory(function: Callable[[], object], device: str) -> float:
    """MiB that a call needs on top of what was allocated before it (on a CPU: Linux only)."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    ctypes.CDLL(None).malloc_trim(0)  # memory that was freed but kept would hide new allocations
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = _process_status("VmRSS")
    function()
    return (_process_status("VmHWM") - before) / 1024


def _process_status(key: str) -> int:
    """An entry of /proc/self/status in kB."""
    text = Path("/proc/self/status").read_text()
    match = re.search(rf"^{key}:\s+(\d+) kB", text, re.M)
    assert match is not None, f"/proc/self/status has no {key}"
    return int(match.group(1))


def measure(case: Case, settings: Settings, repeat: int) -> dict[str, float | str]:
    """Time both sides of a case and measure their peak memory.

    Args:
        case: what to time.
        settings: device and precision.
        repeat: timed calls of each side, after one to warm up.

    Returns:
        "case"; for "candidate" and "reference" the median in ms, the "spread" (half the
        interquartile range) and the peak "MiB"; and the "ratio" of the medians.
    """
    sides = {"candidate": case.candidate, "reference": case.reference}
    functions = {side: function for side, function in sides.items() if function is not None}
    times: dict[str, list[float]] = {side: [] for side in functions}
    for turn in range(repeat + 1):
        for side, function in functions.items():
            with settings.autocast():
                milliseconds = time_call(function, settings.device)
            if turn:
                times[side].append(milliseconds)
    result: dict[str, float | str] = {"case": case.name}
    for side, values in times.items():
        result[side] = statistics.median(values)
        quartiles = statistics.quantiles(values) if len(values) > 1 else [values[0]] * 3
        result[f"{side} spread"] = (quartiles[2] - quartiles[0]) / 2
    for side, function in functions.items():
        with settings.autocast():
            result[f"{side} MiB"] = peak_memory(function, settings.device)
    if "reference" in times:
        result["ratio"] = statistics.median(times["candidate"]) / statistics.median(
            times["reference"]
        )
    return result
