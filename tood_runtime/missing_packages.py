"""What to say when a package that every command needs is missing."""

# How to install what no extra of this package can install.
_INSTALL_COMMANDS = {
    "torch": "pip install torch torchvision",
    "torchvision": "pip install torch torchvision",
    "detectron2": "tood install-detectron2",
}

#: The packages that every command needs, in the order in which they are installed.
NEEDED_PACKAGES = tuple(_INSTALL_COMMANDS)


def missing_package_message(package: str) -> str:
    """One line that says how to install one of :data:`NEEDED_PACKAGES`."""
    return f"tood needs {package}. Install it: {_INSTALL_COMMANDS[package]}"
