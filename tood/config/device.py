"""The device that a name stands for."""

import logging
import re

import torch

from ..errors import ConfigError

logger = logging.getLogger(__name__)


def resolve_device(name: str) -> str:
    """Return the device to run on, a value of ``MODEL.DEVICE``.

    Args:
        name: "cpu", "cuda", "cuda:N", or "auto", which is "cuda" with a GPU and "cpu" without.

    Returns:
        The device. Without a GPU it is "cpu"; a warning says so where the name is that of a GPU.

    Raises:
        ConfigError: an unknown name, or the index of a GPU that this machine does not have.
    """
    gpu = re.fullmatch(r"cuda(?::(\d+))?", name)
    if gpu is None and name not in ("cpu", "auto"):
        raise ConfigError(f"Unknown device {name!r}. Available: cpu, cuda, cuda:N, auto.")
    if name == "cpu":
        return name
    if not torch.cuda.is_available():
        if gpu is not None:
            logger.warning("No GPU is available. Using the device cpu, not %s.", name)
        return "cpu"
    if gpu is None:
        return "cuda"
    count = torch.cuda.device_count()
    if int(gpu[1] or 0) >= count:
        found = "1 GPU, cuda:0" if count == 1 else f"{count} GPUs, cuda:0 to cuda:{count - 1}"
        raise ConfigError(f"There is no device {name}. PyTorch finds {found}. Use one, or cpu.")
    return name
