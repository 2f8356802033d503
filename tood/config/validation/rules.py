"""Tables of rules: which values a config key accepts, and how to say what is wrong."""

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils.registry import Registry

from ...errors import ConfigError
from ..merging import get_value, has_key, shown


@dataclass(frozen=True)
class Kind:
    """A kind of value.

    Attributes:
        accepts: whether a value is of this kind.
        text: the kind in words, after "must be".
        choices: all values, where they can be listed.
    """

    accepts: Callable[[Any], bool]
    text: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rule:
    """What one key accepts.

    Attributes:
        key: full name. Rules of keys that a config does not have, of another detectron2 version
            for example, are skipped.
        kind: of its value.
        fix: a sentence that says more about how to fix a wrong value.
    """

    key: str
    kind: Kind
    fix: str = ""


def apply_rules(cfg: CfgNode, rules: Iterable[Rule]) -> None:
    """Raise a ConfigError for the first rule that a config breaks."""
    for rule in rules:
        if not has_key(cfg, rule.key):
            continue
        value = get_value(cfg, rule.key)
        if rule.kind.accepts(value):
            continue
        if rule.kind.choices:
            raise unknown_choice(rule.key, value, rule.kind.choices, rule.fix)
        raise ConfigError(
            _sentences(f"{rule.key} is {shown(value)}, but must be {rule.kind.text}.", rule.fix)
        )


def validate_registered(
    cfg: CfgNode, key: str, registry: Registry, own: Collection[str] = ()
) -> None:
    """Raise a ConfigError if the value of a key is no name of a registry.

    Args:
        cfg: the config, after its ``CUSTOM_IMPORTS``.
        key: full name.
        registry: detectron2's, of parts of models.
        own: names that are registered later.
    """
    value = get_value(cfg, key)
    names = sorted({name for name, _ in registry}.union(own))
    if value not in names:
        fix = "To use your own, list its file in MODEL.TOOD.CUSTOM_IMPORTS."
        raise unknown_choice(key, value, names, fix)


def unknown_choice(key: str, value: object, choices: Iterable[str], fix: str = "") -> ConfigError:
    """The error about a value that is none of the choices."""
    available = ", ".join(name or "'' (none)" for name in choices)
    return ConfigError(_sentences(f"Unknown {key} {shown(value)}. Available: {available}.", fix))


def _sentences(message: str, fix: str) -> str:
    return f"{message} {fix}" if fix else message


def is_number(value: object) -> bool:
    """Whether a value is an int or a float; True and False are neither."""
    return isinstance(value, Real) and not isinstance(value, bool)


def integer(low: int | None = None, high: int | None = None) -> Kind:
    """An integer from ``low`` to ``high``, both included."""

    def accepts(value: Any) -> bool:
        is_integer = isinstance(value, Integral) and not isinstance(value, bool)
        return is_integer and _within(value, low, high)

    return Kind(accepts, "an integer" + _range_text(low, high))


def number(
    low: float | None = None,
    high: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
    finite: bool = True,
) -> Kind:
    """A number from ``low`` to ``high``, both included, or between ``above`` and ``below``."""

    def accepts(value: Any) -> bool:
        """Whether a value is such a number."""
        if not is_number(value) or math.isnan(value) or (finite and math.isinf(value)):
            return False
        return (
            _within(value, low, high)
            and (above is None or value > above)
            and (below is None or value < below)
        )

    text = "a number" + _range_text(low, high)
    if above is not None:
        text += f" above {above}"
    if below is not None:
        text += f" {'and ' if above is not None or low is not None else ''}below {below}"
    return Kind(accepts, text)


def optional(kind: Kind) -> Kind:
    """The kind, or None."""
    return Kind(lambda value: value is None or kind.accepts(value), f"{kind.text}, or None")


def one_of(choices: Collection[str]) -> Kind:
    """One of several names."""
    names = tuple(choices)
    return Kind(lambda value: isinstance(value, str) and value in names, "", names)


def text() -> Kind:
    """Any text but an empty one."""
    return Kind(lambda value: isinstance(value, str) and value != "", "text that is not empty")


def list_of(kind: Kind, elements: str, *, length: int | None = None, min_length: int = 0) -> Kind:
    """A list of values of one kind.

    Args:
        kind: of the elements.
        elements: what the elements are, in words, such as "integers of at least 1".
        length: how many there have to be.
        min_length: how many there have to be at least.
    """

    def accepts(value: Any) -> bool:
        """Whether a value is such a list."""
        return (
            isinstance(value, list | tuple)
            and len(value) >= min_length
            and (length is None or len(value) == length)
            and all(kind.accepts(element) for element in value)
        )

    count = f"{length} " if length is not None else ""
    return Kind(accepts, f"{'a non-empty list' if min_length else 'a list'} of {count}{elements}")


def pair(first: Kind, second: Kind) -> Kind:
    """A list of two values, each of its own kind."""

    def accepts(value: Any) -> bool:
        """Whether a value is such a pair."""
        is_pair = isinstance(value, list | tuple) and len(value) == 2
        return is_pair and first.accepts(value[0]) and second.accepts(value[1])

    return Kind(accepts, f"a pair of {first.text} and {second.text}")


def is_increasing(values: Sequence[float]) -> bool:
    """Whether every value is larger than the one before it."""
    return all(a < b for a, b in itertools.pairwise(values))


def _within(value: float, low: float | None, high: float | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)


def _range_text(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f" from {low} to {high}"
    if low is not None:
        return f" of at least {low}"
    return f" of at most {high}" if high is not None else ""
