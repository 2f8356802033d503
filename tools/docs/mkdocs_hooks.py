"""MkDocs hooks: add the Markdown files outside of ``docs/``, resolve links into the repository.

On GitHub, the pages link to each other and to files of the repository by relative paths. The site
contains only Markdown, so here links to :data:`EXTRA_PAGES` become links between pages. Links to
other files become plain text, or links to ``repo_url`` if mkdocs.yml sets it.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]

# Markdown files outside of docs/, and their place in the site.
EXTRA_PAGES = {
    "MODEL_ZOO.md": "model_zoo.md",
    "configs/ablations/README.md": "ablations.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}

# [text](target) with a relative target, outside of images.
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")
_FENCED = re.compile(r"(```.*?```)", re.S)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the extra pages."""
    for source, target in EXTRA_PAGES.items():
        files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Resolve the page's links that leave ``docs/``."""
    uri = page.file.src_uri
    sources = {target: source for source, target in EXTRA_PAGES.items()}
    source = sources.get(uri, f"docs/{uri}")
    parts = _FENCED.split(markdown)
    parts[::2] = [resolve_links(part, source, uri, config.repo_url) for part in parts[::2]]
    return "".join(parts)


def resolve_links(text: str, source: str, uri: str, repo_url: str | None = None) -> str:
    """Rewrite relative links for the site.

    Args:
        text: Markdown without code.
        source: the page's path in the repository.
        uri: its path in the site.
        repo_url: where the repository can be read.
    """

    def replace(match: re.Match[str]) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        page = EXTRA_PAGES.get(path)
        if page is None and path.startswith("docs/"):
            page = path.removeprefix("docs/")
        if page is not None:
            relative = posixpath.relpath(page, posixpath.dirname(uri) or ".")
            return f"[{label}]({relative}{anchor})"
        if not (ROOT / path).exists():
            return match[0]  # mkdocs reports it
        return f"[{label}]({repo_url.rstrip('/')}/blob/main/{path})" if repo_url else label

    return _LINK.sub(replace, text)
