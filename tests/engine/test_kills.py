"""A training that is killed again and again ends with the weights of the uninterrupted one."""

import os
import subprocess
import sys

import pytest

from tests.helpers import ROOT


def run(tmp_path, *options: str) -> str:
    command = [sys.executable, "-m", "tests.engine.kill_runner", "--folder", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *options], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_three_kills(tmp_path):
    assert "3 kills, 0 differences" in run(tmp_path, "--kills", "3", "--seed", "2")


@pytest.mark.slow
def test_thirty_kills(tmp_path):
    assert "30 kills, 0 differences" in run(tmp_path, "--kills", "30", "--num-workers", "1")
