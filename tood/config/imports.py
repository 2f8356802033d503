"""Importing the files that MODEL.TOOD.CUSTOM_IMPORTS lists."""

import importlib.util
import logging
import sys
import zlib
from pathlib import Path

from ..errors import ConfigError

logger = logging.getLogger(__name__)


def import_custom(name: str) -> None:
    """Import a module by its name, or a file by its path (ending in ".py"); each only once.

    Raises:
        ConfigError: the module or file, or a module that it imports, does not exist. Any other
            error in the file is raised as it is.
    """
    path = Path(name)
    is_file = path.suffix == ".py"
    key = name
    if is_file:  # files of the same name in two folders are two modules
        key = f"tood_imports.{path.stem}_{zlib.crc32(str(path.resolve()).encode()):08x}"
    if key in sys.modules:
        return
    if is_file and not path.is_file():
        raise ConfigError(
            f"MODEL.TOOD.CUSTOM_IMPORTS lists {name}, which does not exist. Paths are relative to "
            f"the working directory, {Path.cwd()}."
        )
    logger.info("Importing %s (MODEL.TOOD.CUSTOM_IMPORTS).", name)
    try:
        if is_file:
            _import_file(key, path)
        else:
            importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"MODEL.TOOD.CUSTOM_IMPORTS lists {name}, which cannot be imported: {error}."
        ) from error


def _import_file(key: str, path: Path) -> None:
    spec = importlib.util.spec_from_file_location(key, path)
    assert spec is not None and spec.loader is not None  # always so for a file ending in ".py"
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[key]  # so that the next attempt imports it again
        raise
