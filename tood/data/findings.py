"""What checks find in a dataset: counted, with examples, and with the fix."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from tood_runtime.image_io import printable_path

Severity = Literal["error", "warning", "note"]

MAX_EXAMPLES = 5


@dataclass(frozen=True)
class FindingKind:
    """One kind of problem.

    Attributes:
        name: identifies the kind in JSON, such as "missing-image".
        severity: "error" if training or evaluation stops or is wrong, "warning" if it probably is
            not what was meant, "note" for what is handled but should be known.
        what: what is counted, in the plural, such as "images that do not exist".
        fix: one or more sentences.
    """

    name: str
    severity: Severity
    what: str
    fix: str = ""


@dataclass(frozen=True)
class Finding:
    """A problem, its count and where it occurs.

    Attributes:
        kind: what it is.
        count: how often.
        examples: the first places, at most :data:`MAX_EXAMPLES`.
        images: indices of the first images that show it.
        other_images: for each of them the image that it equals, where that is the problem.
    """

    kind: FindingKind
    count: int
    examples: tuple[str, ...]
    images: tuple[int, ...] = ()
    other_images: tuple[int, ...] = ()

    def format(self) -> str:
        """One line: what, how often, the first example and the fix."""
        example = f", for example {self.examples[0]}" if self.examples else ""
        fix = f" {self.kind.fix}" if self.kind.fix else ""
        return f"{self.kind.what}: {self.count}{example}.{fix}"

    def as_dict(self) -> dict[str, object]:
        """The content as JSON."""
        return {
            "kind": self.kind.name,
            "severity": self.kind.severity,
            "what": self.kind.what,
            "count": self.count,
            "examples": list(self.examples),
            "fix": self.kind.fix,
        }


def find(
    kind: FindingKind, count: int, examples: Iterable[str], images: Iterable[int] = ()
) -> list[Finding]:
    """Return a finding in a list, or an empty list for a count of 0.

    Args:
        kind: what was counted.
        count: how often.
        examples: places; only the first are read.
        images: indices of the images, likewise.
    """
    if not count:
        return []
    first = tuple(text for text, _ in zip(examples, range(MAX_EXAMPLES), strict=False))
    shown = tuple(int(index) for index, _ in zip(images, range(MAX_EXAMPLES), strict=False))
    return [Finding(kind, int(count), first, shown)]


def one_line(text: str | os.PathLike[str]) -> str:
    """Return a name from a file as one printable line, with everything else escaped."""
    return escape_unprintable(printable_path(text))


def escape_unprintable(text: str) -> str:
    """Return a text without line breaks and control sequences of a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
