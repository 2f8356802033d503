"""A griffe extension that turns reStructuredText in docstrings into Markdown.

Sphinx roles such as ``:class:`~a.b.C``` become code; ``::`` before an indented block, a colon.
"""

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|data|attr|mod|exc):`(~?)([^`]+)`")
_LITERAL_BLOCK = re.compile(r"::(?=\n\n +\S)")


def to_markdown(text: str) -> str:
    """Rewrite a docstring; a tilde shortens a dotted name to its last part, as in Sphinx.

    Args:
        text: of a docstring.
    """

    def replace(match: re.Match[str]) -> str:
        name = match[2].rpartition(".")[2] if match[1] else match[2]
        return f"`{name}`"

    return _LITERAL_BLOCK.sub(":", _ROLE.sub(replace, text))


class MarkdownDocstrings(griffe.Extension):
    """Applies :func:`to_markdown` to every docstring."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of an object that was loaded."""
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)
