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
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.helpers import ROOT
from tood.checkpoint import saving
from tood.data.synthetic import write_dataset
from tood.engine import Trainer
from tood_runtime.cli import main as tood

MAX_ITER = 24
# Iterations from the beginning of the one in which a training may die to its end.
MAX_DELAY = 2

# What clocks measure differs between runs.
CLOCKS = {"time", "data_time", "rank_data_time", "eta_seconds"}


def options(data: Path, output: Path, num_workers: int) -> list[str]:
    """The command line of a training of 24 iterations, with an evaluation after every 4."""
    pairs = {
        "DATASETS.TRAIN_ANNOTATIONS": data / "train.json",
        "DATASETS.TRAIN_IMAGES": data / "images",
        "DATASETS.TEST_ANNOTATIONS": data / "val.json",
        "DATASETS.TEST_IMAGES": data / "images",
        "DATALOADER.NUM_WORKERS": num_workers,
        "INPUT.MIN_SIZE_TRAIN": "(64,)",
        "INPUT.MIN_SIZE_TEST": 64,
        "INPUT.COLOR_JITTER.ENABLED": True,
        "INPUT.MOSAIC.ENABLED": True,
        "INPUT.MIXUP.ENABLED": True,
        "INPUT.MULTI_IMAGE_OFF_EPOCHS": 2,
        "MODEL.DEVICE": "cpu",
        "MODEL.WEIGHTS": "",
        "MODEL.BACKBONE.NAME": "build_tiny_backbone",
        "MODEL.TOOD.CUSTOM_IMPORTS": [str(ROOT / "tests/tiny_backbone.py")],
        "MODEL.TOOD.HEAD.CHANNELS": 64,
        "MODEL.TOOD.HEAD.NUM_CONVS": 1,
        "MODEL.TOOD.WARMUP.EPOCHS": 2,
        "SOLVER.IMS_PER_BATCH": 2,
        "SOLVER.MAX_ITER": MAX_ITER,
        "SOLVER.STEPS": "(16,)",
        "SOLVER.WARMUP_ITERS": 4,
        "SOLVER.CHECKPOINT_PERIOD": 3,
        "SOLVER.ACCUMULATE": 2,
        "SOLVER.EMA.ENABLED": True,
        "SOLVER.EMA.RAMP_UP": 4,
        "SOLVER.CHECKPOINT_KEEP": 2,
        "TEST.EVAL_PERIOD": 4,
        "TEST.LOSS": True,
        "TEST.REPORT": False,  # nothing depends on it
        "TEST.PATIENCE": 6,  # counted, never over
        "MODEL.TOOD.SCORE_THRESH_TEST": 0.0,  # without detections there is no AP
        "SEED": 1,
    }
    words = [str(word) for pair in pairs.items() for word in pair]
    return ["train", "quickstart/TOOD-R18-shapes", "--output", str(output), *words]


def killed_options(data: Path, output: Path, num_workers: int) -> list[str]:
    """The same with more that has a state, for 5 epochs of 5 iterations."""
    pairs = {
        "MODEL.BACKBONE.NAME": "build_tiny_bn_backbone",
        "SOLVER.EPOCHS": 5,
        "SOLVER.EPOCH_STEPS": "(3,)",
        "SOLVER.AUTO_SCALE_LR": True,
        "SOLVER.OPTIMIZER": "AdamW",
        "SOLVER.BASE_LR": 0.001,
    }
    words = [str(word) for pair in pairs.items() for word in pair]
    return [*options(data, output, num_workers), *words]


def run_forked(command: list[str], prepare: Callable[[], None]) -> int:
    """Run a command in a forked process; return its exit code, negative for a signal.

    Args:
        command: the words after ``tood``.
        prepare: called in the new process first.
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
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def die() -> None:
    """End this process as ``kill -9`` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_iteration(iteration: int, delay: float, num_bytes: int | None) -> Callable[[], None]:
    """Let this process kill itself from an iteration on.

    Args:
        iteration: the first iteration in which it may die.
        delay: in iterations, after the beginning of that iteration; anything may be under way by
            then.
        num_bytes: die in the middle of writing instead, after so many bytes of a checkpoint.
    """

    def prepare() -> None:
        run_step, write = Trainer.run_step, saving._RecordingFile.write
        written = -1  # not counting yet
        started = time.monotonic()

        def run_step_and_die(self: Trainer) -> None:
            nonlocal written, started
            duration, started = time.monotonic() - started, time.monotonic()
            if self.iter >= iteration and written < 0:
                written = 0
                if num_bytes is None:
                    # The first iteration of a run cannot know how long the next one takes.
                    is_first = self.iter == self.start_iter
                    threading.Timer(0 if is_first else delay * duration, die).start()
            elif num_bytes is None and self.iter > iteration + MAX_DELAY:
                die()  # the iteration before took longer than these
            run_step(self)

        def write_and_die(self: Any, data: bytes) -> int:
            nonlocal written
            if num_bytes is not None and written >= 0:
                if written + len(data) > num_bytes:
                    write(self, bytes(data)[: num_bytes - written])
                    self.flush()
                    die()
                written += len(data)
            return write(self, data)

        Trainer.run_step = run_step_and_die
        saving._RecordingFile.write = write_and_die

    return prepare


def last_iteration(folder: Path) -> int:
    """The iteration of the last checkpoint; -1 if there is none."""
    if not (folder / "last_checkpoint").is_file():
        return -1
    name = Path((folder / "last_checkpoint").read_text()).stem
    return int(name.removeprefix("model_")) if name != "model_final" else MAX_ITER - 1


def differences(left: Any, right: Any, path: str = "") -> list[str]:
    """Name the entries in which two checkpoints differ, clocks and the run's name left out."""
    if path.rpartition(".")[2] in {*CLOCKS, "run_id", "OUTPUT_DIR", "config"}:
        return []
    if isinstance(left, dict) and isinstance(right, dict):
        # detectron2 reads no clock in the first iterations after a start.
        other = (left.keys() ^ right.keys()) - CLOCKS
        if other:
            return [f"{path}: keys {sorted(map(str, other))}"]
        both = left.keys() & right.keys()
        return [x for key in both for x in differences(left[key], right[key], f"{path}.{key}")]
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
    left, right = ({x.name for x in run.glob("*.pth")} for run in (whole, killed))
    found = [f"in one folder: {name}" for name in sorted(left ^ right)]
    for name in ("model_final.pth", "model_best.pth"):
        checkpoints = [torch.load(run / name, weights_only=True) for run in (whole, killed)]
        found += differences(*checkpoints, name)
    # detectron2 writes the lines of one call in any order.
    metrics = [
        {str(row["iteration"]): row for row in map(json.loads, text.splitlines())}
        for text in ((run / "metrics.json").read_text() for run in (whole, killed))
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
    code = run_forked(killed_options(data, whole, args.num_workers), lambda: None)
    if code:
        print(f"the uninterrupted run ended with {code}")
        return 1
    size = (whole / "model_final.pth").stat().st_size
    command = killed_options(data, killed, args.num_workers)
    for kill in range(args.kills):
        iteration = min(last_iteration(killed) + rng.randint(1, 5), MAX_ITER - 1)
        num_bytes = rng.randrange(size) if rng.random() < 0.4 else None
        # Few iterations later, so that it does not end first.
        delay = rng.uniform(0, MAX_DELAY) if iteration < MAX_ITER - 5 else 0
        code = run_forked(command, die_in_iteration(iteration, delay, num_bytes))
        if code != -signal.SIGKILL:
            print(f"run {kill + 1}, to be killed in iteration {iteration}, ended with {code}")
            return 1
        # Whoever starts a job again does not know whether anything was saved.
        command = [*killed_options(data, killed, args.num_workers), "--resume"]
    code = run_forked(command, lambda: None)
    if code:
        print(f"the last run ended with {code}")
        return 1
    found = compare_runs(whole, killed)
    print(f"{args.kills} kills, {len(found)} differences", *found[:20], sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
