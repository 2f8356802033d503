"""``tood detect-dataset`` that is killed, stopped, stalled and deprived of its disk."""

import os
import random
import shutil
import signal
import time
from pathlib import Path

from tools.processes import descendants, family_mib
from tools.soak.machine import (
    FullDisk,
    Report,
    kill_all,
    stall,
    start_tood,
    write_images,
    write_model,
)

NUM_IMAGES = 600
FAULTS = ("kill all", "kill one", "terminate", "stall", "full disk")
# Seconds until a fault: from the imports to the last shard.
CALM = (5.0, 25.0)


def soak_dataset(folder: Path, minutes: float, generator: random.Random) -> Report:
    """Detect in a folder of images, some of them broken, in two processes with faults.

    Each round starts the same command until it succeeds, with a fault each time but the last, and
    compares the results with those of an undisturbed run, byte by byte.

    Args:
        folder: for everything; on a small disk of its own, that disk is filled too.
        minutes: how long.
        generator: decides the faults.
    """
    report = Report()
    model = write_model(folder / "model")
    broken = write_images(folder / "images", NUM_IMAGES, seed=0)
    end = time.monotonic() + 60 * minutes
    expected = _undisturbed(folder, model, report)
    if len(_errors(expected)) != len(broken):
        report.problems.append(f"{len(_errors(expected))} broken images, not {len(broken)}")
    number = 0
    while time.monotonic() < end and not report.problems:
        output = folder / f"round{number}"
        for _ in range(generator.randint(1, 4)):
            _disturbed_run(folder, model, output, generator, report)
        process = start_tood(_words(model, folder, output), folder / "detect.log")
        if process.wait() != 0:
            report.problems.append(f"round {number} ended with {process.returncode}")
        elif _read_shards(output) != expected:
            report.problems.append(f"round {number} has other results")
        elif list(output.rglob(".*")):
            report.problems.append(f"round {number} left temporary files")
        report.events["rounds"] += 1
        shutil.rmtree(output)
        number += 1
    report.check_memory()
    return report


def _words(model: Path, folder: Path, output: Path) -> list[str]:
    words = ["detect-dataset", str(model), str(folder / "images"), "--output", str(output)]
    return [*words, "--shard-size", "20", "--batch-size", "4", "--num-gpus", "2", "--device", "cpu"]


def _undisturbed(folder: Path, model: Path, report: Report) -> dict[str, bytes]:
    """The shards of a run without faults, whose memory is sampled."""
    output = folder / "undisturbed"
    process = start_tood(_words(model, folder, output), folder / "detect.log")
    while process.poll() is None:
        if len(list((output / "shards").glob("shard-*"))) > 4:  # after the imports
            report.memory.append(family_mib(process.pid))
        time.sleep(0.5)
    if process.returncode != 0:
        report.problems.append(f"the undisturbed run ended with {process.returncode}")
    return _read_shards(output)


def _disturbed_run(
    folder: Path, model: Path, output: Path, generator: random.Random, report: Report
) -> None:
    fault, disk = generator.choice(FAULTS), FullDisk(folder)
    if fault == "full disk" and not disk.is_possible:
        fault = "kill all"
    process = start_tood(_words(model, folder, output), folder / "detect.log")
    until = time.monotonic() + generator.uniform(*CALM)
    while time.monotonic() < until and process.poll() is None:
        time.sleep(0.05)
    if process.poll() is not None:  # finished before
        return
    report.events[fault] += 1
    if fault == "kill one":
        children = descendants(process.pid)
        if children:
            os.kill(generator.choice(children), signal.SIGKILL)
        if process.wait(600) != 0:
            report.problems.append("one process was killed, and the other did not do its images")
    elif fault == "terminate":
        process.send_signal(signal.SIGTERM)
        if process.wait(60) not in (128 + signal.SIGTERM, 0):
            report.problems.append(f"SIGTERM ended a run with {process.returncode}")
    elif fault == "stall":
        stall(process.pid, 5, generator)
    elif fault == "full disk":
        with disk:
            time.sleep(5)
    kill_all(process)


def _read_shards(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (output / "shards").glob("shard-*")}


def _errors(shards: dict[str, bytes]) -> list[str]:
    """The errors of all images that cannot be read."""
    import io

    import pyarrow.parquet as pq

    found: list[str] = []
    for data in shards.values():
        found += pq.read_table(io.BytesIO(data))["error"].drop_null().to_pylist()
    return found
