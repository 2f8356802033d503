"""Config keys, loading and validation."""

from .defaults import add_tood_config
from .loading import load_config, load_config_text

__all__ = ["add_tood_config", "load_config", "load_config_text"]
