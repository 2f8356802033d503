"""The config and the versions of programs."""

from ..content import RunFacts
from ..html import Markup, folded, paragraph, table, text


def render(run: RunFacts) -> Markup:
    """Both, the config folded."""
    rows = [[key, value] for key, value in run.versions.items()]
    parts = [table(["program", "version"], rows, text_columns=2)] if rows else []
    if run.config:
        parts.append(folded("Config", f"<pre>{_lines(run.config)}</pre>"))
    else:
        parts.append(paragraph("The config is not known.", "note"))
    return Markup("\n".join(parts))


def _lines(content: str) -> str:
    """Escaped, with its line breaks."""
    return "\n".join(text(line) for line in content.splitlines())
