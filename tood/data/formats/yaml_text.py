"""Loads the YAML files that describe datasets."""

from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from ...errors import DataError
from .files import read_text

_MAX_BYTES = 10_000_000
# More than such a file has without aliases.
_MAX_VALUES = 1_000_000


class _TextLoader(yaml.BaseLoader):
    """Loads every value as text, so that classes may be called no, on, 1e3 or null.

    No tag is obeyed, so nothing can be executed.
    """

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Construct a mapping; raise a ConstructorError for a key that occurs twice."""
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, count in keys.items():
            if count > 1:
                problem = f"the key {key[:100]} occurs twice"
                raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return super().construct_mapping(node, deep=deep)


def load_yaml_as_text(file: Path) -> dict[str, Any]:
    """Load a YAML file with a mapping at its top; every value is text, a list or a dict.

    Raises:
        DataError: it is not such a file.
    """
    if file.stat().st_size > _MAX_BYTES:
        raise DataError(f"{file} is larger than 10 MB, so it does not describe a YOLO dataset.")
    try:
        content = yaml.load(read_text(file), Loader=_TextLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        problem = " ".join((getattr(error, "problem", None) or str(error)).split())
        raise DataError(f"{file} is not valid YAML: {problem}{where}.") from None
    except (RecursionError, ValueError):
        raise DataError(f"{file} is not valid YAML. Write KEY: VALUE lines.") from None
    _validate_values(content, file)
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise DataError(
            f"{file} does not describe a YOLO dataset. It needs the keys train, val and names."
        )
    return content


def _validate_values(content: Any, file: Path) -> None:
    """Refuse aliases that repeat each other: whoever goes through the values would never end.

    Raises:
        DataError: there are more values than a dataset has, or text that no file can have.
    """
    pending, count = [content], 0
    while pending:
        value = pending.pop()
        count += 1
        if count > _MAX_VALUES:
            raise DataError(f"{file} expands to more than {_MAX_VALUES} values. Write them out.")
        if isinstance(value, dict):
            pending.extend(value)
            pending.extend(value.values())
        elif isinstance(value, str) and not _is_text(value):
            raise DataError(f"{file} has {value[:100]!r}, which no text can have. Correct it.")
        elif isinstance(value, list):
            pending.extend(value)


def _is_text(value: str) -> bool:
    r"""Whether there are no zero bytes and halves of characters, as escapes such as \0 make."""
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False
