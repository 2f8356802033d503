"""The argument parser of every command: one-line errors, suggestions and KEY VALUE pairs."""

import argparse
import difflib
import itertools
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

# The exit codes of all commands.
EXIT_OK = 0
EXIT_NOTHING_DONE = 1
EXIT_USER_ERROR = 2

# Config keys: SEED, MODEL.WEIGHTS. With a dot, a key cannot be taken for a model-zoo name.
_KEY = re.compile(r"[A-Z]\w*(\.\w+)*")
_KEY_IN_A_NODE = re.compile(r"[A-Z][A-Z0-9_]*(\.\w+)+")
# detectron2's groups of keys. Files can look like keys otherwise: IMG_0001.JPG.
_NODES = {"MODEL", "INPUT", "DATASETS", "DATALOADER", "SOLVER", "TEST", "GLOBAL"}
_KEY_EQUALS_VALUE = re.compile(r"([A-Z]\w*(?:\.\w+)*)=(.*)", re.DOTALL)


class UsageError(Exception):
    """A wrong command line; the message says how to write it.

    Args:
        message: one or more sentences.
        prog: the command whose help explains more.
    """

    def __init__(self, message: str, prog: str) -> None:
        message = message[:1].upper() + message[1:]
        end = "" if message.endswith((".", "?")) else "."
        super().__init__(f"{message}{end} See {prog} --help.")


class CommandParser(argparse.ArgumentParser):
    """An argument parser that raises :class:`UsageError` with the nearest option.

    Args:
        prog: the name that help and errors call the command by.
        description: the first paragraph of the help.
        examples: command lines for the end of the help, without the program's name.
    """

    def __init__(self, prog: str, description: str, examples: Iterable[str] = ()) -> None:
        lines = [f"  {prog} {example}" for example in examples]
        super().__init__(
            prog=prog,
            description=description,
            epilog="\n".join(["examples:", *lines]) if lines else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            # An abbreviation would change its meaning whenever a new option is added.
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise a :class:`UsageError` instead of printing the usage and exiting."""
        raise UsageError(message, self.prog)

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse a command line; options may stand before, between and after other arguments.

        ``opts`` of the result holds all KEY VALUE pairs, those of ``--opts`` first.

        Raises:
            UsageError: the command line is wrong.
        """
        args, unknown = self.parse_known_intermixed_args(self._protect_values(arguments))
        if unknown:
            self.error(self._unknown_argument(unknown[0]))
        if "model" in args or "models" in args:
            self._place_model(args)
        if "opts" in args:
            words = vars(args).pop("pairs", [])
            args.opts = self._read_pairs(args.opts) + self._read_pairs(words)
        return args

    def _protect_values(self, arguments: Sequence[str]) -> list[str]:
        """Mark values of config keys that look like options, such as ``-1e-3``, with a space.

        argparse takes what starts with a space as a value; ``_read_pairs`` removes it.
        """
        return [
            f" {argument}"
            if argument.startswith("-")
            and _KEY_IN_A_NODE.fullmatch(before)
            and argument not in self._option_string_actions
            else argument
            for before, argument in zip(["", *arguments], arguments, strict=False)
        ]

    def _unknown_argument(self, argument: str) -> str:
        if not argument.startswith("-"):
            return f"Unexpected argument {argument!r}"
        name, _, value = argument.partition("=")
        if _KEY_IN_A_NODE.fullmatch(name.lstrip("-")):
            key = name.lstrip("-")
            return f"Config keys have no dashes. Write {key} {value or 'VALUE'}"
        return f"Unknown option {name}.{did_you_mean(name, self._option_string_actions)}"

    def refuse_keys(self, words: Sequence[str]) -> None:
        """Refuse config keys among words that name files, unless such a file exists."""
        for word in words:
            node = word.split(".")[0]
            if node in _NODES and _KEY_IN_A_NODE.fullmatch(word) and not os.path.exists(word):
                self.error(f"{word} is a config key. Write --opts {word} VALUE")

    def _place_model(self, args: argparse.Namespace) -> None:
        """Sort out what the first positional argument is, now that the options are known."""
        several = "models" in args
        models = args.models if several else [args.model] if args.model is not None else []
        named = vars(args).pop("named_model", None)
        if named is not None and args.config_file is not None:
            self.error("Give either --model or --config-file, not both")
        if models and (args.config_file is not None or named is not None):
            # The option names the model, so this is the first of what follows it.
            rest = vars(args).get("pairs", vars(args).get("inputs"))
            key = models[0].split("=")[0]
            if rest is None or ("pairs" in args and not _KEY.fullmatch(key)):
                option = "--config-file" if named is None else "--model"
                self.error(f"Give either MODEL or {option}, not both")
            rest[:0] = models
            models = []
        if models and "pairs" in args and _KEY_IN_A_NODE.fullmatch(models[0]):
            self.error(f"Name a MODEL or --config-file before {models[0]}")
        if several:
            self.refuse_keys(models)
        else:
            args.model = models[0] if models else named
            if args.model is None and args.config_file is None:
                self.error(
                    "Name a MODEL (a model-zoo name, a training run's folder or a config file), "
                    "for example TOOD-R50-1x"
                )

    def _read_pairs(self, words: Sequence[str]) -> list[str]:
        """Check the words of a command line that set config keys: KEY VALUE ..."""
        pairs: list[str] = []
        for index in range(0, len(words), 2):
            key, value, following = [*words[index : index + 3], "", ""][:3]
            if match := _KEY_EQUALS_VALUE.fullmatch(key):
                self.error(f"Write {match[1]} {match[2] or 'VALUE'}, with a space instead of '='")
            if not _KEY.fullmatch(key):
                if pairs:
                    rest = itertools.takewhile(lambda w: not _KEY.fullmatch(w), words[index:])
                    self.error(_needs_quotes(pairs[-2], [pairs[-1], *rest]))
                self.error(_no_key(key))
            if index + 1 == len(words):
                self.error(f"{key} has no value. Config options are KEY VALUE pairs")
            if value == "=":
                self.error(f"Write {key} {following or 'VALUE'}, without '='")
            pairs += [key, value.removeprefix(" ")]
        return pairs


def _needs_quotes(key: str, words: list[str]) -> str:
    value = " ".join(words).removeprefix("(").removesuffix(")")
    return f'{words[1]!r} is not a config key. Quote a value with spaces: {key} "({value})"'


def _no_key(word: str) -> str:
    name, _, value = word.partition("=")
    if _KEY_IN_A_NODE.fullmatch(name.upper()) and name.upper().split(".")[0] in _NODES:
        return f"Config keys are in capitals. Write {name.upper()} {value or 'VALUE'}"
    return f"{word!r} is not a config key such as SOLVER.MAX_ITER"


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """A sentence that names the nearest of the choices, with a space before it, or nothing."""
    choices = list(choices)
    # The beginning of an option is nearer to it than any other word of the same length.
    near = [choice for choice in choices if len(name) > 3 and choice.startswith(name)]
    near = near or difflib.get_close_matches(name, choices, n=1, cutoff=0.7)
    return f" Did you mean {near[0]}?" if near else ""


def report_error(message: str) -> int:
    """Print one line and return the exit code of a user error."""
    print(f"error: {message}", file=sys.stderr)
    return EXIT_USER_ERROR
