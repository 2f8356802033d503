"""Merging files and options into a config, with errors that say how to fix a key or a value."""

import ast
import copy
import difflib
from collections.abc import Iterator, Sequence
from typing import Any

from detectron2.config import CfgNode

from ..errors import ConfigError
from .renames import RENAMED_KEYS

# What yacs raises for a value that does not fit, and Python's parser for one it cannot parse.
_VALUE_ERRORS = (
    AssertionError,
    KeyError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)

# Keys for which None has a meaning in detectron2: the value of SOLVER.WEIGHT_DECAY.
NONE_ALLOWED = ("SOLVER.WEIGHT_DECAY_BIAS", "SOLVER.WEIGHT_DECAY_NORM")
# Keys with an integer as default, so that yacs takes the integers in config files, that accept
# fractions too.
FRACTIONS_ALLOWED = ("MODEL.TOOD.WARMUP.EPOCHS", "SOLVER.CHECKPOINT_MINUTES")

_TYPE_NAMES = {
    bool: "True or False",
    int: "an integer",
    float: "a float",
    str: "text",
    list: "a list",
    tuple: "a list",
}


def merge_content(cfg: CfgNode, content: dict[str, Any], source: str) -> None:
    """Merge the content of a config file.

    Args:
        cfg: changed in place.
        content: nested keys.
        source: name of the file, for messages.

    Raises:
        ConfigError: a key is unknown or renamed, or a value does not fit.
    """
    version = content.get("VERSION", cfg.VERSION)
    if version != cfg.VERSION:
        raise ConfigError(
            f"VERSION in {source} is {version!r}, and only detectron2's version {cfg.VERSION} of "
            f"the keys is supported. Update the keys and set VERSION to {cfg.VERSION}."
        )
    for key, value in _leaves(cfg, content, source):
        _set_value(cfg, key, value, source)


def merge_options(cfg: CfgNode, opts: Sequence[Any]) -> None:
    """Merge ``[KEY, VALUE, ...]``.

    Args:
        cfg: changed in place.
        opts: as on a command line.

    Raises:
        ConfigError: a key is unknown or renamed, or has no value that fits.
    """
    for i in range(0, len(opts), 2):
        key = str(opts[i])
        if key.startswith("--"):
            raise ConfigError(
                f"{key} is an option, but appears among the KEY VALUE pairs. Move it before them."
            )
        if "=" in key:
            name, _, value = key.partition("=")
            meant = name if has_key(cfg, name) else _nearest_key(cfg, name) or name
            raise ConfigError(f"Write {meant} {value or 'VALUE'} instead of {key} in the options.")
        if i > 0 and "." not in key and key not in cfg and _nearest_key(cfg, key) is None:
            raise ConfigError(
                f"Expected a config key after {opts[i - 2]} {opts[i - 1]} in the options, not "
                f"{key!r}. Options are KEY VALUE pairs; quote a value that contains spaces."
            )
        if not has_key(cfg, key):
            raise ConfigError(unknown_key_message(cfg, key, "the options"))
        if i + 1 == len(opts):
            raise ConfigError(f"{key} has no value in the options. Add one after it.")
        node = get_value(cfg, key)
        if isinstance(node, CfgNode):
            raise ConfigError(
                f"{key} in the options is a group of keys. Set one of them, such as "
                f"{key}.{next(iter(node), 'KEY')}."
            )
        _set_value(cfg, key, opts[i + 1], "the options")


def unknown_key_message(cfg: CfgNode, key: str, source: str, value: Any = None) -> str:
    """What to say about a key that does not exist: its new name, the nearest key, or all choices.

    Args:
        cfg: the config whose keys are meant.
        key: full name of the unknown key.
        source: where it was found.
        value: the keys below it, where it was found as a group.
    """
    if key in RENAMED_KEYS:
        inside = [
            f"{key}.{name} is now {RENAMED_KEYS[f'{key}.{name}']}"
            for name in (value if isinstance(value, dict) else ())
            if f"{key}.{name}" in RENAMED_KEYS
        ]
        details = f" ({', '.join(inside)})" if inside else ""
        return f"{key} in {source} was renamed to {RENAMED_KEYS[key]}{details}. Use the new name."
    message = f"Unknown config key {key} in {source}."
    near = _nearest_key(cfg, key)
    if near:
        return f"{message} Did you mean {near}?"
    parent = key.rpartition(".")[0]
    if parent and has_key(cfg, parent) and isinstance(get_value(cfg, parent), CfgNode):
        return f"{message} Available in {parent}: {', '.join(sorted(get_value(cfg, parent)))}."
    return f"{message} Available at the top level: {', '.join(sorted(cfg))}."


def all_keys(node: CfgNode, parent: str = "") -> Iterator[str]:
    """Full names of all keys below a node, groups included.

    Args:
        node: where to start.
        parent: its full name.
    """
    for name, value in node.items():
        key = f"{parent}.{name}" if parent else name
        yield key
        if isinstance(value, CfgNode):
            yield from all_keys(value, key)


def get_value(cfg: CfgNode, key: str) -> Any:
    """The value or group of an existing key, given by its full name."""
    node = cfg
    for name in key.split("."):
        node = node[name]
    return node


def all_values(cfg: CfgNode) -> dict[str, Any]:
    """The values of all keys by their full names, without groups."""
    values = {key: get_value(cfg, key) for key in all_keys(cfg)}
    return {key: value for key, value in values.items() if not isinstance(value, CfgNode)}


def _nearest_key(cfg: CfgNode, key: str) -> str | None:
    """An existing key that differs in case or spelling, or is in another group."""
    known = sorted(all_keys(cfg), key=lambda name: not name.startswith("MODEL.TOOD"))
    wanted = key.upper()
    parent, _, leaf = wanted.rpartition(".")
    siblings = {
        name.rpartition(".")[2]: name for name in known if name.rpartition(".")[0] == parent
    }
    spelled = difflib.get_close_matches(leaf, siblings, n=1, cutoff=0.7)
    if spelled:
        return siblings[spelled[0]]
    found = [name for name in known if name == leaf or name.endswith(f".{leaf}")]
    if not found and parent not in known:  # a misspelled group
        found = difflib.get_close_matches(wanted, known, n=1, cutoff=0.85)
    return found[0] if found else None


def _leaves(
    cfg: CfgNode, content: dict[str, Any], source: str, parent: str = ""
) -> Iterator[tuple[str, Any]]:
    """Full names and values in nested content; every key exists, groups are groups."""
    for name, value in content.items():
        key = f"{parent}.{name}" if parent else name
        if "." in name:
            first, _, rest = name.partition(".")
            raise ConfigError(
                f"{key} in {source} is written with dots. In a file, indent {rest} below {first}."
            )
        if not has_key(cfg, key):
            raise ConfigError(unknown_key_message(cfg, key, source, value))
        is_group = isinstance(get_value(cfg, key), CfgNode)
        if is_group and not isinstance(value, dict):
            raise ConfigError(
                f"{key} in {source} is a group of keys, but its value is {shown(value)}. "
                "Indent its keys below it, or delete the line."
            )
        if not is_group and isinstance(value, dict):
            raise ConfigError(
                f"{key} in {source} takes a value, not a group of keys. Check the indentation."
            )
        if is_group:
            yield from _leaves(cfg, value, source, key)
        else:
            yield key, copy.deepcopy(value)


def _set_value(cfg: CfgNode, key: str, value: Any, source: str) -> None:
    default = get_value(cfg, key)
    is_none = value is None or value == "None"
    if default is not None and is_none and key not in NONE_ALLOWED:
        raise ConfigError(f"{key} in {source} has no value. The default is {shown(default)}.")
    try:
        cfg.merge_from_list([key, value])
    except _VALUE_ERRORS:
        converted = _convert(key, default, value)
        if converted is not None:
            parent, _, leaf = key.rpartition(".")
            (get_value(cfg, parent) if parent else cfg)[leaf] = converted
            return
        raise ConfigError(
            f"{key} in {source} must be {_expected(default, value)}, not {shown(value)}."
        ) from None


def _convert(key: str, default: Any, value: Any) -> str | int | float | None:
    """A value that yacs refuses although its meaning is clear; None if it is not."""
    if isinstance(default, str) and isinstance(value, str):
        # Text that reads as a number, such as a folder named 2024.
        return value
    try:
        parsed = ast.literal_eval(value) if isinstance(value, str) else value
    except (*_VALUE_ERRORS, SyntaxError):
        return None
    if isinstance(parsed, bool):
        return None
    if isinstance(parsed, int) and isinstance(default, float):
        # A number that is too large for a float stays, and is refused with the other large ones.
        whole = key in FRACTIONS_ALLOWED or abs(parsed) >= 2**63
        return parsed if whole else float(parsed)
    return parsed if isinstance(parsed, float) and key in FRACTIONS_ALLOWED else None


def _expected(default: Any, value: Any) -> str:
    """A type, and as an example either what the value was meant to be or what the key has now."""
    kind = _TYPE_NAMES.get(type(default), "of another type")
    if isinstance(default, bool):
        return kind
    if isinstance(default, float) and str(value).lstrip("+-").isdigit():
        default = float(value)
    elif isinstance(default, str) and isinstance(value, int | float):
        default = str(value)
    elif default == []:
        default = [value]
    return f"{kind} such as {shown(default)}"


def shown(value: Any) -> str:
    """A value as messages show it, cut to 60 characters."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def has_key(cfg: CfgNode, key: str) -> bool:
    """Whether a key exists, given by its full name."""
    node = cfg
    for name in key.split("."):
        if not isinstance(node, CfgNode) or name not in node:
            return False
        node = node[name]
    return True
