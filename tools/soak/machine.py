"""What the parts of the soak share: a small model and data, processes, memory, bad disks."""

import contextlib
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from detectron2.modeling import build_model
from PIL import Image

from tood.config.loading import load_config
from tood.data.synthetic import write_dataset
from tools import ROOT
from tools.processes import descendants

PROGRAM = [sys.executable, "-m", "tood"]
# Memory may grow by this fraction from the second quarter of a run to the last.
MAX_GROWTH = 0.1
# Fewer samples of memory say nothing.
MIN_SAMPLES = 8
# How many of the runs with faults have a slow disk, too.
SLOW_FRACTION = 0.25
# A disk with more free space than this is not filled.
SMALL_DISK = 4 << 30


@dataclass
class Report:
    """What a part has found.

    Attributes:
        events: how often each fault, and each thing that must work, took place.
        problems: what was lost or wrong; empty if all is well.
        memory: resident MiB of the part's processes, sampled over one undisturbed stretch.
    """

    events: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    def check_memory(self) -> None:
        """Drop the samples of processes that had ended, and add a problem if memory has grown."""
        self.memory = [sample for sample in self.memory if sample]
        if len(self.memory) < MIN_SAMPLES:
            self.problems.append(f"memory was sampled {len(self.memory)} times only: run longer")
            return
        quarter = len(self.memory) // 4
        early = statistics.median(self.memory[quarter : 2 * quarter])
        late = statistics.median(self.memory[-quarter:])
        if late > early * (1 + MAX_GROWTH):
            self.problems.append(f"memory grew from {early:.0f} to {late:.0f} MiB")


def write_data(folder: Path) -> Path:
    """A small set of shapes in COCO format, 64 x 64 pixels."""
    return write_dataset(folder, num_train=64, num_val=8, size=64)


def write_model(folder: Path) -> Path:
    """A run's folder with a small model of random weights, whose scores are spread out."""
    words = ["INPUT.MIN_SIZE_TEST", "64", "MODEL.WEIGHTS", ""]
    cfg = load_config("quickstart/TOOD-R18-shapes", words)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(cfg.dump())
    torch.manual_seed(0)
    model = build_model(cfg)
    model.head.tood_cls.bias.data.copy_(torch.linspace(-4, 1, 5))
    torch.nn.init.constant_(model.head.cls_prob_module[-1].bias, 1.0)
    torch.save(model.state_dict(), folder / "model_final.pth")
    return folder


def write_images(folder: Path, count: int, seed: int) -> set[str]:
    """Images of noise, of which some are broken in several ways.

    Returns:
        The names of those that are broken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng, broken = np.random.default_rng(seed), set()
    for i in range(count):
        path = folder / f"image{i:06d}.png"
        height, width = rng.integers(32, 96, 2)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
        if i % 25 == 7:
            data = path.read_bytes()
            path.write_bytes([b"", b"no image", data[: len(data) // 2]][i // 25 % 3])
            broken.add(path.name)
    return broken


@contextlib.contextmanager
def running_tood(
    words: list[str], log: Path, slow: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``tood`` in a group of its own, all of which is killed at the end of the context.

    Args:
        words: of the command line.
        log: file that the output is appended to.
        slow: whether the disk is slow, as far as the folder of the log goes.
    """
    process = _start_tood(words, log, slow)
    try:
        yield process
    finally:
        kill_all(process)


def wait_for(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """The exit code of a process; None if it does not end in time."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _start_tood(words: list[str], log: Path, slow: bool) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    if slow:
        environment["PYTHONPATH"] = f"{ROOT / 'tools/soak/slow_disk'}{os.pathsep}{ROOT}"
        environment["TOOD_SOAK_SLOW_FOLDER"] = str(log.parent.resolve())
    with log.open("ab") as file:
        return subprocess.Popen(
            [*PROGRAM, *words], stdout=file, stderr=subprocess.STDOUT,
            env=environment, start_new_session=True,
        )  # fmt: skip


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """Kill a process of :func:`running_tood` and its children, and wait for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def draw_slow(generator: random.Random, report: Report) -> bool:
    """Whether the next run with faults has a slow disk; counted in the report."""
    slow = generator.random() < SLOW_FRACTION
    report.events["slow disk"] += slow
    return slow


def stall(pid: int, seconds: float, generator: random.Random) -> None:
    """Stop a process, or one of its children, for a while, as a disk that hangs does."""
    victim = generator.choice([pid, *descendants(pid)])
    try:
        os.kill(victim, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(victim, signal.SIGCONT)
    except ProcessLookupError:
        pass


class FullDisk:
    """Fills the disk of a folder while the context is open.

    Args:
        folder: on a small disk of its own, such as a tmpfs; a large one is left alone.
    """

    def __init__(self, folder: Path) -> None:
        self._ballast = folder / "ballast"
        self.is_possible = shutil.disk_usage(folder).free < SMALL_DISK

    def __enter__(self) -> "FullDisk":
        block = b"\0" * (1 << 20)
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(block)
            except OSError:
                pass
        return self

    def __exit__(self, *_: object) -> None:
        self._ballast.unlink(missing_ok=True)
