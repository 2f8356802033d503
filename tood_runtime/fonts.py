"""Fonts for labels in any script, without shipping a font."""

import functools
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from PIL import ImageFont

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Pillow's default font has little more than ASCII. For other scripts, Pillow searches the system's
# font folders for these names: broad fonts first, then CJK, then fonts of one script.
_SYSTEM_FONTS = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "FreeSans.ttf"),
    *("Arial Unicode.ttf", "arial.ttf", "NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf"),
    *("SourceHanSans-Regular.ttc", "wqy-microhei.ttc", "wqy-zenhei.ttc", "PingFang.ttc"),
    *("DroidSansFallbackFull.ttf", "DroidSansFallback.ttf", "msyh.ttc", "malgun.ttf"),
    *("NotoSansArabic-Regular.ttf", "NotoSansHebrew-Regular.ttf", "NotoSansThai-Regular.ttf"),
    *("NotoSansDevanagari-Regular.ttf", "NotoSansBengali-Regular.ttf", "unifont.otf"),
)

# A code point that no font assigns: its glyph is the font's box for missing characters.
_UNASSIGNED = "\U0010ffff"


def choose_font(text: str, size: int) -> Font:
    """Return the first font that has every character of a text, else the one that has most.

    Args:
        text: one line.
        size: pixels per em.
    """
    best: Font | None = None
    fewest = len(text) + 1
    for name in _font_names():
        font = _load(name, size)
        if font is None:
            continue
        missing = sum(not _has_glyph(name, character) for character in set(text))
        if missing == 0:
            return font
        if missing < fewest:
            best, fewest = font, missing
    return ImageFont.load_default() if best is None else best


def drawable_text(text: str, font: Font) -> str:
    """Replace what a font cannot even be asked to draw.

    Line breaks and other control characters become spaces. The bitmap font of a Pillow without
    FreeType knows Latin-1 only; "?" stands for the rest.
    """
    text = "".join(c if c.isprintable() else " " for c in text)
    if isinstance(font, ImageFont.FreeTypeFont):
        return text
    return text.encode("latin-1", "replace").decode("latin-1")


def _font_names() -> Iterator[str]:
    """Names for :func:`_load`; "" is Pillow's default font."""
    yield ""
    yield from _SYSTEM_FONTS
    matplotlib = importlib.util.find_spec("matplotlib")  # brings DejaVu Sans; not imported
    if matplotlib is not None and matplotlib.origin is not None:
        yield str(Path(matplotlib.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf")


@functools.lru_cache(maxsize=256)
def _load(name: str, size: int) -> Font | None:
    try:
        return ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
    except (OSError, ImportError):  # not installed, or Pillow has no FreeType
        return None


@functools.lru_cache(maxsize=4096)
def _has_glyph(name: str, character: str) -> bool:
    font = _load(name, 16)
    if character.isspace() or not character.isprintable():
        return True
    return font is not None and _glyph(font, character) != _glyph(font, _UNASSIGNED)


def _glyph(font: Font, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)
