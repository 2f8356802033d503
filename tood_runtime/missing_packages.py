"""What to say when a package is missing, or too old."""

import re
from importlib import import_module, metadata
from types import ModuleType
from typing import Any

# How to install what no extra of this package can install.
_INSTALL_COMMANDS = {
    "torch": "pip install torch torchvision",
    "torchvision": "pip install torch torchvision",
    "detectron2": "tood install-detectron2",
}

#: The packages that every command needs, in the order in which they are installed.
NEEDED_PACKAGES = tuple(_INSTALL_COMMANDS)


# The oldest versions that the extras in pyproject.toml allow, by the module that is imported.
OLDEST_VERSIONS = {
    "av": "14",
    "ensemble_boxes": "1.0.9",
    "fastapi": "0.116",
    "mlflow": "2.10",
    "nncf": "2.14",
    "onnx": "1.17",
    "onnxruntime": "1.21",
    "openvino": "2025.4",
    "prometheus_client": "0.20",
    "pyarrow": "15",
    "python_multipart": "0.0.18",
    "safetensors": "0.4",
    "supervision": "0.31",
    "timm": "1.0.11",
    "trackers": "2.4",
    "uvicorn": "0.30",
    "wandb": "0.19",
}


class MissingPackageError(ImportError):
    """A package that only some uses need is missing or too old; the message says how to fix it."""


def missing_package_message(package: str) -> str:
    """One line that says how to install one of :data:`NEEDED_PACKAGES`."""
    return f"tood needs {package}. Install it: {_INSTALL_COMMANDS[package]}"


def import_optional(
    module: str,
    what: str,
    install: str | None = None,
    raising: type[Exception] = MissingPackageError,
) -> Any:
    """Import a module of a package that only some uses need.

    Args:
        module: such as "detectron2.structures".
        what: needs it, for the message.
        install: what ``pip install`` is to be given; by default the package's name.
        raising: the error to raise, of the caller's own kind.

    Raises:
        MissingPackageError: or ``raising``: it cannot be imported, or is older than
            :data:`OLDEST_VERSIONS`.
    """
    package = module.partition(".")[0]
    command = _INSTALL_COMMANDS.get(package, f"pip install {install or package}")
    try:
        imported, root = import_module(module), import_module(package)
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise raising(
            f"{what} needs the package {package}, which cannot be imported ({reason}). Install it: "
            f"{command}"
        ) from error
    oldest = OLDEST_VERSIONS.get(package)
    version = None if oldest is None else _version(root)
    if oldest is not None and version is not None and _numbers(version) < _numbers(oldest):
        raise raising(
            f"{what} needs {package} {oldest} or newer, and {version} is installed. Update it: "
            f"{command.replace('pip install', 'pip install --upgrade')}"
        )
    return imported


def _version(package: ModuleType) -> str | None:
    """Of an imported package; None if nothing says it."""
    version = getattr(package, "__version__", None)
    if isinstance(version, str):
        return version
    try:
        return metadata.version(package.__name__.replace("_", "-"))
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """The release of a version: (1, 20) of "1.20.0rc1", and of "1.20.0"."""
    release = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(number) for number in release[0].split(".")] if release else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
