"""Reading config files safely: plain YAML values and local ``_BASE_`` files, nothing executed.

detectron2's ``CfgNode.merge_from_file`` runs the code that ``!!python/...`` tags name, in a file or
in its ``_BASE_``, and downloads a ``_BASE_`` that is a URL. These functions do neither.
"""

import codecs
import os
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError
from .files import named_config, refuse_url, shortened

_BASE = "_BASE_"

# Far above any real config. They bound the work that a file with nested aliases can cause.
_MAX_BYTES = 1_000_000
_MAX_FILES = 64
_MAX_VALUES = 100_000
_MAX_DEPTH = 20

# What PyYAML's constructors raise for values that do not fit an explicit tag, such as !!int x.
_VALUE_ERRORS = (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which in addition refuses a key that occurs twice in one group."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a group of keys; raise a ComposerError for a key that occurs twice."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen and key.value != "<<":
                problem = f"the key {key.value} occurs twice in one group"
                raise yaml.composer.ComposerError(None, None, problem, key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Apply merge keys (``<<``), which older versions of PyYAML let multiply without bound."""
        super().flatten_mapping(node)
        if len(node.value) > _MAX_VALUES:
            problem = f"merge keys make more than {_MAX_VALUES} values"
            raise yaml.composer.ComposerError(None, None, problem, node.start_mark)


def read_config_layers(path: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Read a config file and the files that its ``_BASE_`` names, directly or indirectly.

    Args:
        path: of the file.

    Returns:
        Files and their content without ``_BASE_``, in the order in which they are merged: a base
        comes before the file that names it.

    Raises:
        ConfigError: a file is missing, is not plain YAML, or is its own base.
    """
    layers: list[tuple[Path, dict[str, Any]]] = []
    _add_layers(path, (), layers)
    return layers


def _add_layers(
    path: Path, chain: tuple[Path, ...], layers: list[tuple[Path, dict[str, Any]]]
) -> None:
    resolved = Path(os.path.realpath(path))  # unlike resolve(), accepts a loop of links
    if resolved in chain:
        cycle = " -> ".join(str(link) for link in (*chain[chain.index(resolved) :], resolved))
        raise ConfigError(f"The {_BASE} lines form a cycle: {cycle}. Remove one of them.")
    content = _parse(path)
    for base in _base_files(content.pop(_BASE, []), path):
        _add_layers(base, (*chain, resolved), layers)
    layers.append((path, content))
    if len(layers) > _MAX_FILES:
        raise ConfigError(f"{path} has more than {_MAX_FILES} files as its {_BASE}. Merge some.")


def _base_files(value: object, path: Path) -> list[Path]:
    """The files that a ``_BASE_`` names: paths relative to ``path``, or names of our configs."""
    values = value if isinstance(value, list) else [value]
    names = [name for name in values if isinstance(name, str) and name]
    if len(names) < len(values):
        raise ConfigError(
            f"{_BASE} in {path} must be a file name or a list of file names, not {value!r}."
        )
    files = []
    for name in names:
        try:
            refuse_url(name)
        except ConfigError as error:
            raise ConfigError(f"{_BASE} in {path}: {error}") from None
        base = path.parent / os.path.expanduser(name)
        if not os.path.isfile(base):
            named = named_config(name)
            if named is None:
                what = "is not a file" if os.path.exists(base) else "does not exist"
                raise ConfigError(
                    f"{shortened(str(base))}, the {_BASE} of {path}, {what}. Correct the path, "
                    "which is relative to the file that names it."
                )
            base = named
        files.append(base)
    return files


def _parse(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path} is larger than 1 MB, so it is not a config file.")
        data = path.read_bytes()
        # Some editors of Windows write UTF-16, which only its first bytes tell.
        is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(
            f"{path} is not a text file in UTF-8. Save it as UTF-8 if it is a config file (.yaml); "
            "weights go into MODEL.WEIGHTS."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    return parse_config(text, path)


def parse_config(text: str, path: str | Path) -> dict[str, Any]:
    """Parse the text of a config: plain YAML values, nothing executed.

    Args:
        text: of the config.
        path: where it is from, for messages.

    Returns:
        Nested keys, ``_BASE_`` included.

    Raises:
        ConfigError: it is not plain YAML, or holds no keys.
    """
    try:
        content = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} {_yaml_problem(error)}") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply. Remove some levels.") from None
    except _VALUE_ERRORS as error:
        # Python reads no integers of thousands of digits.
        problem = "a number with too many digits" if "digits" in str(error) else ""
        problem = problem or f"a value that does not fit its tag: {error}"
        raise ConfigError(f"{path} has {problem}.") from None
    if content is None:
        raise ConfigError(
            f"{path} is empty. Add a line such as _BASE_: TOOD-R50-1x, or KEY: VALUE lines."
        )
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} must hold KEY: VALUE lines, but its top level is a {type(content).__name__}."
        )
    _validate_values(content, path)
    return content


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
    problem = " ".join((getattr(error, "problem", None) or str(error)).split())
    if isinstance(error, yaml.constructor.ConstructorError) and "tag:yaml.org" in problem:
        tag = problem.split("tag:yaml.org,2002:")[-1].rstrip("'")
        reason = "Such a tag can run code, so only" if "python" in tag else "Only"
        return (
            f"has the tag !!{tag}{where}. {reason} plain YAML values are accepted: write the value "
            "itself."
        )
    context = getattr(error, "context", None)
    if context and problem.startswith(("but ", "second ")):  # half a sentence
        problem = f"{context.split(';')[0]}, {problem}"
    return f"is not valid YAML: {problem}{where}."


def _validate_values(content: dict, path: str | Path) -> None:
    """Raise a ConfigError for anything but str, int, float, bool, None, lists and dicts of them."""
    pending: list[tuple[str, object, int]] = [("", content, 0)]
    count = 0
    while pending:
        key, value, depth = pending.pop()
        count += 1
        if count > _MAX_VALUES or depth > _MAX_DEPTH:
            raise ConfigError(f"{path} expands to too many or too deeply nested values.")
        if isinstance(value, dict):
            for name, child in value.items():
                if not isinstance(name, str):
                    inside = f" in {key}" if key else ""
                    raise ConfigError(
                        f"The key {name!r}{inside} in {path} must be text. Put it in quotes if it "
                        "is one."
                    )
                pending.append((f"{key}.{name}" if key else name, child, depth + 1))
        elif isinstance(value, list):
            pending.extend((key, child, depth + 1) for child in value)
        elif isinstance(value, str):
            # Escapes such as "\\0" and "\\ud800" make them.
            if "\0" in value or not _is_encodable(value):
                raise ConfigError(
                    f"{key} in {path} is {value!r}, which has a character that no text has. Remove "
                    "it."
                )
        elif not isinstance(value, int | float | bool | None):
            raise ConfigError(
                f"{key} in {path} is a {type(value).__name__}, which no config key takes. Put text "
                "in quotes."
            )


def _is_encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
