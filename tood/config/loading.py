"""Reading a config."""

import logging
from pathlib import Path

import torch
from detectron2.config import CfgNode, get_cfg
from yaml import YAMLError

from ..errors import ConfigError
from .defaults import add_tood_config
from .imports import _import

logger = logging.getLogger(__name__)


def load_config(config_file: str, opts: list[str]) -> CfgNode:
    """The config of a program run: detectron2's and TOOD's defaults, a file, then options.

    Without a GPU, ``MODEL.DEVICE`` becomes "cpu".

    Args:
        config_file: path of a YAML file.
        opts: ``[KEY, VALUE, ...]``.

    Returns:
        The config, not frozen.

    Raises:
        ConfigError: a file is missing, a key is unknown, or a value does not fit.
    """
    cfg = get_cfg()
    add_tood_config(cfg)
    if not Path(config_file).is_file():
        raise ConfigError(
            f"there is no config file {config_file or '(none named)'}: check the path"
        )
    try:
        cfg.merge_from_file(config_file)
    except (KeyError, ValueError, AssertionError, YAMLError) as error:
        raise ConfigError(f"{config_file}: {_reason(error)}") from error
    try:
        cfg.merge_from_list(opts)
    except (KeyError, ValueError, AssertionError) as error:
        raise ConfigError(f"in the options: {_reason(error)}") from error
    for name in cfg.MODEL.TOOD.CUSTOM_IMPORTS:
        _import(name)
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        logger.warning("There is no GPU: MODEL.DEVICE is cpu instead of %s.", cfg.MODEL.DEVICE)
        cfg.MODEL.DEVICE = "cpu"
    return cfg


def _reason(error: Exception) -> str:
    return " ".join(str(error).strip("'\"").split())
