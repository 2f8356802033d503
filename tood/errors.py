"""Errors that are the input's rather than the program's; their messages name the mend.

The command lines print them as one line, without a stack trace.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class TOODError(Exception):
    """Base class: something that the user can mend."""


class DataError(TOODError, ValueError):
    """A dataset, or one of its files, is missing or not what it should be."""


class ConfigError(TOODError, ValueError):
    """Config keys that contradict each other, the data or the machine."""


class CheckpointError(TOODError, RuntimeError):
    """Weights that are missing, broken, or of another model."""


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """End the program with one line and exit code 2 where a :class:`TOODError` comes through."""
    try:
        yield
    except TOODError as error:
        logging.getLogger("tood").error("%s", error)
        sys.stderr.write(f"\nerror: {error}\n")
        sys.exit(2)
