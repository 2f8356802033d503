"""Code blocks of the documentation, and the commands in its shell blocks."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.helpers import ROOT

# Pages whose blocks run, unless a comment says why not.
GUIDES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "guides").glob("*.md")),
]
# All pages.
PAGES = [
    *GUIDES,
    *(page for page in sorted((ROOT / "docs").glob("*/*.md")) if page not in GUIDES),
    *(ROOT / name for name in ("MODEL_ZOO.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    ROOT / "configs" / "ablations" / "README.md",
]

# Programs that the documentation calls.
PROGRAMS = ("tood", "./train_net.py", "./demo/demo.py", "python", "pip", "make", "mkdocs", "source",
            "torchrun", "curl", "docker")  # fmt: skip

_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^\n]+?) -->\n)?"
    r'^```(?P<language>\w*)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$',
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """A fenced code block.

    Attributes:
        page: its file.
        line: of its first fence.
        language: after the fence; "" for none.
        text: the code.
        reason: why it does not run, from a comment right before it; None if it runs.
        title: the file that it shows, if any.
    """

    page: Path
    line: int
    language: str
    text: str
    reason: str | None
    title: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def read_blocks(page: Path) -> list[Block]:
    """The code blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, text.index("```", match.start())) + 1,
            match["language"],
            match["text"],
            match["reason"],
            match["title"],
        )
        for match in _BLOCK.finditer(text)
    ]


def all_blocks(pages: list[Path], language: str) -> list[Block]:
    """The blocks of one language in all pages."""
    return [block for page in pages for block in read_blocks(page) if block.language == language]


def shell_commands(block: Block, folder: Path) -> list[list[str]]:
    """The commands of a shell block, split and expanded by bash itself.

    Variables that earlier blocks of the page set are known. Nothing is executed: functions that
    record their arguments stand in for :data:`PROGRAMS`, and any other program is an error.

    Args:
        block: with the language "bash".
        folder: where glob patterns are expanded.
    """
    earlier = [
        other.text
        for other in read_blocks(block.page)
        if other.language == "bash" and other.line < block.line
    ]
    record = "printf '%s\\0'"
    script = ["set -e", "exec 3>/dev/null"]
    script += [f'{name}() {{ {record} {name} "$@" >&3; echo >&3; }}' for name in PROGRAMS]
    script += [*earlier, "exec 3>&1", block.text]
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{block}: {done.stderr}"
    return [line.split("\0") for line in done.stdout.split("\0\n")[:-1]]
