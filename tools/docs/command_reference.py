"""docs/reference/commands.md: every command and option, from the parsers of tood_runtime.cli."""

import argparse
import re

from tood_runtime.cli.commands import COMMANDS, Command

from .markdown import table

INTRODUCTION = """\
# Commands

The option `--help` of a command shows the same on the terminal. MODEL is a name of the
[model zoo](../../MODEL_ZOO.md), the output folder of a training run, or a config file; `KEY VALUE`
pairs set [config keys](config.md). Commands exit with 0 on success, with 1 if nothing was
processed or a check failed, and with 2 and one line on an error that you can fix.
"""


def command_reference() -> str:
    """The page."""
    sections = [_section(command) for command in COMMANDS.values()]
    return "\n".join([INTRODUCTION, *sections])


def _section(command: Command) -> str:
    parser = command.parser()
    actions = [action for action in parser._actions if action.dest != "help"]
    lines = [f"## tood {command.name}", "", command.summary]
    if command.description:
        lines += ["", command.description.replace("\n", " ")]
    usage = [_usage(action) for action in actions if not action.option_strings]
    lines += ["", "```text", " ".join([f"tood {command.name}", *usage, "[OPTIONS]"]), "```"]
    rows = [(_name(action), _help(action)) for action in actions]
    if rows:
        lines += ["", table(("argument", "meaning"), rows)]
    if command.examples:
        examples = [f"tood {command.name} {example}" for example in command.examples]
        lines += ["", "Examples:", "", "```text", *examples, "```"]
    return "\n".join(lines) + "\n"


def _usage(action: argparse.Action) -> str:
    name = str(action.metavar or action.dest)
    return {None: name, "?": f"[{name}]", "*": f"[{name} ...]", "+": f"{name} ..."}[
        action.nargs if not isinstance(action.nargs, int) else None
    ]


def _name(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`"
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    if action.nargs in ("*", "+"):
        value += " ..."
    if action.choices is not None and action.metavar is None:
        value = f" {{{','.join(map(str, action.choices))}}}"
    return ", ".join(f"`{option}{value}`" for option in action.option_strings)


def _help(action: argparse.Action) -> str:
    """The help text with its default, without what depends on the user."""
    text = (action.help or "") % {"default": action.default}
    return re.sub(r"(127\.0\.0\.1):\d+", r"\1:PORT", text)
