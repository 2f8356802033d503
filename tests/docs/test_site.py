"""The documentation site builds, and its hook resolves links that leave ``docs/``."""

import subprocess
import sys

import pytest

from tests.helpers import ROOT

pytest.importorskip("mkdocs")
pytest.importorskip("griffe")
from tools.docs.griffe_markdown import to_markdown
from tools.docs.mkdocs_hooks import EXTRA_PAGES, resolve_links


@pytest.mark.parametrize(
    "link, source, uri, expected",
    [
        ("[a](../../MODEL_ZOO.md)", "docs/guides/x.md", "guides/x.md", "[a](../model_zoo.md)"),
        ("[a](../../MODEL_ZOO.md#b)", "docs/guides/x.md", "guides/x.md", "[a](../model_zoo.md#b)"),
        ("[a](docs/install.md)", "MODEL_ZOO.md", "model_zoo.md", "[a](install.md)"),
        ("[`a`](../../configs/ablations/README.md)", "docs/guides/x.md", "guides/x.md",
         "[`a`](../ablations.md)"),
        ("[a](configs/Base-TOOD.yaml)", "MODEL_ZOO.md", "model_zoo.md", "a"),
        ("[a](https://b.c/d)", "MODEL_ZOO.md", "model_zoo.md", "[a](https://b.c/d)"),
        ("[a](#b)", "MODEL_ZOO.md", "model_zoo.md", "[a](#b)"),
        ("[a](nowhere.md)", "MODEL_ZOO.md", "model_zoo.md", "[a](nowhere.md)"),
        ("![a](../images/b.jpg)", "docs/guides/x.md", "guides/x.md", "![a](../images/b.jpg)"),
    ],
)  # fmt: skip
def test_links(link, source, uri, expected):
    assert resolve_links(link, source, uri) == expected


def test_links_with_a_repository():
    link = resolve_links("[a](setup.py)", "MODEL_ZOO.md", "model_zoo.md", "https://b.c/d/")
    assert link == "[a](https://b.c/d/blob/main/setup.py)"


def test_docstrings_become_markdown():
    text = "see :class:`~a.b.C`, :func:`a.b` and ``:class:`` or `d`"
    assert to_markdown(text) == "see `C`, `a.b` and ``:class:`` or `d`"
    assert to_markdown("Like this::\n\n    code\n") == "Like this:\n\n    code\n"


def test_extra_pages_exist():
    assert all((ROOT / source).is_file() for source in EXTRA_PAGES)


def test_site_builds_strictly(tmp_path):
    """Broken links, missing pages and names that mkdocstrings cannot find are errors."""
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    # Without --quiet, which would also keep mkdocs from counting warnings.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    page = (tmp_path / "site" / "reference" / "api" / "index.html").read_text()
    for name in ("TOODHead", "Detector.__call__", "Detector.predict", "Detections.to_coco"):
        assert f'id="tood.{name}"' in page, name
