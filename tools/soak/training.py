"""A training that is killed, stopped, stalled, slowed and deprived of its disk, and goes on."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

from tood.checkpoint.safe_load import load_file
from tools.processes import descendants, family_mib
from tools.soak.machine import (
    FullDisk,
    Report,
    draw_slow,
    running_tood,
    stall,
    wait_for,
    write_data,
)

# Iterations between checkpoints, and between lines of metrics.json.
PERIOD = 20
# Fewer periods say nothing.
MIN_CHECKPOINTS = 3
FAULTS = ("kill", "terminate", "kill a worker", "stall", "full disk")
# Seconds that a training runs undisturbed before a fault: until imports are over, and longer.
CALM = (25.0, 60.0)


def soak_training(folder: Path, minutes: float, generator: random.Random) -> Report:
    """Train with faults for a while, then undisturbed, and check what is left.

    Args:
        folder: for everything; on a small disk of its own, that disk is filled too.
        minutes: how long; the last third is undisturbed, and its memory must stay flat.
        generator: decides the faults.
    """
    report, output = Report(), folder / "run"
    data = write_data(folder / "data")
    end = time.monotonic() + 60 * minutes
    calm_from = end - 20 * minutes
    saved = -1
    while time.monotonic() < calm_from:
        slow, words = draw_slow(generator, report), _options(data, output, report)
        with running_tood(words, folder / "train.log", slow) as process:
            wait_for(process, min(generator.uniform(*CALM), end - time.monotonic()))
            _inject(process, generator.choice(FAULTS), folder, generator, report)
        saved = _check_checkpoint(output, saved, report)
    with running_tood(_options(data, output, report), folder / "train.log") as process:
        while time.monotonic() < end and process.poll() is None:
            report.memory.append(family_mib(process.pid))
            time.sleep(1)
        process.send_signal(signal.SIGTERM)
        code = wait_for(process, 120)
    if code != 128 + signal.SIGTERM:
        report.problems.append(f"the last training ended with {code}; see {folder}/train.log")
    saved = _check_checkpoint(output, saved, report)
    _check_metrics(output, saved, report)
    report.events["iterations"] = saved + 1
    report.memory = report.memory[20:]  # imports
    report.check_memory()
    return report


def _options(data: Path, output: Path, report: Report) -> list[str]:
    """The command line, which is the same from the first start to the last."""
    report.events["starts"] += 1
    pairs = {
        "DATASETS.TRAIN_ANNOTATIONS": data / "train.json",
        "DATASETS.TRAIN_IMAGES": data / "images",
        "DATASETS.TEST_ANNOTATIONS": data / "val.json",
        "DATASETS.TEST_IMAGES": data / "images",
        "DATALOADER.NUM_WORKERS": 1,
        "INPUT.MIN_SIZE_TRAIN": "(64,)",
        "MODEL.TOOD.HEAD.NUM_CONVS": 1,
        "SOLVER.IMS_PER_BATCH": 2,
        "SOLVER.BASE_LR": 0.0005,
        "SOLVER.MAX_ITER": 1_000_000,
        "SOLVER.STEPS": "()",
        "SOLVER.CHECKPOINT_PERIOD": PERIOD,
        "SOLVER.CHECKPOINT_KEEP": 2,
        "SOLVER.EMA.ENABLED": True,
        "TEST.EVAL_PERIOD": 0,
        "TEST.REPORT": False,
    }
    words = [str(word) for pair in pairs.items() for word in pair]
    command = ["train", "quickstart/TOOD-R18-shapes", "--output", str(output), "--resume"]
    return [*command, *words]


def _inject(
    process: subprocess.Popen[bytes],
    fault: str,
    folder: Path,
    generator: random.Random,
    report: Report,
) -> None:
    """Disturb a training; whatever is left of it is killed after that."""
    disk = FullDisk(folder)
    if fault == "full disk" and not disk.is_possible:
        fault = "kill"
    workers = descendants(process.pid)
    if fault == "kill a worker" and not workers:
        fault = "kill"
    report.events[fault] += 1
    if process.poll() is not None:
        report.problems.append(f"a training ended by itself with {process.returncode}")
    elif fault == "terminate":
        process.send_signal(signal.SIGTERM)
        code = wait_for(process, 120)
        if code != 128 + signal.SIGTERM:
            report.problems.append(f"SIGTERM ended a training with {code}")
    elif fault == "kill a worker":
        os.kill(generator.choice(workers), signal.SIGKILL)
        if wait_for(process, 90) in (None, 0):
            report.problems.append("a training without its worker did not end with an error")
    elif fault == "stall":
        stall(process.pid, 5, generator)
        time.sleep(5)
        if process.poll() is not None:
            report.problems.append("a training that was stalled for 5 s ended")
    elif fault == "full disk":
        with disk:
            if wait_for(process, 60) in (None, 0):
                report.problems.append("a training with a full disk did not end with an error")


def _check_checkpoint(output: Path, saved: int, report: Report) -> int:
    """Read the last checkpoint; its iteration must not be behind an earlier one's.

    Returns:
        Its iteration, -1 if there is none yet.
    """
    pointer = output / "last_checkpoint"
    if not pointer.is_file():
        if saved >= 0:
            report.problems.append("last_checkpoint is gone")
        return saved
    try:
        iteration = int(load_file(str(output / pointer.read_text()))["iteration"])
    except Exception as error:  # whatever it is, a checkpoint was lost
        report.problems.append(f"the last checkpoint cannot be read: {error}")
        return saved
    if iteration < saved:
        report.problems.append(f"the last checkpoint went back from {saved} to {iteration}")
    return iteration


def _check_metrics(output: Path, saved: int, report: Report) -> None:
    """Every period up to the last checkpoint must have exactly one line."""
    path = output / "metrics.json"
    if not path.is_file():
        report.problems.append("there is no metrics.json")
        return
    try:
        found = [json.loads(line)["iteration"] for line in path.read_text().splitlines()]
    except ValueError as error:
        report.problems.append(f"metrics.json has a line that is no JSON: {error}")
        return
    expected = list(range(PERIOD - 1, saved + 1, PERIOD))
    if len(expected) < MIN_CHECKPOINTS:
        report.problems.append(f"only {saved + 1} iterations were trained: run longer")
    missing = sorted(set(expected) - set(found))
    if missing:
        report.problems.append(f"metrics.json lacks the iterations {missing[:5]}")
    if len(set(found)) < len(found):
        report.problems.append("metrics.json has iterations twice")
