"""The console command ``tood``: all parsers and the entry point, without torch."""

from .commands import COMMANDS
from .dispatch import main, parse
from .parser import UsageError

__all__ = ["COMMANDS", "UsageError", "main", "parse"]
