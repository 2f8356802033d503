"""Fonts for any script, as far as the machine has them."""

import pytest
from PIL import ImageFont

from tood_runtime import fonts
from tood_runtime.fonts import choose_font, drawable_text

DEFAULT = ImageFont.load_default(20)


def test_ascii_is_drawn_with_pillows_font():
    assert choose_font("star $x^2$ 87%", 20).getname() == DEFAULT.getname()


def test_other_scripts_use_a_font_that_has_them():
    if fonts._load("DejaVuSans.ttf", 20) is None:
        pytest.skip("no DejaVu Sans on this machine")
    assert choose_font("café 87%", 20).getname()[0] == "DejaVu Sans"
    for character in "éЖαع":
        assert fonts._has_glyph("DejaVuSans.ttf", character)
        assert not fonts._has_glyph("", character)  # Pillow's own
    assert not fonts._has_glyph("DejaVuSans.ttf", "\U00012000")


def test_the_font_with_most_characters_if_none_has_all(monkeypatch):
    known = {"": "ab", "DejaVuSans.ttf": "abc"}
    monkeypatch.setattr(fonts, "_has_glyph", lambda name, c: c in known.get(name, ""))
    monkeypatch.setattr(fonts, "_load", lambda name, size: known.get(name))
    assert choose_font("abx", 20) == "ab"
    assert choose_font("abcx", 20) == "abc"


def test_pillow_without_freetype(monkeypatch):
    if not hasattr(ImageFont, "load_default_imagefont"):
        pytest.skip("Pillow has it since 11.1")
    monkeypatch.setattr(fonts, "_load", lambda name, size: None)
    monkeypatch.setattr(ImageFont, "load_default", ImageFont.load_default_imagefont)
    font = choose_font("中 é", 20)
    text = drawable_text("中 é", font)
    assert text == "? é" and font.getbbox(text)[2] > 0


def test_control_characters_become_spaces():
    assert drawable_text("a\nb\tc\x00d\u00e9", DEFAULT) == "a b c dé"
