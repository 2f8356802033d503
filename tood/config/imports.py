"""Importing the files that MODEL.TOOD.CUSTOM_IMPORTS lists."""

import importlib.util
import logging
import sys
import zlib
from pathlib import Path

from ..errors import ConfigError

logger = logging.getLogger(__name__)


def _import(name: str) -> None:
    """Import a module by its name, or a file by its path; each once."""
    path = Path(name)
    key = name
    if path.suffix == ".py":  # files of one name from two folders are two modules
        key = f"tood_imports.{path.stem}_{zlib.crc32(str(path.resolve()).encode()):08x}"
    if key in sys.modules:
        return
    try:
        if path.suffix != ".py":
            importlib.import_module(name)
            return
        spec = importlib.util.spec_from_file_location(key, path)
        sys.modules[key] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except (ModuleNotFoundError, FileNotFoundError) as error:
        sys.modules.pop(key, None)
        raise ConfigError(f"MODEL.TOOD.CUSTOM_IMPORTS names {name}: {error}") from error
