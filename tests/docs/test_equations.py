"""docs/background/equations.md points to names that exist, and has every equation of the paper."""

import ast
import re

import pytest

from tests.helpers import ROOT

TEXT = (ROOT / "docs" / "background" / "equations.md").read_text()
ROWS = re.findall(r"^\| (\(.*?|section.*?) \| .*? \| (.*) \|$", TEXT, re.M)


def defined_names(path: str) -> set[str]:
    """Functions, classes, and attributes that are assigned in a file."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return found


@pytest.mark.parametrize("equation, where", ROWS, ids=[row[0] for row in ROWS])
def test_names_are_defined_in_their_file(equation, where):
    parts = re.split(r"`(tood/[\w/]+\.py)`: ", where)
    files, texts = parts[1::2], parts[2::2]
    assert files, where
    for path, text in zip(files, texts, strict=True):
        names = re.findall(r"`(\w+)`", text)
        assert names, f"no name for {path}"
        assert set(names) <= defined_names(path), path


def test_every_equation_has_a_row():
    numbers = {int(n) for equation, _ in ROWS for n in re.findall(r"\((\d+)\)", equation)}
    assert numbers == set(range(1, 13))
