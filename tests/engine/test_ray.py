"""Training in the workers of a local Ray, as demo/train_on_ray.py does it."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest
import torch

from tests.engine.kill_runner import options
from tests.helpers import ROOT
from tood.data.synthetic import write_dataset

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray[train]")


@pytest.mark.slow
@needs_ray
def test_two_workers(tmp_path):
    """They are one training: one folder, a checkpoint with the random states of both."""
    write_dataset(tmp_path / "data", num_train=4, num_val=2, size=64)
    output = tmp_path / "run"
    config = str(ROOT / "configs/quickstart/TOOD-R18-shapes.yaml")
    words = options(tmp_path / "data", output, 0)[2:]  # without "train" and the model's name
    words += ["SOLVER.MAX_ITER", "3", "SOLVER.STEPS", "()", "SOLVER.REFERENCE_WORLD_SIZE", "0"]
    command = [sys.executable, str(ROOT / "demo/train_on_ray.py"), "--num-workers", "2"]
    command += ["--storage", str(tmp_path / "ray"), "--config-file", config, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    state = torch.load(output / "model_final.pth", weights_only=True)
    assert state["iteration"] == 2
    assert len(state["random_states"]) == 2
    assert state["trainer"]["data"]["num_drawn"] == 6
    assert state["tood"]["run_id"] == json.loads((output / "run.json").read_text())["run_id"]
