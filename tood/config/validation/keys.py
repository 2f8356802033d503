"""Checks of config keys before a model is built."""

from collections.abc import Iterable

from detectron2.config import CfgNode, get_cfg

from ...errors import ConfigError
from ..defaults import add_tood_config
from ..merging import all_keys, get_value, unknown_key_message
from ..renames import RENAMED_KEYS


def validate_model_keys(cfg: CfgNode, custom_nodes: Iterable[str] = ()) -> None:
    """Raise a ConfigError for keys under ``MODEL.TOOD`` that :func:`add_tood_config` does not add.

    yacs rejects unknown keys unless ``cfg.set_new_allowed(True)`` was called. Some programs call it
    (SAHI does), and a misspelled or renamed key would then be ignored silently.

    Args:
        cfg: the config of a model that is about to be built.
        custom_nodes: nodes under ``MODEL.TOOD`` that a user's own assigner or criterion reads.
    """
    defaults = get_cfg()
    add_tood_config(defaults)
    known = set(all_keys(defaults.MODEL.TOOD, "MODEL.TOOD"))
    # Not our own nodes, in which keys can be misspelled.
    nodes = {f"MODEL.TOOD.{node}" for node in custom_nodes} - known
    custom = tuple(f"{node}." for node in nodes)
    for key in all_keys(cfg.MODEL.TOOD, "MODEL.TOOD"):
        if key in known or f"{key}.".startswith(custom):
            continue
        message = unknown_key_message(defaults, key, "the config", get_value(cfg, key))
        if key not in RENAMED_KEYS:
            message += (
                " Keys of your own assigner or criterion belong in the node that its config_node "
                "names, other keys outside of MODEL.TOOD."
            )
        raise ConfigError(message)
