"""``tood detect-dataset`` that is killed, stopped, stalled, slowed and deprived of its disk."""

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
    draw_slow,
    running_tood,
    stall,
    wait_for,
    write_images,
    write_model,
)

NUM_IMAGES, SHARD_SIZE = 600, 20
FAULTS = ("kill all", "kill one", "terminate", "stall", "full disk")
# Seconds until a fault: from the imports to the last shard.
CALM = (5.0, 25.0)
# Seconds after which a run hangs.
RUN_LIMIT = 600


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
    images, errors, detections = _count(expected)
    report.events["detections"] = detections
    if (images, errors) != (NUM_IMAGES, len(broken)) or not detections:
        report.problems.append(f"{images} images, {errors} of them broken, {detections} detections")
    number = 0
    while time.monotonic() < end and not report.problems:
        output = folder / f"round{number}"
        for _ in range(generator.randint(1, 4)):
            _disturbed_run(folder, model, output, generator, report)
        with running_tood(_words(model, folder, output), folder / "detect.log") as process:
            code = wait_for(process, RUN_LIMIT)
        if code != 0:
            report.problems.append(f"round {number} ended with {code}")
        elif _read_shards(output) != expected:
            report.problems.append(f"round {number} has other results")
        elif list(output.rglob(".*")):
            report.problems.append(f"round {number} left temporary files")
        report.events["rounds"] += 1
        shutil.rmtree(output)
        number += 1
    if not report.problems and not any(report.events[fault] for fault in FAULTS):
        report.problems.append("no fault was injected: run longer")
    report.check_memory()
    return report


def _words(model: Path, folder: Path, output: Path) -> list[str]:
    words = ["detect-dataset", str(model), str(folder / "images"), "--output", str(output)]
    options = f"--shard-size {SHARD_SIZE} --batch-size 4 --num-gpus 2 --device cpu"
    return [*words, *options.split()]


def _undisturbed(folder: Path, model: Path, report: Report) -> dict[str, bytes]:
    """The shards of a run without faults, whose memory is sampled."""
    output = folder / "undisturbed"
    with running_tood(_words(model, folder, output), folder / "detect.log") as process:
        while process.poll() is None:
            done = len(list((output / "shards").glob("shard-*")))
            if 4 < done < NUM_IMAGES // SHARD_SIZE - 4:  # all processes have begun, none has ended
                report.memory.append(family_mib(process.pid))
            time.sleep(0.2)
    if process.returncode != 0:
        report.problems.append(f"the undisturbed run ended with {process.returncode}")
    return _read_shards(output)


def _disturbed_run(
    folder: Path, model: Path, output: Path, generator: random.Random, report: Report
) -> None:
    fault, disk = generator.choice(FAULTS), FullDisk(folder)
    if fault == "full disk" and not disk.is_possible:
        fault = "kill all"
    slow, words = draw_slow(generator, report), _words(model, folder, output)
    with running_tood(words, folder / "detect.log", slow) as process:
        code = wait_for(process, generator.uniform(*CALM))
        children = descendants(process.pid)
        if code is not None or not children:  # finished before
            return
        report.events[fault] += 1
        if fault == "kill one":
            os.kill(generator.choice(children), signal.SIGKILL)
            if wait_for(process, RUN_LIMIT) != 0:
                report.problems.append("one process was killed; the other did not do its images")
        elif fault == "terminate":
            process.send_signal(signal.SIGTERM)
            code = wait_for(process, 60)
            if code not in (128 + signal.SIGTERM, 0):
                report.problems.append(f"SIGTERM ended a run with {code}")
        elif fault == "stall":
            stall(process.pid, 5, generator)
        elif fault == "full disk":
            with disk:
                time.sleep(5)


def _read_shards(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (output / "shards").glob("shard-*")}


def _count(shards: dict[str, bytes]) -> tuple[int, int, int]:
    """How many images there are, how many of them cannot be read, and how many detections."""
    import io

    import pyarrow.parquet as pq

    images = errors = detections = 0
    for data in shards.values():
        table = pq.read_table(io.BytesIO(data))
        images += table.num_rows
        errors += table.num_rows - table["error"].null_count
        detections += sum(len(x) for x in table["confidence"].to_pylist() if x is not None)
    return images, errors, detections
