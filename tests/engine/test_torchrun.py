"""Real trainings in several processes: torchrun, its restarts, and ``tood train --num-gpus 2``."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.engine.helpers import read_metrics
from tests.helpers import CONFIGS, ROOT

pytestmark = pytest.mark.slow

TIMEOUT = 600
PRINTED_LINES = 200
TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture
def train(shapes, tmp_path):
    """Starts a training in two processes on the CPU, in a session of its own.

    What they have printed is shown where a test fails.
    """
    options = [
        *("MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0", "TEST.EVAL_PERIOD", "0"),
        *("MODEL.RESNETS.RES2_OUT_CHANNELS", "64", "MODEL.FPN.OUT_CHANNELS", "64"),
        *("MODEL.TOOD.HEAD.CHANNELS", "64", "MODEL.TOOD.HEAD.NUM_CONVS", "1"),
        *("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64"),
        *("SOLVER.IMS_PER_BATCH", "2", "SOLVER.STEPS", "()", "SOLVER.WARMUP_ITERS", "0"),
        # The config's rate is for batches of 8 after a warm-up; a loss that becomes NaN ends a run.
        *("SOLVER.BASE_LR", "0.001", "SEED", "1"),
        *("DATASETS.TRAIN_ANNOTATIONS", str(shapes / "train.json")),
        *("DATASETS.TEST_ANNOTATIONS", str(shapes / "val.json")),
        *("DATASETS.TRAIN_IMAGES", str(shapes / "images")),
        *("DATASETS.TEST_IMAGES", str(shapes / "images")),
        *("OUTPUT_DIR", str(tmp_path / "run")),
    ]
    config = ["--config-file", str(CONFIGS / "quickstart" / "TOOD-R18-shapes.yaml")]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environ = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    started = []

    def start(launcher: list[str], *more: str) -> subprocess.Popen:
        program = ["tood", "train"] if launcher == [] else [*launcher, str(ROOT / "train_net.py")]
        command = [sys.executable, "-m", *program, *config, *options, *more]
        with (tmp_path / f"{len(started)}.txt").open("w") as file:
            process = subprocess.Popen(
                command, env=environ, stdout=file, stderr=file, start_new_session=True
            )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=TIMEOUT)
    for index in range(len(started)):
        lines = (tmp_path / f"{index}.txt").read_text().splitlines()
        print(f"Training {index}:", *lines[-PRINTED_LINES:], sep="\n")


def wait_for_iteration(folder: Path, iteration: int) -> int:
    """Wait until a checkpoint of that iteration is written; return the process of rank 0."""
    end = time.monotonic() + TIMEOUT
    while not (folder / f"model_{iteration:07d}.pth").is_file():
        assert time.monotonic() < end
        time.sleep(0.1)
    return json.loads((folder / "run.lock").read_text())["process"]["pid"]


def test_torchrun_is_one_training_and_survives_a_killed_worker(train, tmp_path):
    """The run goes on where its last checkpoint was."""
    run = tmp_path / "run"
    length = ["SOLVER.MAX_ITER", "60", "SOLVER.CHECKPOINT_PERIOD", "10"]
    process = train([*TORCHRUN, "--max-restarts", "1"], *length)
    worker = wait_for_iteration(run, 9)
    run_id = json.loads((run / "run.lock").read_text())["run_id"]
    os.kill(worker, signal.SIGKILL)
    assert process.wait(timeout=TIMEOUT) == 0
    log = (run / "log.txt").read_text()
    assert "The launcher has started this job again (1): --resume." in log
    assert f"(process {worker} on" in log and "has ended without removing its lock" in log
    assert json.loads((run / "run.json").read_text())["run_id"] == run_id
    iterations = [row["iteration"] for row in read_metrics(run) if "total_loss" in row]
    assert iterations == sorted(set(iterations)) and iterations[-1] == 59
    assert (run / "model_final.pth").is_file() and not (run / "run.lock").exists()


def test_bad_image_of_one_process(train, shapes, tmp_path):
    """With MAX_BAD_IMAGES, all go on, and the main log says so; without, one reports it for all."""
    images = tmp_path / "images"
    shutil.copytree(shapes / "images", images)
    name = json.loads((shapes / "train.json").read_text())["images"][3]["file_name"]
    (images / name).write_bytes((images / name).read_bytes()[:60])
    more = ["--num-gpus", "2", "DATASETS.TRAIN_IMAGES", str(images), "SOLVER.MAX_ITER", "8"]
    assert train([], *more).wait(timeout=TIMEOUT) == 2
    lines = (tmp_path / "0.txt").read_text().splitlines()
    assert [name in line for line in lines if line.startswith("error:")] == [True]
    assert train([], *more, "DATALOADER.MAX_BAD_IMAGES", "1").wait(timeout=TIMEOUT) == 0
    assert "1 unreadable training images are skipped" in (tmp_path / "run/log.txt").read_text()


@pytest.mark.parametrize("launcher, code", [(TORCHRUN, 1), ([], 143)], ids=["torchrun", "tood"])
def test_sigterm_saves_a_checkpoint(train, tmp_path, launcher, code):
    more = ["SOLVER.MAX_ITER", "5000", "SOLVER.CHECKPOINT_PERIOD", "5"]
    process = train(launcher, *more, *([] if launcher else ["--num-gpus", "2"]))
    wait_for_iteration(tmp_path / "run", 4)
    process.terminate()
    assert process.wait(timeout=TIMEOUT) == code
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "Stopped by SIGTERM after iteration" in log
    named = (tmp_path / "run" / "last_checkpoint").read_text()
    assert (tmp_path / "run" / named).is_file()
    assert not (tmp_path / "run" / "run.lock").exists()
