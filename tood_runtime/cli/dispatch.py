"""The entry point: finds the command, parses its arguments, and imports only its body.

Nothing here imports torch, so help and wrong command lines answer at once, and
``tood install-detectron2`` works before detectron2 is there.
"""

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib import metadata

from .. import install_detectron2
from ..missing_packages import NEEDED_PACKAGES, missing_package_message
from .commands import COMMANDS, Command
from .parser import EXIT_OK, UsageError, did_you_mean, report_error

# What a shell reports of a program that SIGPIPE has ended.
EXIT_BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run ``tood COMMAND ...``.

    Args:
        arguments: the command line without the program's name; by default that of this process.
        prog: the name in help and errors, for a script that is one of the commands.

    Returns:
        0 if all went well, 1 if nothing was processed, 2 for a user error.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller, as a daemon or cron may do
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    try:
        code = _main(list(sys.argv[1:] if arguments is None else arguments), prog)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe has seen enough: tood info | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_BROKEN_PIPE
    return code


def _main(arguments: list[str], prog: str | None) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return EXIT_OK
    if arguments[0] == "--version":
        print(_version())
        return EXIT_OK
    try:
        command, args = parse(arguments, prog)
    except UsageError as error:
        return report_error(str(error))
    if command.name == "install-detectron2":
        return install_detectron2.install(args.way)
    if missing := _missing_packages():
        return report_error(missing)
    return _run(command, args)


def parse(arguments: Sequence[str], prog: str | None = None) -> tuple[Command, argparse.Namespace]:
    """Parse ``COMMAND ...``; a page of documentation can be checked with this.

    Args:
        arguments: the command's name and its arguments.
        prog: see :func:`main`.

    Raises:
        UsageError: there is no such command, or its arguments are wrong.
    """
    name, *rest = arguments
    if name not in COMMANDS:
        kind = "option" if name.startswith("-") else "command"
        raise UsageError(
            f"Unknown {kind} {name!r}.{did_you_mean(name, COMMANDS)} "
            f"Available: {', '.join(COMMANDS)}",
            prog="tood",
        )
    return COMMANDS[name], COMMANDS[name].parse(rest, prog)


def overview() -> str:
    """The text of ``tood --help``."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: tood COMMAND ...",
            "",
            "TOOD, task-aligned one-stage object detection, for detectron2.",
            "",
            "commands:",
            *lines,
            "",
            "tood COMMAND --help shows the options of a command; tood --version the version.",
        ]
    )


def _version() -> str:
    try:
        return metadata.version("tood-detectron2")
    except metadata.PackageNotFoundError:
        return "unknown: tood-detectron2 is not installed, only its source folder is used"


def _missing_packages() -> str | None:
    """One line that says how to install what every command needs, or None if all is there."""
    for package in NEEDED_PACKAGES:
        if not _is_installed(package):
            return missing_package_message(package)
    return None


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # it is there, but something keeps it from being imported
        return False


def _run(command: Command, args: argparse.Namespace) -> int:
    """Import the body of a command and run it."""
    try:
        common = importlib.import_module("tood.cli.common")
    except ImportError as error:  # tood/environment.py says which package, and how to fix it
        return report_error(str(error))
    body = importlib.import_module(command.body)
    with common.exit_on_user_error():
        return int(body.main(args))
