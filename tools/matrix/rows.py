"""The rows: interpreters of this machine, and what is installed for each."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools import ROOT
from tools.extras import EXTRAS, find_tests

VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
# What the project is developed with.
USUAL = "3.11"


@dataclass(frozen=True)
class Row:
    """One environment.

    Attributes:
        name: of the row.
        python: the interpreter's version, such as "3.11".
        oldest: whether everything that pyproject.toml gives a floor is at it, PyTorch included, as
            far as the packages allow each other.
        main: whether detectron2 is a checkout of its main branch.
        extras: with "dev", what is not an extra of users.
        tests: folders and files; the fast tests of all where it is empty.
    """

    name: str
    python: str
    oldest: bool = False
    main: bool = False
    extras: tuple[str, ...] = ("dev", *EXTRAS)
    tests: tuple[str, ...] = ()


def find_interpreters() -> dict[str, str]:
    """The programs of the Python versions on this machine, by version."""
    found = {}
    for version in VERSIONS:
        own = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
        programs = [shutil.which(f"python{version}"), *map(str, own)]
        # pyenv's shims exist for versions that are not active, too.
        working = [name for name in programs if name is not None and _works(name)]
        if working:
            found[version] = working[0]
    return found


def _works(program: str) -> bool:
    command = [program, "-c", "import ensurepip, venv"]
    done = subprocess.run(command, capture_output=True, check=False)
    return done.returncode == 0


def make_rows(versions: Sequence[str]) -> list[Row]:
    """The rows that can run with some versions of Python.

    Args:
        versions: those that were found, oldest first.
    """
    usual = USUAL if USUAL in versions else versions[-1]
    rows = [Row(f"Python {version}", version) for version in versions]
    rows += [
        Row("oldest packages", versions[0], oldest=True, extras=tuple(EXTRAS)),
        Row("detectron2 main", usual, main=True),
        Row("detectron2 main, newest Python", versions[-1], main=True),
        Row("no extras", usual, extras=()),
    ]
    rows += [
        Row(f"only the extra {extra}", usual, extras=(extra,), tests=find_tests(extra))
        for extra in EXTRAS
    ]
    return rows


def oldest_torch() -> str:
    """The oldest PyTorch that pyproject.toml allows, such as "2.6"."""
    requirements = _pyproject()["project"]["dependencies"]
    return next(text for text in requirements if text.startswith("torch>="))[len("torch>=") :]


def _pyproject() -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads((ROOT / "pyproject.toml").read_text())
