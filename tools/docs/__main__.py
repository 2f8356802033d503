"""Write the generated parts of the documentation, or check that they are current.

Usage: python -m tools.docs [--check]
"""

import argparse
import functools
import sys
from collections.abc import Callable

from tools import ROOT

from . import measured, model_tables
from .command_reference import command_reference
from .config_reference import config_reference, read_sources
from .results import ResultError

# Generated files: their new text from their old one, which is "" for a new file.
GENERATORS: dict[str, Callable[[str], str]] = {
    "docs/reference/config.md": lambda _: config_reference(read_sources()),
    "docs/reference/commands.md": lambda _: command_reference(),
}
# Measured numbers may be in every other page.
for _page in measured.docs_pages():
    GENERATORS.setdefault(_page, functools.partial(measured.update_page, page=_page))


def _with_models(page: str, update: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: measured.update_page(update(text), page)


GENERATORS["README.md"] = _with_models("README.md", model_tables.update_readme)
GENERATORS["MODEL_ZOO.md"] = _with_models("MODEL_ZOO.md", model_tables.update_model_zoo)


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or list those that are not current; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.docs", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 instead")
    check = parser.parse_args(arguments).check
    outdated = []
    for name, generate in GENERATORS.items():
        path = ROOT / name
        old = path.read_text() if path.exists() else ""
        try:
            new = generate(old)
        except ResultError as error:
            print(f"error: {error}")
            return 1
        if new != old:
            outdated.append(name)
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(new)
    for name in outdated:
        print(f"{name} is not current: run python -m tools.docs" if check else f"wrote {name}")
    return int(check and bool(outdated))


if __name__ == "__main__":
    sys.exit(main())
