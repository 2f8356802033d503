"""Ids of images and categories: whole numbers of any size, or text."""

from collections.abc import Sequence
from typing import Any

from ...errors import DataError
from ..dataset import FileId
from .json_file import printable


class IdTable:
    """Ids of a list in a file, and the positions that references to them mean.

    Args:
        source: the file, for messages.
        what: what has the ids, in the plural: "images" or "categories".
        values: the ids as the file has them. ``1.0`` is 1.

    Attributes:
        ids: by position, all whole numbers or all text.

    Raises:
        DataError: an id is neither a whole number nor text, occurs twice, or both kinds occur.
    """

    def __init__(self, source: str, what: str, values: Sequence[Any]) -> None:
        self.source, self.what = source, what
        self.ids: list[FileId] = [self._normalize(value) for value in values]
        kinds = {type(value) for value in self.ids}
        if len(kinds) > 1:
            number = next(value for value in self.ids if isinstance(value, int))
            text = next(value for value in self.ids if isinstance(value, str))
            raise DataError(
                f"{source}: some ids of its {what} are numbers and some are text, such as "
                f"{printable(repr(number))} and {printable(repr(text))}. Use one kind."
            )
        self.kind = kinds.pop() if kinds else int
        self.positions = {value: position for position, value in enumerate(self.ids)}
        if len(self.positions) != len(self.ids):
            # The last position of an id that occurs twice is not its first.
            twice = next(x for i, x in enumerate(self.ids) if self.positions[x] != i)
            raise DataError(
                f"{source}: two of its {what} have the id {printable(repr(twice))}. Ids must be "
                "unique."
            )

    def _normalize(self, value: Any) -> FileId:
        normalized = whole_number(value)
        if normalized is None and not isinstance(value, str):
            raise DataError(
                f"{self.source}: one of its {self.what} has the id {printable(repr(value))}. Ids "
                "must be whole numbers or text."
            )
        return value if normalized is None else normalized

    def find(self, value: Any) -> int | None:
        """Return the position that a reference means; None if it means none."""
        if type(value) is not self.kind:
            value = whole_number(value) if self.kind is int else None
        return None if value is None else self.positions.get(value)

    def explain(self, value: Any) -> str:
        """Say why a reference means none."""
        shown = printable(repr(value))
        if isinstance(value, str) and self.kind is int:
            return f"none of the {self.what} has the id {shown}; their ids are numbers"
        if not isinstance(value, str) and self.kind is str:
            return f"none of the {self.what} has the id {shown}; their ids are text"
        return f"none of the {self.what} has the id {shown}"


def whole_number(value: Any) -> int | None:
    """Return a JSON value as an integer if it is a whole number, such as 3 or 3.0, else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else None
