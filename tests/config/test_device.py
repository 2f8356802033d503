"""Devices by name, on machines with any number of GPUs."""

import pytest
import torch

from tood.config.device import resolve_device
from tood.errors import ConfigError


@pytest.fixture
def gpus(monkeypatch):
    """Sets the number of GPUs that PyTorch finds."""

    def set_count(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return set_count


@pytest.mark.parametrize(
    "name, count, device",
    [
        ("cpu", 0, "cpu"),
        ("cpu", 2, "cpu"),
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda"),
        ("cuda", 1, "cuda"),
        ("cuda:1", 2, "cuda:1"),
    ],
)
def test_available_devices(gpus, caplog, name, count, device):
    gpus(count)
    assert resolve_device(name) == device
    assert not caplog.records


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_without_a_gpu_one_warning(gpus, caplog, name):
    gpus(0)
    assert resolve_device(name) == "cpu"
    (record,) = caplog.records
    assert record.getMessage() == f"No GPU is available. Using the device cpu, not {name}."


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize(
    "name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cuda 1", "CUDA", "", "cpu\n"]
)
def test_unknown_names(gpus, name, count):
    gpus(count)
    with pytest.raises(
        ConfigError, match=r"Unknown device .* Available: cpu, cuda, cuda:N, auto\."
    ):
        resolve_device(name)


@pytest.mark.parametrize(
    "name, count, found",
    [("cuda:7", 1, "1 GPU, cuda:0. "), ("cuda:2", 2, "2 GPUs, cuda:0 to cuda:1. ")],
)
def test_gpus_that_are_not_there(gpus, name, count, found):
    gpus(count)
    with pytest.raises(ConfigError, match=f"There is no device {name}. PyTorch finds {found}Use"):
        resolve_device(name)
