"""Puts the sections together to one page."""

from collections.abc import Callable

from ..checkpoint.saving import make_folder, write_bytes
from .content import EvaluatedSet, Report
from .html import Markup, text
from .sections import calibration, classes, confusion, curves, errors, images, settings, summary
from .style import STYLE

# Drawings on the page: of each set, and of all sets together.
IMAGES_PER_SET = 12
_MAX_IMAGES = 24
_MIN_PER_SET = 2

# No program, no network: the page cannot do more than be read, whatever is in it.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_report(report: Report) -> None:
    """Write the page to ``report.path``, whole or not at all.

    Raises:
        CheckpointError: the file cannot be written.
    """
    content = render_page(report).encode("utf-8", "backslashreplace")
    make_folder(report.path.parent)
    write_bytes(report.path, content)


def render_page(report: Report) -> str:
    """The text of the page."""
    title = text(report.run.title)
    parts = [_section("summary", "Summary", summary.render(report))]
    contents = [("summary", "Summary")]
    if report.run.metrics is not None:
        parts.append(_section("curves", "Training", curves.render(report.run)))
        contents.append(("curves", "Training"))
    count = max(_MIN_PER_SET, min(IMAGES_PER_SET, _MAX_IMAGES // len(report.sets)))
    for position, evaluated in enumerate(report.sets):
        several = len(report.sets) > 1
        prefix = f"set{position}-" if several else ""
        if several:
            parts.append(f'<h2 class="set" id="set{position}">{text(evaluated.name)}</h2>')
            contents.append((f"set{position}", evaluated.name))
        for key, heading, render in _set_sections(count):
            parts.append(_section(f"{prefix}{key}", heading, render(evaluated), several))
            contents += [] if several else [(key, heading)]
    parts.append(_section("settings", "Config and versions", settings.render(report.run)))
    contents.append(("settings", "Config"))
    links = "".join(f'<a href="#{key}">{text(heading)}</a>' for key, heading in contents)
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style></head>\n<body><main>\n"
        f"<h1>{title}</h1>\n<nav>{links}</nav>\n{body}\n</main></body></html>\n"
    )


def _set_sections(count: int) -> list[tuple[str, str, Callable[[EvaluatedSet], Markup]]]:
    return [
        ("errors", "What goes wrong", errors.render),
        ("images", "Worst images", lambda evaluated: images.render(evaluated, count)),
        ("confusion", "Confusion matrix", confusion.render),
        ("classes", "Classes and sizes", classes.render),
        ("calibration", "Calibration", calibration.render),
    ]


def _section(key: str, heading: str, content: str, several: bool = False) -> str:
    tag = "h3" if several else "h2"
    return f'<section id="{key}"><{tag}>{text(heading)}</{tag}>\n{content}</section>'
