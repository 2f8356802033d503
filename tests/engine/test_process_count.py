"""A training gives the same result in any number of processes, however they are started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.engine.helpers import read_metrics
from tests.engine.kill_runner import options
from tests.helpers import ROOT, unused_port
from tood.data.synthetic import write_dataset

# Iterations of the warm-up phase: 1 epoch of 10 images, 2 at a time.
WARMUP_ITERS = 5
PYTHON = sys.executable


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    write_dataset(folder / "data", num_train=10, num_val=3, size=64)
    return folder


def train(folder: Path, name: str, start: list[str], *extra: str) -> Path:
    """Train for 8 iterations; return the folder of the run."""
    finish(start_training(folder, name, start, *extra))
    return folder / name


def start_training(folder: Path, name: str, start: list[str], *extra: str) -> subprocess.Popen:
    """Start a training of 8 iterations.

    The learning rate is small, because training amplifies rounding: with 0.015, differences of 1e-8
    in the losses of the first iterations are 1e-2 after 12.
    """
    output = folder / name
    command = [
        *start,
        *options(folder / "data", output, 0),
        *("SOLVER.REFERENCE_WORLD_SIZE", "0", "SOLVER.BASE_LR", "0.0001"),
        *("SOLVER.MAX_ITER", "8", "SOLVER.STEPS", "()", "MODEL.TOOD.WARMUP.EPOCHS", "1"),
        *("SOLVER.CHECKPOINT_PERIOD", "4", "TEST.EVAL_PERIOD", "0", "TEST.PATIENCE", "0"),
        *("MODEL.TOOD.SCORE_THRESH_TEST", "0.0", "TEST.LOSS", "True", "SOLVER.ACCUMULATE", "1"),
        *("INPUT.MOSAIC.ENABLED", "False", "INPUT.MIXUP.ENABLED", "False"),
        *("INPUT.COLOR_JITTER.ENABLED", "False"),
        *extra,
    ]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen) -> None:
    text, _ = process.communicate(timeout=500)
    assert process.returncode == 0, text[-4000:]


def start_by(launcher: str, count: int) -> list[str]:
    if launcher == "torchrun":
        torchrun = [PYTHON, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
        return [*torchrun, str(count), "-m", "tood"]
    return [PYTHON, "-m", "tood"]


def assert_equal_runs(one: Path, other: Path) -> None:
    """Weights and losses are equal to 1e-6, which is what sums in another order change."""
    weights = [torch.load(run / "model_final.pth", weights_only=True) for run in (one, other)]
    for name, value in weights[0]["model"].items():
        scale = value.abs().max().clamp(min=1e-3)
        difference = (weights[1]["model"][name] - value).abs().max() / scale
        assert difference <= 1e-6, name
    events = [
        torch.load(run / "model_final.pth", weights_only=True)["trainer"]["events"]
        for run in (one, other)
    ]
    for name in ("total_loss", "loss_cls", "loss_box_reg", "phase_aligned"):
        losses = [[value for value, _ in event[name]["values"]] for event in events]
        assert len(losses[0]) == 8
        assert losses[1] == pytest.approx(losses[0], rel=1e-6), name
    # 3 images, which 2 processes cannot share equally.
    precisions, losses = (
        [[row[name] for row in read_metrics(run) if name in row] for run in (one, other)]
        for name in ("bbox/AP50", "validation/total_loss")
    )
    assert len(losses[0]) == 1
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert len(precisions[0]) == 1
    assert precisions[1] == pytest.approx(precisions[0], rel=1e-3)


@pytest.mark.slow
def test_two_processes_equal_one(folder):
    """Both phases; the batch is shared, so the two processes see one image each."""
    one = train(folder, "one", start_by("tood", 1))
    two = train(folder, "two", start_by("tood", 2), "--num-gpus", "2")
    assert_equal_runs(one, two)
    state = torch.load(two / "model_final.pth", weights_only=True)
    assert state["tood"]["phase"] == "aligned"
    assert state["trainer"]["hooks"]["PhaseHook"]["warmup_iters"] == WARMUP_ITERS
    assert len(state["random_states"]) == 2


@pytest.mark.slow
def test_parts_and_frozen_layers_in_two_processes(folder):
    """4 images at once equal 1 at a time in 2 processes, which train fewer parameters."""
    extra = (
        *("SOLVER.IMS_PER_BATCH", "4", "SOLVER.FREEZE", "['backbone.levels.0.*']"),
        *("SOLVER.LR_FACTORS", "[['backbone.*', 0.5]]"),
    )
    one = train(folder, "whole-batch", start_by("tood", 1), *extra)
    parts = (*extra, "SOLVER.ACCUMULATE", "2")
    two = train(folder, "parts", start_by("tood", 2), "--num-gpus", "2", *parts)
    assert_equal_runs(one, two)
    weights = [torch.load(two / f"model_{x}.pth", weights_only=True) for x in ("0000003", "final")]
    first, last = (state["model"] for state in weights)
    assert torch.equal(*(x["backbone.levels.0.weight"] for x in (first, last)))
    assert not torch.equal(*(x["backbone.levels.1.weight"] for x in (first, last)))


@pytest.mark.slow
def test_two_machines_equal_one(folder):
    """Two machines on loopback, with one process each."""
    one = train(folder, "alone", start_by("tood", 1))
    url = f"tcp://127.0.0.1:{unused_port()}"
    machines = [
        start_training(
            folder,
            "machines",
            start_by("tood", 1),
            *("--num-machines", "2", "--machine-rank", str(rank), "--dist-url", url),
        )
        for rank in (0, 1)
    ]
    for machine in machines:
        finish(machine)
    assert_equal_runs(one, folder / "machines")


@pytest.mark.slow
def test_torchrun_equals_launch(folder):
    two = train(folder, "launch", start_by("tood", 2), "--num-gpus", "2")
    torchrun = train(folder, "torchrun", start_by("torchrun", 2))
    assert_equal_runs(two, torchrun)


@pytest.mark.slow
def test_another_number_of_processes_continues(folder):
    """2 processes train 4 of 8 iterations, in the warm-up phase; 1 process goes on."""
    whole = train(folder, "whole", start_by("tood", 1))
    # The schedule of 8 iterations, stopped after 4.
    part = train(folder, "part", start_by("tood", 2), "--num-gpus", "2", "SOLVER.MAX_ITER", "4")
    train(folder, "part", start_by("tood", 1), "--resume")
    assert_equal_runs(whole, part)
    states = [torch.load(run / "model_final.pth", weights_only=True) for run in (whole, part)]
    for state in states:
        assert state["trainer"]["hooks"]["PhaseHook"]["warmup_iters"] == WARMUP_ITERS
        assert state["trainer"]["hooks"]["LRScheduler"]["last_epoch"] == 8
        assert state["trainer"]["data"]["num_drawn"] == 16
        assert state["tood"]["phase"] == "aligned"


@pytest.mark.slow
def test_processes_stop_early_together(folder):
    """Without learning, the second evaluation is no better, and the third is not reached."""
    extra = ("SOLVER.BASE_LR", "0.0", "TEST.EVAL_PERIOD", "2", "TEST.PATIENCE", "1")
    run = train(folder, "early", start_by("tood", 2), "--num-gpus", "2", *extra)
    state = torch.load(run / "model_final.pth", weights_only=True)
    assert state["iteration"] == 3 and len(state["random_states"]) == 2
    assert torch.load(run / "model_best.pth", weights_only=True)["iteration"] == 1
    resumed = start_training(
        folder, "early", start_by("tood", 2), "--num-gpus", "2", *extra, "--resume"
    )
    text, _ = resumed.communicate(timeout=500)
    assert resumed.returncode == 0 and "This run has stopped after iteration 3" in text
