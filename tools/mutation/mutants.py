"""Mutants: small changes of a module, made by cosmic-ray, and loaded in the place of its file."""

import ast
import importlib.machinery
import importlib.util
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tools import ROOT


@dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        path: of the module, relative to the root.
        operator: of cosmic-ray.
        occurrence: which of the places where the operator fits.
        line: its number.
        change: the line before and after.
        code: of the whole module.
    """

    path: str
    operator: str
    occurrence: int
    line: int
    change: str
    code: str

    @property
    def name(self) -> str:
        """Unique, and the same in every run on the same code."""
        return f"{self.path}:{self.line} {self.operator} {self.occurrence}"


def make_mutants(path: str) -> Iterator[Mutant]:
    """All mutants of a module that change what it does.

    Args:
        path: of the module, relative to the root.
    """
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    source = (ROOT / path).read_text()
    tree, meaning = get_ast(source), _without_annotations(source)
    for name in operator_names():
        operator_class = get_operator(name)
        if operator_class.arguments():
            continue
        operator = operator_class()
        places = [
            start for node in ast_nodes(tree) for start, _ in operator.mutation_positions(node)
        ]
        for occurrence, (line, _) in enumerate(places):
            code = mutate_code(source, operator, occurrence)
            if code is not None and _is_valid(code) and _without_annotations(code) != meaning:
                change = _changed_line(source, code)
                yield Mutant(path, name.partition("/")[2], occurrence, line, change, code)


def _is_valid(code: str) -> bool:
    """Whether this can be compiled: cosmic-ray takes the bare ``*`` of arguments for a product."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # of "is" with a number
        try:
            compile(code, "mutant", "exec", dont_inherit=True)
        except SyntaxError:
            return False
    return True


def _without_annotations(code: str) -> str:
    """What a module does: its syntax tree without annotations."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return ast.dump(tree)


def _changed_line(before: str, after: str) -> str:
    for old, new in zip(before.splitlines(), after.splitlines(), strict=False):
        if old != new:
            return f"{old.strip()}  ->  {new.strip()}"
    return "the end"


class MutatedModule(importlib.machinery.SourceFileLoader):
    """Loads the code of a mutant in the place of a module."""

    def __init__(self, module: str, path: str, code: str) -> None:
        super().__init__(module, path)
        self._code = code

    def get_code(self, fullname: str) -> Any:
        """Compile the mutant; there is no cache for it."""
        return compile(self._code, self.path, "exec", dont_inherit=True)

    def find_spec(self, fullname: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        """The entry of sys.meta_path."""
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.path, loader=self)
