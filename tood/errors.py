"""Errors that are the input's rather than the program's; their messages name the mend.

The command lines print them without a stack trace.
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


def user_message(error: TOODError) -> str:
    """The message itself: PyTorch wraps that of a data loader's process into a stack trace."""
    text = str(error)
    return text.rsplit(f"{type(error).__name__}: ", 1)[-1].strip() if "Traceback" in text else text


def _is_no_user_error(record: logging.LogRecord) -> bool:
    """A log filter: detectron2's training loop logs a stack trace of whatever ends it."""
    return not (record.exc_info and isinstance(record.exc_info[1], TOODError))


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """End the program with the message and exit code 2 where a :class:`TOODError` comes through."""
    logging.getLogger("detectron2.engine.train_loop").addFilter(_is_no_user_error)
    try:
        yield
    except TOODError as error:
        sys.stderr.write(f"\nerror: {user_message(error)}\n")
        sys.exit(2)
