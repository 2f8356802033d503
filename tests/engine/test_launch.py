"""Options against launchers and machines, and real processes over gloo."""

from argparse import Namespace
from dataclasses import replace

import pytest
import torch

from tood.engine import launch
from tood.engine.launchers import Launcher
from tood.errors import ConfigError
from tood_runtime.cli import parse

TORCHRUN = Launcher("torchrun", 5, 8, 1, 4, "node0", 29500)


def options(line: str = "") -> Namespace:
    return parse(["train", "M", *line.split()])[1]


@pytest.fixture
def gpus(monkeypatch):
    """Sets the number of GPUs."""
    return lambda n: monkeypatch.setattr(torch.cuda, "device_count", lambda: n)


@pytest.mark.parametrize(
    "line",
    ["", "--num-gpus 4", "--num-machines 2 --machine-rank 1", "--num-gpus 4 --num-machines 2"],
)
def test_options_that_a_launcher_agrees_with(line):
    launch.validate_launcher(options(line), TORCHRUN)


@pytest.mark.parametrize(
    "line, message",
    [
        ("--num-gpus 8", "--num-gpus is 8, but torchrun has 4 processes on this machine. Leave"),
        ("--num-gpus 1", "--num-gpus is 1, but torchrun has 4"),
        ("--num-machines 1", "--num-machines is 1, but torchrun has 2 machines"),
        ("--machine-rank 0", "--machine-rank is 0, but torchrun has 1 as the rank"),
        ("--dist-url tcp://h:1", "--dist-url has no effect with torchrun"),
    ],
)
def test_options_against_a_launcher(line, message):
    with pytest.raises(ConfigError) as error:
        launch.start(pytest.fail, options(line), TORCHRUN, on_cpu=False)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    "count, line, message",
    [
        (0, "--num-gpus 8", "--num-gpus 8 exceeds the 0 GPUs on this machine. Use --num-gpus 1, "
         "which runs on the CPU. With MODEL.DEVICE cpu at the end, it starts 8 processes on the "
         "CPU."),
        (1, "--num-gpus 8", "--num-gpus 8 exceeds the 1 GPU on this machine. Lower --num-gpus. "),
        (4, "--num-gpus 8", "--num-gpus 8 exceeds the 4 GPUs on this machine. Lower --num-gpus. "),
        (1, "--num-gpus -1", "--num-gpus must be at least 0, not -1."),
        (1, "--num-machines 0", "--num-machines must be at least 1, not 0."),
        (1, "--machine-rank 1", "--machine-rank 1 must be below --num-machines 1."),
        (1, "--machine-rank -1", "--machine-rank must be at least 0, not -1."),
        (0, "--num-machines 2", "--num-machines 2 needs a GPU on each machine, and this one has"),
        (1, "--num-machines 2", "--num-machines 2 needs --machine-rank (0 to 1) and --dist-url"),
        (1, "--num-machines 2 --machine-rank 0", "--num-machines 2 needs --machine-rank"),
        (2, "--num-gpus 2 --dist-url h:1", "--dist-url h:1 must be tcp://HOST:PORT"),
        (2, "--num-gpus 2 --dist-url tcp://h", "--dist-url tcp://h must be tcp://HOST:PORT"),
    ],
)  # fmt: skip
def test_options_against_the_machine(gpus, count, line, message):
    gpus(count)
    with pytest.raises(ConfigError) as error:
        launch.start(pytest.fail, options(line), None, on_cpu=False)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    "line, on_cpu",
    [
        ("MODEL.DEVICE cpu", True),
        ("--device cpu", True),
        ("--device cpu MODEL.DEVICE cuda", False),
        ("--opts MODEL.DEVICE cuda MODEL.DEVICE cpu", True),
        ("", False),
    ],
)
def test_the_cpu_is_asked_for(line, on_cpu):
    assert launch.asks_for_cpu(options(line)) is on_cpu


@pytest.mark.parametrize("line", ["", "--num-gpus 1", "--num-gpus 0"])
def test_one_process_needs_no_other(gpus, line):
    gpus(0)
    calls = []
    args = options(line)
    assert launch.start(lambda *given: calls.append(given), args, None, on_cpu=False) == 0
    assert calls == [(args, None)]


@pytest.mark.parametrize(
    "place, count, device, index",
    [
        (TORCHRUN, 4, "cuda", 1),
        (replace(TORCHRUN, name="srun"), 4, "cuda", 1),
        (replace(TORCHRUN, name="srun"), 1, "cuda", 0),  # --gpus-per-task 1
        (replace(TORCHRUN, local_rank=0, local_size=1), 4, "cuda:2", 2),
    ],
)
def test_gpu_of_a_process(gpus, place, count, device, index):
    gpus(count)
    assert launch.gpu_index(place, device) == index


@pytest.mark.parametrize(
    "place, count, device, message",
    [
        (TORCHRUN, 1, "cuda", "has started 4 processes on this machine, which has 1 GPU. Start"),
        (replace(TORCHRUN, name="srun", local_rank=3), 2, "cuda", "which has 2 GPUs"),
        (TORCHRUN, 4, "cuda:1", "MODEL.DEVICE cuda:1 is one GPU, but 4 processes run"),
    ],
)
def test_too_few_gpus(gpus, place, count, device, message):
    gpus(count)
    with pytest.raises(ConfigError, match=message):
        launch.gpu_index(place, device)


def test_port_that_is_taken():
    url, store = launch.open_store(None, host_it=True)
    with pytest.raises(ConfigError, match=r"--dist-url tcp://127\.0\.0\.1:\d+: cannot listen"):
        launch.open_store(url, host_it=True)
    assert launch.open_store(url, host_it=False) == (url, None)
    del store


# ---- Real processes over gloo. They are forked, because to import everything takes seconds. -----
