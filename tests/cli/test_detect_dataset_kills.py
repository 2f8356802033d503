"""tood detect-dataset in processes that are killed or stopped, and its memory."""

import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from tests.helpers import ROOT
from tood.config import load_config

pq = pytest.importorskip("pyarrow.parquet")

# Of this clone, and of the detectron2 that the tests run with.
PYTHONPATH = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])

pytestmark = pytest.mark.slow

# A model of 64 channels without a ResNet, and images of its size.
PAIRS = {
    "INPUT.MIN_SIZE_TEST": 32,
    "INPUT.MAX_SIZE_TEST": 64,
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "",
    "MODEL.BACKBONE.NAME": "build_tiny_backbone",
    "MODEL.TOOD.CUSTOM_IMPORTS": [str(ROOT / "tests/tiny_backbone.py")],
    "MODEL.TOOD.HEAD.CHANNELS": 64,
    "MODEL.TOOD.HEAD.NUM_CONVS": 1,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A run's folder with random weights whose scores are spread out."""
    folder = tmp_path_factory.mktemp("model")
    config = str(ROOT / "configs/quickstart/TOOD-R18-shapes.yaml")
    cfg = load_config(config, [str(word) for pair in PAIRS.items() for word in pair])
    (folder / "config.yaml").write_text(cfg.dump())
    torch.manual_seed(0)
    network = build_model(cfg)
    network.head.tood_cls.bias.data.copy_(torch.linspace(-4, 1, 5))
    torch.nn.init.constant_(network.head.cls_prob_module[-1].bias, 1.0)
    torch.save(network.state_dict(), folder / "model_final.pth")
    return folder


@pytest.fixture(scope="module")
def write_links(tmp_path_factory):
    """Writes a folder of many names for 30 images of several sizes, and some broken ones."""
    source = tmp_path_factory.mktemp("source")
    rng = np.random.default_rng(0)
    for i in range(30):
        size = (20 + i % 4 * 7, 30, 3) if i < 29 else (0, 0, 0)
        pixels = rng.integers(0, 256, size, dtype=np.uint8)
        if i < 29:
            Image.fromarray(pixels).save(source / f"{i}.png")
        else:
            (source / f"{i}.png").write_bytes(b"no image")

    def write(folder, count):
        folder.mkdir()
        for i in range(count):
            os.link(source / f"{i % 30}.png", folder / f"image{i:05d}.png")
        return folder

    return write


@pytest.fixture(autouse=True)
def heeded_interrupts():
    """A shell lets what runs in the background ignore SIGINT, and processes inherit that."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.fixture
def start(model):
    """Starts the command; what is left of it is killed at the end."""
    started = []

    def run(images, output, *more):
        command = ["detect-dataset", model, images, "--output", output, "--shard-size", 40]
        command += ["--batch-size", 4, "--device", "cpu", *more]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": PYTHONPATH}
        process = subprocess.Popen(
            [sys.executable, "-m", "tood", *map(str, command)],
            **{"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT},
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        for pid in children(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.kill()
        process.communicate()


def children(pid):
    """The processes that run shards: they have the lock file open."""
    try:
        pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [int(child) for child in pids if _has_lock(child)]


def _has_lock(pid):
    return any(_target(link).endswith("claims.lock") for link in Path(f"/proc/{pid}/fd").glob("*"))


def _target(link):
    try:
        return os.readlink(link)
    except OSError:  # closed since
        return ""


def wait_until(condition, process):
    """What the condition returns, once that is true."""
    end = time.monotonic() + 240
    while not (found := condition()):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


def wait_for_two_children(process):
    return wait_until(lambda: len(found := children(process.pid)) >= 2 and found, process)


def shards(folder):
    return sorted((folder / "shards").glob("shard-*"))


def wait_for_shards(folder, count, process):
    wait_until(lambda: len(shards(folder)) >= count, process)


def test_kill_9_in_the_middle_of_2000_images(write_links, start, tmp_path):
    """One of two processes, then all of them; the restart has another number of them."""
    images = write_links(tmp_path / "images", 2000)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    undisturbed = start(images, whole, "--num-gpus", 2)
    assert undisturbed.wait(400) == 0
    first = start(images, killed, "--num-gpus", 2)
    victim, survivor = wait_for_two_children(first)
    wait_for_shards(killed, 8, first)
    os.kill(victim, signal.SIGKILL)
    wait_for_shards(killed, len(shards(killed)) + 6, first)  # the survivor goes on
    for pid in (survivor, first.pid):
        os.kill(pid, signal.SIGKILL)
    first.wait()
    assert 14 <= len(shards(killed)) < 50
    kept = {path.name: path.stat().st_mtime_ns for path in shards(killed)}
    last = start(images, killed)
    assert last.wait(400) == 0, last.stdout.read()
    for name, stamp in kept.items():
        assert (killed / "shards" / name).stat().st_mtime_ns == stamp
    assert [path.name for path in shards(killed)] == [path.name for path in shards(whole)]
    for ours, expected in zip(shards(killed), shards(whole), strict=True):
        assert ours.read_bytes() == expected.read_bytes(), ours
    table = pq.read_table(killed / "shards")
    assert table.num_rows == len(set(table["path"].to_pylist())) == 2000
    assert table.num_rows - table["error"].null_count == 2000 // 30
    assert not list(killed.rglob(".*"))


def test_the_run_ends_well_when_one_process_is_killed(write_links, start, tmp_path):
    """The other one does its images, so the exit code is 0, and a warning says it."""
    images = write_links(tmp_path / "images", 400)
    process = start(images, tmp_path / "out", "--num-gpus", 2, "--format", "coco")
    victim, _ = wait_for_two_children(process)
    wait_for_shards(tmp_path / "out", 2, process)
    os.kill(victim, signal.SIGKILL)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    assert "A process has failed; the others have done its images." in output
    assert (tmp_path / "out" / "detections.json").stat().st_size > 1000


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_all_at_once(write_links, start, tmp_path, signum):
    """What is finished stays, nothing half is left, and the exit code is a shell's."""
    images = write_links(tmp_path / "images", 1000)
    out = tmp_path / "out"
    process = start(images, out, "--num-gpus", 2)
    wait_for_shards(out, 3, process)
    process.send_signal(signum)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signum, output
    assert f"Stopped by {signum.name}" in output and "Traceback" not in output
    assert not list((out / "shards").glob(".*"))
    assert not (out / "summary.json").exists()
    again = start(images, out)
    assert again.wait(200) == 0, again.stdout.read()
    assert pq.read_table(out / "shards").num_rows == 1000


def test_memory_is_flat_over_10000_images(write_links, start, tmp_path):
    images = write_links(tmp_path / "images", 10_000)
    process = start(images, tmp_path / "out")
    wait_for_shards(tmp_path / "out", 25, process)  # 1000 images
    samples = []
    while process.poll() is None:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        samples += [int(x.split()[1]) / 1024 for x in lines if x.startswith("VmRSS")]
        time.sleep(0.2)
    assert process.returncode == 0, process.stdout.read()
    assert len(samples) > 20
    quarter = len(samples) // 4
    first, last = statistics.median(samples[:quarter]), statistics.median(samples[-quarter:])
    print(f"RSS {first:.0f} MB at first, {last:.0f} MB at last, {max(samples):.0f} MB at most")
    # The end, at which all shards are read once, takes a little more for a moment.
    assert last < first + 20 and max(samples) < first + 200, (first, last, max(samples))
