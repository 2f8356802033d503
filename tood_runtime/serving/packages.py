"""The packages of the extra ``serve``."""

from typing import Any

from ..missing_packages import import_optional


def import_package(module: str) -> Any:
    """Import a module of the extra.

    Raises:
        MissingPackageError: it cannot be imported.
    """
    return import_optional(module, "The server", '"tood-detectron2[serve]"')
