"""Reads one annotation file of Pascal VOC."""

import codecs
import re
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from ...errors import DataError
from .files import read_bytes
from .json_file import printable

_DECLARED_ENCODING = re.compile(rb"""^\s*<\?xml[^>]*encoding\s*=\s*["']([\w.-]+)["']""")
# Codecs of Python for other things than files. Punycode takes quadratic time.
_NO_ENCODINGS = ("idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_TRUE = ("1", "true", "yes")


@dataclass
class VocObject:
    """An object of an annotation file.

    Attributes:
        name: of its class.
        corners: xmin, ymin, xmax, ymax as written.
        difficult: marked as hard to recognize.
        from_polygon: the file has a polygon and no box.
    """

    name: str
    corners: tuple[float, float, float, float]
    difficult: bool
    from_polygon: bool = False


@dataclass
class VocAnnotation:
    """The content of an annotation file.

    Attributes:
        path: of the file.
        file_name: of the image as written; it is often wrong.
        size: (width, height) as written; None if they are missing or not positive.
        objects: all objects.
    """

    path: Path
    file_name: str
    size: tuple[int, int] | None
    objects: list[VocObject] = field(default_factory=list)


def read_annotation(path: Path) -> VocAnnotation:
    """Read an annotation file.

    The parts of an object (``<part>``) and the attributes ``truncated``, ``occluded`` and ``pose``
    are ignored.

    Raises:
        DataError: it is not an annotation file of Pascal VOC, or an object is not understood.
    """
    root = _parse(path)
    if root.tag != "annotation":
        raise DataError(
            f"{path} is not a Pascal VOC annotation: its root is "
            f"<{printable(root.tag)}>, not <annotation>."
        )
    objects = [
        _read_object(element, f"{path}, object {number}")
        for number, element in enumerate(root.findall("object"), start=1)
    ]
    return VocAnnotation(path, _text(root, "filename"), _read_size(root), objects)


def _parse(path: Path) -> ElementTree.Element:
    data = read_bytes(path)
    if not data.strip():
        raise DataError(f"{path} is empty. Annotate the image again or remove the file.")
    text = _decode(path, data)
    # Entities can read other files or expand without bound. Decoded first, they cannot hide.
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(f"{path} declares a DOCTYPE, which no annotation needs. Remove it.")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(
            f"{path} is not valid XML ({error}). Correct it, or remove it with its image."
        ) from None


def _decode(path: Path, data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    else:
        declared = _DECLARED_ENCODING.match(data.removeprefix(b"\xef\xbb\xbf"))
        encoding = declared[1].decode() if declared else "utf-8"
        if encoding.lower().replace("-", "") in ("utf8", "utf16"):
            encoding = "utf-8-sig"
    try:
        if codecs.lookup(encoding).name in _NO_ENCODINGS:
            raise LookupError(encoding)
        return data.decode(encoding).lstrip("\ufeff \t\r\n")
    except (UnicodeError, LookupError):  # some codecs raise more than UnicodeDecodeError
        raise DataError(f"{path} is not text in {printable(encoding)}. Save it in UTF-8.") from None


def _text(element: ElementTree.Element, tag: str) -> str:
    return (element.findtext(tag) or "").strip()


def _read_size(root: ElementTree.Element) -> tuple[int, int] | None:
    try:
        width, height = (round(float(_text(root, f"size/{side}"))) for side in ("width", "height"))
    except (ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _read_object(element: ElementTree.Element, where: str) -> VocObject:
    name = _text(element, "name")
    if not name:
        raise DataError(f"{where} has no <name>. Add the name of its class.")
    difficult = _text(element, "difficult").lower() in _TRUE
    box = element.find("bndbox")
    if box is None:
        polygon = element.find("polygon")
        if polygon is None:
            raise DataError(
                f"{where} ({printable(name)}) has no <bndbox>. Add the box or remove the object."
            )
        return VocObject(name, _polygon_corners(polygon, where), difficult, from_polygon=True)
    values = [_number(_text(box, tag), tag, where) for tag in _CORNERS]
    return VocObject(name, (values[0], values[1], values[2], values[3]), difficult)


def _polygon_corners(polygon: ElementTree.Element, where: str) -> tuple[float, float, float, float]:
    """Return the box of a polygon: <pt><x/><y/></pt> or <x1/><y1/><x2/><y2/>."""
    xs = [_number(e.text or "", e.tag, where) for e in polygon.iter() if re.match(r"x\d*$", e.tag)]
    ys = [_number(e.text or "", e.tag, where) for e in polygon.iter() if re.match(r"y\d*$", e.tag)]
    if len(xs) < 3 or len(xs) != len(ys):
        raise DataError(f"{where} has a <polygon> without three points. Correct or remove it.")
    return min(xs), min(ys), max(xs), max(ys)


def _number(text: str, tag: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise DataError(
            f"{where}: <{tag}> is '{printable(text)}', which is not a number."
        ) from None
