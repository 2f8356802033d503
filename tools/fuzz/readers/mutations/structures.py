"""Damages JSON and YAML files by their structure."""

import copy
import json
from collections.abc import Callable
from random import Random
from typing import Any

import yaml

from ..audit import CANARY
from .values import any_value

# A text in the parsed data that becomes raw text in the file.
_RAW = "@@raw@@"
_DEPTHS = (50, 900, 5000, 100_000)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Each container in the data with each of its keys, once: aliases in YAML can repeat them."""
    found, pending, seen = [], [value], set()
    while pending:
        container = pending.pop()
        if id(container) in seen:
            continue
        seen.add(id(container))
        keys = list(container) if isinstance(container, dict) else range(len(container))
        for key in keys:
            found.append((container, key))
            if isinstance(container[key], (dict, list)):
                pending.append(container[key])
    return found


def _change(value: Any, rng: Random) -> Any:
    """Change one place of the data."""
    places = _places(value)
    if not places:
        return any_value(rng)
    container, key = rng.choice(places)
    kind = rng.randrange(9)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, dict):
        container[rng.choice(("", "__proto__", "0", str(any_value(rng))[:200]))] = container.pop(
            key
        )
    elif kind == 2:
        other, other_key = rng.choice(places)
        container[key] = copy.deepcopy(other[other_key])
    elif kind == 3 and isinstance(container, list):
        container.extend(copy.deepcopy(container[key]) for _ in range(rng.choice((1, 3, 300))))
    elif kind == 4:
        container[key] = [container[key]]
    elif kind == 5:
        container[key] = {"a": container[key]}
    elif kind == 6 and isinstance(container[key], (int, float)):
        container[key] = rng.choice((-container[key], str(container[key]), container[key] * 1000.5))
    else:
        container[key] = any_value(rng)
    return value


def _raw_texts(rng: Random) -> str:
    depth = rng.choice(_DEPTHS)
    return rng.choice(
        (
            *("1e999999", "-1e999999", "1" + "0" * 5000, "NaN", "-Infinity", "0x10", "01", "1."),
            *("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth, "[" * depth),
            *('"\\ud800"', '"\\u0000"', "'x'", '"x', "// x\n1", "{,}", '{"a":1,"a":2}', "[1,]"),
        )
    )


def _dump_json(value: Any, raw: str) -> bytes | None:
    try:
        text = json.dumps(value)
    except (ValueError, RecursionError):  # an integer of too many digits
        return None
    return text.replace(f'"{_RAW}"', raw).encode()


def _parse(data: bytes, load: Callable[[str], Any]) -> Any:
    """The content; None where an earlier mutation has damaged it."""
    try:
        value = load(data.decode())
    except (ValueError, RecursionError, yaml.YAMLError):
        return None
    return value if isinstance(value, (dict, list)) else None


def _change_some(value: Any, rng: Random) -> Any:
    """Change one or a few places of a content."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        value = _change(value, rng)
        if not isinstance(value, (dict, list)):
            break
    return value


def json_value(data: bytes, rng: Random) -> bytes | None:
    """Change places of the content."""
    value = _parse(data, json.loads)
    if value is None:
        return None
    value = _change_some(value, rng)
    return _dump_json(value, "")


def json_raw(data: bytes, rng: Random) -> bytes | None:
    """Replace a value by what is hard to parse."""
    value = _parse(data, json.loads)
    if not value:
        return None
    container, key = rng.choice(_places(value))
    container[key] = _RAW
    return _dump_json(value, _raw_texts(rng))


def json_duplicate_key(data: bytes, rng: Random) -> bytes | None:
    """Repeat a key in its object."""
    value = _parse(data, json.loads)
    places = [x for x in _places(value or []) if isinstance(x[0], dict)]
    if not places:
        return None
    container, key = rng.choice(places)
    twin = json.dumps(any_value(rng)) if rng.random() < 0.5 else json.dumps(container[key])
    container[key] = _RAW
    return _dump_json(value, f"null, {json.dumps(key)}: {twin}")


def _load_yaml(text: str) -> Any:
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def yaml_value(data: bytes, rng: Random) -> bytes | None:
    """Change places of the content."""
    value = _parse(data, _load_yaml)
    if value is None:
        return None
    value = _change_some(value, rng)
    try:
        return yaml.safe_dump(value, allow_unicode=rng.random() < 0.5).encode()
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


def _yaml_snippets(rng: Random) -> str:
    depth = rng.choice(_DEPTHS[:3])
    tens = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12))
    merges = "\n".join(
        f"b{i}: &b{i}\n  <<: [{', '.join([f'*b{i - 1}'] * 10)}]\n  k{i}: 1" for i in range(1, 9)
    )
    return rng.choice(
        (
            f"!!python/object/apply:os.system ['echo {CANARY}']",
            f"!!python/object/new:subprocess.Popen [['echo', '{CANARY}']]",
            f"!!python/object/apply:eval ['\"{CANARY}\"']",
            "!!python/name:os.system",
            "!!python/module:os",
            *("!!binary aGFsbG8=", "!!timestamp 2001-01-01", "!!set {a, b}", "!!int x", "!!float"),
            *("!!omap [a: 1]", "!unknown x", "!!pairs [a: 1]", "2001-01-01", "0o17", "0b1", "1:30"),
            *("*nothing", "&a [*a]", "&a {b: *a}", "? [a]\n: 1", "{[a]: 1}", "? {a: 1}\n: 2"),
            *("[" * depth + "]" * depth, "- " * depth, "{a: " * depth + "1" + "}" * depth),
            f"x\na0: &a0 [x]\n{tens}",
            f"x\nb0: &b0 {{k: 1}}\n{merges}",
            *("1" * 5000, "1e999", ".nan", ".inf", '"\\ud800"', '"\\0"', "|\n  a\n b", "%TAG ! x"),
            *("x\n---\ny: 1", "x\n...\n", "\t- a", "x: y: z", "@", "`x`", "null", "~", "''"),
        )
    )


def yaml_snippet(data: bytes, rng: Random) -> bytes | None:
    """Replace the value of a line by a tag, an alias, a bomb, or what is no YAML."""
    lines = data.decode("utf-8", "replace").split("\n")
    places = [i for i, line in enumerate(lines) if ":" in line]
    if not places:
        return None
    place = rng.choice(places)
    key = lines[place].partition(":")[0]
    snippet = _yaml_snippets(rng)
    lines[place] = f"{key}: {snippet}"
    bomb = next((name for name in ("a11", "b8") if f"&{name}" in snippet), "")
    if bomb:  # the rest of the file uses it
        lines[place] = f"{snippet.removeprefix('x' + chr(10))}\n{key}: *{bomb}"
    return "\n".join(lines).encode()


def yaml_duplicate_key(data: bytes, rng: Random) -> bytes | None:
    """Repeat a line."""
    lines = data.decode("utf-8", "replace").split("\n")
    place = rng.randrange(len(lines))
    lines.insert(place, lines[rng.randrange(len(lines))])
    return "\n".join(lines).encode()


JSON = (json_value, json_value, json_value, json_raw, json_duplicate_key)
YAML = (yaml_value, yaml_value, yaml_snippet, yaml_snippet, yaml_duplicate_key)
