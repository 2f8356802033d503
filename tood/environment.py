"""What has to be installed for anything here to work, and what to do where it is not."""

import warnings
from importlib import metadata

_INSTALL_DETECTRON2 = (
    "tood needs detectron2, which is on no package index. In a checkout of this project:\n"
    "  python tools/install_detectron2.py     (or make setup, which does everything)\n"
    "By hand, with a C++ compiler:\n"
    "  pip install --no-build-isolation git+https://github.com/facebookresearch/detectron2.git"
)


def version_of(package: str) -> str:
    """Version of an installed package, or "missing"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def check_dependencies() -> None:
    """Check that torch, torchvision and detectron2 are there and fit together.

    Raises:
        ModuleNotFoundError: one is missing; the message says how to install it.
        ImportError: torchvision was built for another torch; likewise.
    """
    try:
        import torch

        _check_torchvision(torch)
        with warnings.catch_warnings():
            # detectron2's own use of torch.jit.script, told to every user of every program.
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            import detectron2.modeling  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name == "detectron2":
            raise ModuleNotFoundError(_INSTALL_DETECTRON2, name=error.name) from None
        if error.name in ("torch", "torchvision"):
            message = f"tood needs {error.name}: pip install torch torchvision"
            raise ModuleNotFoundError(message, name=error.name) from None
        raise


def _check_torchvision(torch: object) -> None:
    """Call one of torchvision's compiled operators, which another torch's build does not have."""
    try:
        from torchvision.ops import nms

        nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except ModuleNotFoundError:
        raise
    except (RuntimeError, ImportError, AttributeError, OSError) as error:
        raise ImportError(
            f"torchvision {version_of('torchvision')} does not match torch {version_of('torch')}: "
            f"its operators do not load ({str(error).splitlines()[0]}).\n"
            "The two are released in pairs and must come from one index. Install both anew:\n"
            "  pip install --force-reinstall torch torchvision"
        ) from None
