"""A griffe extension: shows Sphinx roles in docstrings, such as ``:class:`~a.b.C```, as code."""

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|data|attr|mod|exc):`(~?)([^`]+)`")


def strip_roles(text: str) -> str:
    """Replace roles by code; a tilde shortens a dotted name to its last part, as in Sphinx.

    Args:
        text: of a docstring.
    """

    def replace(match: re.Match[str]) -> str:
        name = match[2].rpartition(".")[2] if match[1] else match[2]
        return f"`{name}`"

    return _ROLE.sub(replace, text)


class StripRoles(griffe.Extension):
    """Applies :func:`strip_roles` to every docstring."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of an object that was loaded."""
        if obj.docstring is not None:
            obj.docstring.value = strip_roles(obj.docstring.value)
