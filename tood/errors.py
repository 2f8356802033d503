"""Errors caused by user input; each message says how to fix it.

Programs print them in one line, without a stack trace (``tood.cli.common.exit_on_user_error``).
"""


class TOODError(Exception):
    """Base class of all errors that the user can fix."""


class DataError(TOODError, ValueError):
    """A dataset or one of its files is missing or invalid."""


class ConfigError(TOODError, ValueError):
    """A config is invalid, or contradicts the data or the machine."""


class CheckpointError(TOODError, RuntimeError):
    """A checkpoint is missing, damaged, or belongs to another model."""


class ExportError(TOODError, RuntimeError):
    """A model cannot be exported as asked, or an exported file does not do what the model does."""


class ResultError(TOODError, AssertionError):
    """An evaluation did not find what ``TEST.EXPECTED_RESULTS`` expects."""
