"""docs/reference/config.md: every config key, from the comments of tood/config/*defaults.py."""

import ast
from dataclasses import dataclass

from tools import ROOT

from .markdown import table

INTRODUCTION = """\
# Config keys

TOOD's keys, in addition to
[detectron2's](https://detectron2.readthedocs.io/en/latest/modules/config.html#yaml-config-references).
The defaults are the paper's. Set keys in a YAML file, or as `KEY VALUE` pairs on a command line.

`tood.config.load_config` and all commands read plain YAML from local files: a file cannot run code,
except through `MODEL.TOOD.CUSTOM_IMPORTS`. detectron2's own `cfg.merge_from_file` has no such
protection: it runs the code that a `!!python` tag names, and downloads a `_BASE_` that is a URL.
`_BASE_` names a file relative to the one that it stands in, or a config of this project, such as
`TOOD-R50-1x`.
"""


@dataclass(frozen=True)
class Key:
    """A config key, or a group of keys that has a comment.

    Attributes:
        section: heading that it stands below.
        name: full name.
        default: as Python writes it; None for a group.
        text: the comment above it.
    """

    section: str
    name: str
    default: str | None
    text: str


def read_sources() -> str:
    """The files that add keys, joined: tood/config/defaults.py and its neighbors."""
    folder = ROOT / "tood/config"
    files = [folder / "defaults.py", *sorted(folder.glob("*_defaults.py"))]
    return "\n".join(file.read_text() for file in files)


def read_keys(source: str) -> list[Key]:
    """Read the keys that the functions ``_add_..._keys(node)`` add.

    Args:
        source: of `read_sources`. "node" stands for MODEL.TOOD.

    Raises:
        ValueError: a key has no comment above it.
    """
    lines = source.splitlines()
    keys = []
    section = ""
    for function in ast.parse(source).body:
        if not isinstance(function, ast.FunctionDef) or not function.name.startswith("_add_"):
            continue
        end = function.lineno
        for statement in function.body:
            heading, text = _comment(lines[end : statement.lineno - 1])
            section = heading or section
            end = statement.end_lineno or statement.lineno
            if isinstance(statement, ast.Assign):
                name = ast.unparse(statement.targets[0])
                name = name.replace("node.", "MODEL.TOOD.", 1).removeprefix("cfg.")
                is_group = isinstance(statement.value, ast.Call)
                default = None if is_group else repr(ast.literal_eval(statement.value))
                if not text and not is_group:
                    raise ValueError(f"{name} has no comment above it")
                keys.append(Key(section, name, default, text))
    return [key for key in keys if key.text]


def _comment(lines: list[str]) -> tuple[str, str]:
    """The heading ("---- Heading ----") and the text in lines of comments."""
    comments = [line.strip().removeprefix("#").strip() for line in lines]
    headings = [comment.strip("- ") for comment in comments if comment.startswith("----")]
    text = " ".join(comment for comment in comments if comment and not comment.startswith("----"))
    return "".join(headings), text


def config_reference(source: str) -> str:
    """The page.

    Args:
        source: of `read_sources`.
    """
    keys = read_keys(source)
    parts = [INTRODUCTION]
    for section in dict.fromkeys(key.section for key in keys):
        rows = [
            (f"`{key.name}`", "" if key.default is None else f"`{key.default}`", key.text)
            for key in keys
            if key.section == section
        ]
        parts.append(f"## {section}\n\n{table(('key', 'default', 'meaning'), rows)}\n")
    return "\n".join(parts)
