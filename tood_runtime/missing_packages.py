"""What to say when a package is missing."""

from importlib import import_module
from typing import Any

# How to install what no extra of this package can install.
_INSTALL_COMMANDS = {
    "torch": "pip install torch torchvision",
    "torchvision": "pip install torch torchvision",
    "detectron2": "tood install-detectron2",
}

#: The packages that every command needs, in the order in which they are installed.
NEEDED_PACKAGES = tuple(_INSTALL_COMMANDS)


class MissingPackageError(ImportError):
    """A package that only some uses need is missing; the message says how to install it."""


def missing_package_message(package: str) -> str:
    """One line that says how to install one of :data:`NEEDED_PACKAGES`."""
    return f"tood needs {package}. Install it: {_INSTALL_COMMANDS[package]}"


def import_optional(module: str, what: str, install: str | None = None) -> Any:
    """Import a module of a package that only some uses need.

    Args:
        module: such as "detectron2.structures".
        what: needs it, for the message.
        install: what ``pip install`` is to be given; by default the package's name.

    Raises:
        MissingPackageError: it cannot be imported.
    """
    package = module.partition(".")[0]
    command = _INSTALL_COMMANDS.get(package, f"pip install {install or package}")
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingPackageError(
            f"{what} needs the package {package}, which cannot be imported ({error}). Install it: "
            f"{command}"
        ) from error
