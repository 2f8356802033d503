"""Numbers in the running text of a page that look measured."""

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

# Parts of a page that are no running text. Names in code spans, targets of links and comments may
# contain digits, and generated parts are checked on their own.
_GENERATED = re.compile(r"<!-- (?P<part>\S+):begin -->.*?<!-- (?P=part):end -->", re.S)
_CODE_BLOCK = re.compile(r"^```.*?^```$", re.M | re.S)
_COMMENT = re.compile(r"<!--.*?-->", re.S)
_CODE_SPAN = re.compile(r"`[^`]*`")
_LINK_TARGET = re.compile(r"(?<=\])\([^)\s]*\)|<?https?://[^\s)>]+>?")

# A number as the pages write it: 0.71, -0.6, 300 000 (also over a line's end), 24,750, 3e-14.
NUMBER = r"[-+]?\d+(?:(?:[ \n]\d{3}(?!\d|\.\d))+|(?:,\d{3}(?!\d))+)?(?:\.\d+)?(?:e[-+]?\d+)?"
# The same with a standard deviation.
VALUE = rf"{NUMBER}(?: ± {NUMBER})?"
# Also at the end of a range, 10-20.
_TOKEN = re.compile(rf"(?:(?<![\w.\-/#%^:])|(?<=\d-)(?=\d)){NUMBER}(?![\w/]*[\d/]|\.\d)")

# What follows an integer that was measured. "x" alone is a schedule (2x) or a size (640x480).
_UNIT = re.compile(
    r"\s?%|\s?(?:ms|s|us|seconds?|minutes?|hours?|[KMG]iB|[kMG]B|GFLOPs|AP|M|G/s|px|images/s"
    r"|images per (?:CPU )?second)\b|x\b(?!\d)"
)
# Between numbers that share one unit: 128 against 179 ms, 123, 174 and 182 MB.
_JOIN = re.compile(r"-|(?:,| \([^()]{0,20}\))?\s+(?:and|to|or|against|instead\s+of|±)\s+|,\s+")
# Before a number that has the unit of the one before it.
_JOIN_BACK = re.compile(r"\s+(?:ms|s|%|MiB|GiB|MB)\s+(?:against|instead\s+of|to)\s+")
# What precedes a decimal that is the version of something, or a place in the paper.
_VERSION = re.compile(
    r"(?:\b(?:python|torch|torchvision|detectron2|mmdetection|mmcv-lite|pytorch|ray|runtime|wasm"
    r"|openvino|nncf|cuda|ultralytics|tensorrt|pillow|yolo|apache|section|sections|equation|node"
    r"|chromium|mlflow|driver|mmdetection's)\b[\s*]*\(?)$",
    re.I,
)


# What precedes the value of a key, which is named in a code span, a default, or a threshold.
_CONSTANT = re.compile(
    r"\0\s?\((?:default )?$|\bdefaults?(?: is| of| to| are|:| \()?\s?$"
    r"|\bIoU\s(?:of\s(?:at\sleast\s)?|above\s)$|\bat\s(?:an\s)?IoU\s$"
)


@dataclass(frozen=True)
class Number:
    """A number in a page.

    Attributes:
        start: its offset in the page.
        end: that after its last digit.
        text: as it is written, with line breaks as blanks.
        line: of the page, from 1.
    """

    start: int
    end: int
    text: str
    line: int


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", "\0", match[0])


@functools.lru_cache(maxsize=8)
def mask_blocks(page: str) -> str:
    """The page, with code blocks, generated parts and comments overwritten, of the same length."""
    for pattern in (_CODE_BLOCK, _GENERATED, _COMMENT):
        page = pattern.sub(_blank, page)
    return page


def measured_numbers(page: str) -> Iterator[Number]:
    """The numbers of a page that look measured.

    They are decimals, powers of ten, and numbers with a unit or with commas between thousands.
    Versions, sizes such as 640x480, and values right behind the name of their key are left out.

    Args:
        page: Markdown.
    """
    text = mask_blocks(page)
    for pattern in (_CODE_SPAN, _LINK_TARGET):
        text = pattern.sub(_blank, text)
    tokens = [m for m in _TOKEN.finditer(text) if not _is_constant(text, m)]
    measured: set[int] = set()
    following: re.Match[str] | None = None
    for token in reversed(tokens):  # a unit holds for the numbers before it
        joined = following is not None and _JOIN.fullmatch(text, token.end(), following.start())
        if _has_unit(text, token) or (joined and following and following.start() in measured):
            measured.add(token.start())
        following = token
    previous: re.Match[str] | None = None
    for token in tokens:
        joined = previous is not None and _JOIN_BACK.fullmatch(text, previous.end(), token.start())
        if joined and previous and previous.start() in measured:
            measured.add(token.start())
        previous = token
        if token.start() in measured:
            line = page.count("\n", 0, token.start()) + 1
            yield Number(token.start(), token.end(), " ".join(token[0].split()), line)


def _has_unit(text: str, token: re.Match[str]) -> bool:
    if re.search("[.e,]", token[0]):
        return True
    unit = _UNIT.match(text, token.end())
    # 1x and 2x are the names of schedules.
    return unit is not None and not (unit[0] == "x" and len(token[0]) == 1)


def _is_constant(text: str, token: re.Match[str]) -> bool:
    """Whether a number is a version, or the value of the key that is named right before it."""
    before = text[max(0, token.start() - 50) : token.start()]
    if "." in token[0] and _VERSION.search(before):
        return True
    newer = re.match(r"\sor\s(?:newer|later)\b", text[token.end() : token.end() + 12])
    return newer is not None or _CONSTANT.search(before) is not None
