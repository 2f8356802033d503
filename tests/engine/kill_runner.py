"""Kills a training at random moments and resumes it, until it ends as if nothing had happened.

A program, because it forks: what takes seconds to import is imported once. Used by test_kills.py.

    python -m tests.engine.kill_runner --folder DIR --kills 30 --seed 0
"""

import argparse
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.helpers import ROOT
from tood.checkpoint import saving
from tood.data.synthetic import write_dataset
from tood_runtime.cli import main as tood

# What clocks measure differs between runs.
CLOCKS = {"time", "data_time", "rank_data_time", "eta_seconds"}


def options(data: Path, output: Path, num_workers: int) -> list[str]:
    """The command line of a training of 24 iterations, with an evaluation after every 8."""
    pairs = {
        "DATASETS.TRAIN_ANNOTATIONS": data / "train.json",
        "DATASETS.TRAIN_IMAGES": data / "images",
        "DATASETS.TEST_ANNOTATIONS": data / "val.json",
        "DATASETS.TEST_IMAGES": data / "images",
        "DATALOADER.NUM_WORKERS": num_workers,
        "INPUT.MIN_SIZE_TRAIN": "(64,)",
        "INPUT.MIN_SIZE_TEST": 64,
        "MODEL.DEVICE": "cpu",
        "MODEL.WEIGHTS": "",
        "MODEL.BACKBONE.NAME": "build_tiny_backbone",
        "MODEL.TOOD.CUSTOM_IMPORTS": [str(ROOT / "tests/tiny_backbone.py")],
        "MODEL.TOOD.HEAD.CHANNELS": 64,
        "MODEL.TOOD.HEAD.NUM_CONVS": 1,
        "MODEL.TOOD.WARMUP.EPOCHS": 2,
        "SOLVER.IMS_PER_BATCH": 2,
        "SOLVER.MAX_ITER": 24,
        "SOLVER.STEPS": "(16,)",
        "SOLVER.WARMUP_ITERS": 4,
        "SOLVER.CHECKPOINT_PERIOD": 3,
        "TEST.EVAL_PERIOD": 8,
        "SEED": 1,
    }
    words = [str(word) for pair in pairs.items() for word in pair]
    return ["train", "quickstart/TOOD-R18-shapes", "--output", str(output), *words]


def run_forked(command: list[str], prepare: Callable[[], None], interrupt: float | None) -> int:
    """Run a command in a forked process; return its exit code, negative for a signal.

    Args:
        command: the words after ``tood``.
        prepare: called in the new process first.
        interrupt: kill it after so many seconds; None to let it end.
    """
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            prepare()
            code = tood(command)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        finally:
            sys.stdout.flush()
            os._exit(code)
    if interrupt is not None:
        time.sleep(interrupt)
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status)


def die_while_writing(num_bytes: int) -> Callable[[], None]:
    """Let this process kill itself once it has written so many bytes of checkpoints."""

    def prepare() -> None:
        written = 0
        original = saving._RecordingFile.write

        def write(self: Any, data: bytes) -> int:
            nonlocal written
            if written + len(data) > num_bytes:
                original(self, bytes(data)[: num_bytes - written])
                self.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            written += len(data)
            return original(self, data)

        saving._RecordingFile.write = write

    return prepare


def differences(left: Any, right: Any, path: str = "") -> list[str]:
    """Name the entries in which two checkpoints differ, clocks and the run's name left out."""
    if path.rpartition(".")[2] in {*CLOCKS, "run_id", "OUTPUT_DIR", "config"}:
        return []
    if isinstance(left, dict) and isinstance(right, dict):
        if left.keys() != right.keys():
            return [f"{path}: keys {sorted(map(str, left.keys() ^ right.keys()))}"]
        return [x for key in left for x in differences(left[key], right[key], f"{path}.{key}")]
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        if len(left) != len(right):
            return [f"{path}: {len(left)} and {len(right)} entries"]
        pairs = zip(left, right, strict=True)
        return [x for i, (a, b) in enumerate(pairs) for x in differences(a, b, f"{path}[{i}]")]
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        same = left.dtype == right.dtype and torch.equal(left, right)
    else:
        same = left == right or left != left  # NaN of a metric
    return [] if same else [f"{path}: {str(left)[:40]} and {str(right)[:40]}"]


def compare_runs(whole: Path, killed: Path) -> list[str]:
    """Name everything in which the results of two runs differ."""
    found = []
    checkpoints = [
        torch.load(run / "model_final.pth", weights_only=True) for run in (whole, killed)
    ]
    found += differences(*checkpoints)
    metrics = [
        [json.loads(line) for line in (run / "metrics.json").read_text().splitlines()]
        for run in (whole, killed)
    ]
    return found + differences(*metrics, "metrics")


def main() -> int:
    """Run the uninterrupted training and the killed one; print what differs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--kills", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-workers", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rng = random.Random(args.seed)
    data = write_dataset(args.folder / "data", num_train=10, num_val=3, size=64)
    whole, killed = args.folder / "whole", args.folder / "killed"
    start = time.monotonic()
    code = run_forked(options(data, whole, args.num_workers), lambda: None, None)
    duration = time.monotonic() - start
    if code:
        print(f"the uninterrupted run ended with {code}")
        return 1
    size = (whole / "model_final.pth").stat().st_size
    kills = 0
    command = options(data, killed, args.num_workers)
    while True:
        in_writing = kills < args.kills and rng.random() < 0.5
        prepare = die_while_writing(rng.randrange(3 * size)) if in_writing else lambda: None
        by_time = kills < args.kills and not in_writing
        code = run_forked(command, prepare, rng.uniform(0, duration) if by_time else None)
        if code == 0:
            break
        if code != -signal.SIGKILL:
            print(f"after {kills} kills the run ended with {code}")
            return 1
        kills += 1
        # A job that is started again does not know whether anything was saved.
        command = [*options(data, killed, args.num_workers), "--resume"]
    found = compare_runs(whole, killed)
    print(f"{kills} kills, {len(found)} differences", *found[:20], sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
