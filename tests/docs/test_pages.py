"""Links and named files exist, README stays short, and pages keep the wording rules."""

import re
from pathlib import Path

import pytest

from tests.docs.blocks import PAGES
from tests.helpers import ROOT

MAX_README_LINES = 120

# Files of other projects.
ELSEWHERE = {"configs/tood/README.md"}

# Spellings and words that CONTRIBUTING.md rules out.
FORBIDDEN = re.compile(
    r"\b(colou?red|colours?|centres?|centred|normalis\w*|initialis\w*|recognis\w*|localis\w*|"
    r"optimis\w*|behaviour|neighbours?|licence|labelled|mend(s|ed|ing)?|suppression|no number|"
    r"of yours|pictures?)\b",
    re.I,
)


def without_code(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", without_code(page), re.M)
    texts = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_exist(page):
    text = without_code(page)
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^\[[^\]]+\]: (\S+)", text, re.M)
    for link in links:
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link} does not exist"
        assert target.is_relative_to(ROOT), f"{link} leaves the repository"
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_files_exist(page):
    """Paths of this repository in the text, such as `tood/config/defaults.py`."""
    text = without_code(page).partition("\n### Renamed")[0]  # the changelog's old names
    for name in re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", text):
        top = name.split("/")[0]
        if top in ("..", "output") or name in ELSEWHERE or not (ROOT / top).is_dir():
            continue
        assert (ROOT / name).exists(), f"{name} does not exist"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_wording(page):
    text = without_code(page).partition("\n### Renamed")[0]
    found = [match[0] for match in FORBIDDEN.finditer(re.sub(r"`[^`\n]*`", "", text))]
    assert not found


def test_readme_is_short_and_complete():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= MAX_README_LINES
    headings = re.findall(r"^## (.+)$", text, re.M)
    assert headings == [
        "Install",
        "Python",
        "Command line",
        "Models",
        "Your data",
        "Documentation",
        "What is verified, and what is not",
        "Citation",
    ]
    assert text.index("![") < text.index("## Install")
    assert "<!-- models:begin -->" in text and "<!-- models:end -->" in text


def test_notice_of_the_photographs():
    """BCCD's license asks for its notice wherever its images are."""
    notice = (ROOT / "docs" / "images" / "NOTICE.md").read_text()
    for words in ("MIT License", "Copyright (c) 2017 shenggan", 'THE SOFTWARE IS PROVIDED "AS IS"'):
        assert words in notice
