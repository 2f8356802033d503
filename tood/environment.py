"""Checks that torch, torchvision and detectron2 are installed, and says how to fix it if not."""

import warnings
from importlib import metadata
from types import ModuleType

from tood_runtime.missing_packages import NEEDED_PACKAGES, missing_package_message


def version_of(package: str) -> str:
    """Version of an installed package, or "missing"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def check_dependencies() -> None:
    """Check that torch, torchvision and detectron2 are installed and fit together.

    Raises:
        ModuleNotFoundError: one is missing; the message is one line with the command to install it.
        ImportError: torchvision was built for another torch; likewise.
    """
    try:
        import torch

        _check_torchvision(torch)
        with warnings.catch_warnings():
            # About detectron2's own use of torch.jit.script, which no user can change.
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            import detectron2.modeling  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name not in NEEDED_PACKAGES:
            raise
        message = missing_package_message(error.name)
        raise ModuleNotFoundError(message, name=error.name) from None


def _check_torchvision(torch: ModuleType) -> None:
    """Call one of torchvision's compiled operators, which only the matching torch can load."""
    try:
        from torchvision.ops import nms

        nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except ModuleNotFoundError:
        raise
    except (RuntimeError, ImportError, AttributeError, OSError) as error:
        raise ImportError(
            f"torchvision {version_of('torchvision')} does not match torch {version_of('torch')} "
            f"({str(error).splitlines()[0]}). Reinstall both from one index: "
            "pip install --force-reinstall torch torchvision"
        ) from None
