"""Damages XML files by their structure."""

import copy
from random import Random
from xml.etree import ElementTree

from .values import any_number, any_text

_DEPTHS = (50, 900, 5000, 100_000)


def _parse(data: bytes) -> ElementTree.Element | None:
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError):
        return None


def _dump(root: ElementTree.Element) -> bytes | None:
    try:
        return ElementTree.tostring(root)
    except (TypeError, ValueError, RecursionError):
        return None


def element(data: bytes, rng: Random) -> bytes | None:
    """Change, remove, repeat, move or rename elements and attributes."""
    root = _parse(data)
    if root is None:
        return None
    for _ in range(rng.choice((1, 1, 2, 4))):
        parents = [x for x in root.iter() if len(x)]
        everything = list(root.iter())
        chosen = rng.choice(everything)
        kind = rng.randrange(7)
        value = any_text(rng) if rng.random() < 0.5 else str(_number(rng))
        if kind == 0 and parents:
            parent = rng.choice(parents)
            parent.remove(rng.choice(list(parent)))
        elif kind == 1 and parents:
            parent = rng.choice(parents)
            chosen = rng.choice(list(parent))
            parent.extend([copy.deepcopy(chosen) for _ in range(rng.choice((1, 60)))])
        elif kind == 2:
            chosen.tag = rng.choice([x.tag for x in everything])
        elif kind == 3 and chosen.attrib:
            name = rng.choice(sorted(chosen.attrib))
            chosen.set(name, value)
        elif kind == 4 and chosen.attrib:
            del chosen.attrib[rng.choice(sorted(chosen.attrib))]
        elif kind == 5:
            chosen.append(copy.deepcopy(rng.choice([x for x in everything if len(x) < 20])))
        else:
            chosen.text = value
    return _dump(root)


def _number(rng: Random) -> int | float:
    value = any_number(rng)
    return 10**30 if isinstance(value, int) and value > 10**300 else value


def _head_end(data: bytes) -> int:
    """Where the root element begins."""
    start = data.find(b"?>")
    return start + 2 if start >= 0 else 0


def doctype(data: bytes, rng: Random) -> bytes | None:
    """Declare entities: files, URLs, bombs."""
    levels = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 10))
    declaration = rng.choice(
        (
            '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
            '<!DOCTYPE a [<!ENTITY x SYSTEM "http://127.0.0.1:9/x">]>',
            '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/x.dtd">',
            f'<!DOCTYPE a [<!ENTITY e0 "ha">{levels}<!ENTITY x "&e9;">]>',
            f'<!DOCTYPE a [<!ENTITY x "{"x" * 50_000}">]>',
            '<!DOCTYPE a [<!ENTITY % x SYSTEM "file:///dev/zero"> %x;]>',
        )
    )
    head, rest = data[: _head_end(data)], data[_head_end(data) :]
    many = "&x;" * rng.choice((1, 1, 5000))
    return head + declaration.encode() + rest.replace(b">", f">{many}".encode(), 1)


def nested(data: bytes, rng: Random) -> bytes | None:
    """Nest elements deeply."""
    depth = rng.choice(_DEPTHS)
    place = data.find(b">", _head_end(data)) + 1
    tag = rng.choice((b"object", b"a", b"part"))
    opened, closed = b"<" + tag + b">", b"</" + tag + b">"
    return data[:place] + opened * depth + closed * rng.choice((depth, 0)) + data[place:]


def declared_encoding(data: bytes, rng: Random) -> bytes | None:
    """Declare another encoding."""
    names = (
        *("utf-16", "utf-7", "idna", "punycode", "rot13", "hex", "zlib", "undefined", "utf-32"),
        *("unicode_escape", "cp037", "x" * 1000, "raw_unicode_escape", "mbcs"),
    )
    head = f'<?xml version="1.0" encoding="{rng.choice(names)}"?>'.encode()
    return head + data[_head_end(data) :]


MUTATIONS = (element, element, element, element, doctype, nested, declared_encoding)
