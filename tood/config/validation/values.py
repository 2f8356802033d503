"""Checks that hold for every key: no None, no NaN, and the type of the default."""

import functools
import math
from typing import Any

from detectron2.config import CfgNode, get_cfg

from ...errors import ConfigError
from ..defaults import add_tood_config
from ..merging import NONE_ALLOWED, shown
from .rules import is_number

# Keys for which infinity has one: the last limit of levels, and the maximum norm.
_INFINITY_ALLOWED = ("MODEL.TOOD.ASSIGNERS.", "SOLVER.CLIP_GRADIENTS.NORM_TYPE")

_MAX_INTEGER = 2**63 - 1


@functools.cache
def _defaults() -> CfgNode:
    cfg = get_cfg()
    add_tood_config(cfg)
    return cfg


def validate_values(cfg: CfgNode) -> None:
    """Raise a ConfigError for values that fit no key.

    Merging files and options checks types too; values that a program assigns are not checked, and
    yacs accepts None everywhere. Keys of nodes that are not detectron2's or TOOD's are skipped.

    Args:
        cfg: the config.
    """
    _validate_node(cfg, _defaults(), "")


def _validate_node(node: CfgNode, defaults: CfgNode, parent: str) -> None:
    for name, default in defaults.items():
        if name not in node:
            continue
        key, value = f"{parent}{name}", node[name]
        if isinstance(default, CfgNode):
            if not isinstance(value, CfgNode):
                raise ConfigError(f"{key} is a group of keys, but its value is {shown(value)}.")
            _validate_node(value, default, f"{key}.")
            continue
        if value is None:
            if default is not None and key not in NONE_ALLOWED:
                raise ConfigError(f"{key} has no value. The default is {shown(default)}.")
            continue
        _validate_numbers(key, value, value)
        if not _has_type_of(value, default):
            raise ConfigError(
                f"{key} is {shown(value)}, but must be {_type_name(default)}. The default is "
                f"{shown(default)}."
            )


def _has_type_of(value: Any, default: Any) -> bool:
    if isinstance(default, bool):
        return isinstance(value, bool)
    if is_number(default):
        return is_number(value)
    if isinstance(default, str):
        return isinstance(value, str)
    if isinstance(default, list | tuple):
        return isinstance(value, list | tuple) and _fits_elements(value, default)
    return True


def _type_name(default: Any) -> str:
    if isinstance(default, bool):
        return "True or False"
    if is_number(default):
        return "a number"
    if isinstance(default, str):
        return "text"
    for is_kind, elements in ((is_number, " of numbers"), (_is_text, " of text")):
        if default and all(is_kind(element) for element in default):
            return f"a list{elements}"
    return "a list"


def _fits_elements(values: list | tuple, defaults: list | tuple) -> bool:
    """Whether text stays text and numbers stay numbers in a list."""
    for is_kind in (is_number, _is_text):
        if defaults and all(is_kind(element) for element in defaults):
            return all(is_kind(element) for element in values)
    return True


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _validate_numbers(key: str, value: Any, whole: Any) -> None:
    if isinstance(value, list | tuple):
        for element in value:
            _validate_numbers(key, element, whole)
    elif isinstance(value, float):
        allowed = math.isinf(value) and key.startswith(_INFINITY_ALLOWED)
        if not (math.isfinite(value) or allowed):
            raise ConfigError(f"{key} is {shown(whole)}, but must be finite.")
    elif isinstance(value, int) and abs(value) > _MAX_INTEGER:
        raise ConfigError(f"{key} is {shown(whole)}, but must be below 2^63.")
