"""Reads JSON files of any encoding; whatever is wrong with them is said in one sentence."""

import codecs
import gc
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from ...errors import DataError
from ..findings import escape_unprintable

# Bytes of a file that are decoded at once.
_PART = 2**20
# How files start that are not text.
_BINARY_STARTS = {b"\x1f\x8b": "compressed with gzip", b"PK\x03\x04": "a ZIP archive"}


def printable(value: object, limit: int = 100) -> str:
    """Return a value of a file for messages: short, on one line, nothing unprintable."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except (ValueError, RecursionError):  # integers of thousands of digits, absurd nesting
        return f"a value of type {type(value).__name__}"
    text = " ".join(text.encode("utf-8", "backslashreplace").decode().split())
    text = escape_unprintable(text)
    return text if len(text) <= limit else f"{text[:limit]}..."


def load_text(json_file: str) -> str:
    """Read the text of a JSON file: UTF-8, UTF-16 or UTF-32, with or without byte order mark.

    Raises:
        DataError: it is missing, empty or not text.
    """
    path = Path(json_file)
    shown = printable(json_file, 300)
    try:
        if path.is_dir():
            # Not below that: it could be the whole disk.
            found = sorted(path.glob("*.json")) or sorted(path.glob("*/*.json"))
            example = f", for example {found[0]}" if found else ""
            raise DataError(f"{shown} is a folder. Name the annotation file in it{example}.")
        if not path.is_file():
            raise DataError(f"There is no annotation file {shown}. Check the path.")
        with path.open("rb") as file:
            text = _decode(shown, file)
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"The annotation file {shown} cannot be read: {reason}.") from None
    if not text or text.isspace():
        raise DataError(f"{shown} is empty. Name an annotation file in COCO format.")
    return text


def _decode(shown: str, file: BinaryIO) -> str:
    """Return the text of a file. In parts, so that it is not in memory twice."""
    head = file.read(_PART)
    for start, kind in _BINARY_STARTS.items():
        if head.startswith(start):
            raise DataError(f"{shown} is {kind}. Unpack it.")
    decoder = codecs.getincrementaldecoder(json.detect_encoding(head))()
    text = ""
    try:
        # CPython extends a local variable where it is, in a for loop in all its versions.
        for part in chain([head], iter(lambda: file.read(_PART), b"")):
            text += decoder.decode(part)
        text += decoder.decode(b"", final=True)
        return text
    except UnicodeDecodeError as error:
        byte = file.tell() - len(error.object) + error.start
        raise DataError(
            f"{shown} is not a JSON file in UTF-8 (byte {byte} is not {error.encoding}). "
            "Save it in UTF-8."
        ) from None


def parse(
    json_file: str, text: str, object_hook: Callable[[dict[str, Any]], Any] | None = None
) -> Any:
    """Parse the text of a JSON file.

    Args:
        json_file: path of the file, for messages.
        text: its text.
        object_hook: see ``json.loads``.

    Raises:
        DataError: it is not JSON.
    """
    shown = printable(json_file, 300)
    try:
        with _paused_gc():
            return json.loads(text, object_hook=object_hook)
    except json.JSONDecodeError as error:
        hint = "Name an annotation file in COCO format."
        if error.msg == "Extra data" and text[: error.pos].strip().count("\n") == 0:
            hint = "It looks like JSON lines, one object per line; convert it to COCO format."
        elif error.pos >= len(text.rstrip()):
            hint = "It ends in the middle, as after an interrupted download. Get it again."
        raise DataError(f"{shown} is not a JSON file ({error}). {hint}") from None
    except RecursionError:
        raise DataError(f"{shown} is nested too deeply to be an annotation file.") from None
    except MemoryError:
        raise DataError(f"{shown} does not fit in memory. Split it.") from None
    except ValueError as error:  # Python refuses to convert integers of thousands of digits
        raise DataError(
            f"{shown} has a number that cannot be read ({printable(str(error))}). Correct it."
        ) from None


@contextmanager
def _paused_gc() -> Iterator[None]:
    """Pause the garbage collector, which would look at millions of new objects again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
