"""Damages text files: words, lines and encodings."""

import re
from random import Random

from .values import any_number, any_text

_ENCODINGS = (
    *("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "utf-7", "cp037", "shift_jis"),
)
_INSERTED = (
    *("\0", "\ufeff", "\r", "\r\n", "\x85", "\u2028", "\x0c", "\x1a", "\x1b[2J", "\t", "\x7f"),
    *("\udcff", '"', "'", ",", ";", "=", "#", ":", "<", ">", "&", "%", "\n\n\n", " " * 10_000),
)


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def word(data: bytes, rng: Random) -> bytes | None:
    """Replace a word or a number."""
    found = list(re.finditer(rb"[^\s,:=<>\"]+", data))
    if not found:
        return None
    match = rng.choice(found)
    value = (
        any_text(rng) if rng.random() < 0.5 else str(any_number(rng) if rng.random() < 0.98 else 0)
    )
    return data[: match.start()] + value.encode("utf-8", "surrogatepass") + data[match.end() :]


def remove_word(data: bytes, rng: Random) -> bytes | None:
    """Remove a word with what separates it."""
    found = list(re.finditer(rb"[^\s,]+[\s,]?", data))
    if not found:
        return None
    match = rng.choice(found)
    return data[: match.start()] + data[match.end() :]


def lines(data: bytes, rng: Random) -> bytes | None:
    """Remove, repeat, swap, join or blank lines."""
    parts = data.split(b"\n")
    first, second = rng.randrange(len(parts)), rng.randrange(len(parts))
    kind = rng.randrange(6)
    if kind == 0:
        del parts[first]
    elif kind == 1:
        parts[first:first] = [parts[second]] * rng.choice((1, 2, 500))
    elif kind == 2:
        parts[first], parts[second] = parts[second], parts[first]
    elif kind == 3:
        parts[first : first + 2] = [b"".join(parts[first : first + 2])]
    elif kind == 4:
        parts[first] = b""
    else:
        parts[first] = parts[first] * rng.choice((2, 50, 5000))
    return b"\n".join(parts)


def insert(data: bytes, rng: Random) -> bytes | None:
    """Insert a character that means something, or that no text has."""
    place = rng.randrange(len(data) + 1)
    return data[:place] + _encode(rng.choice(_INSERTED)) + data[place:]


def encoding(data: bytes, rng: Random) -> bytes | None:
    """Write the same text in another encoding, or with a mark that it is not."""
    name = rng.choice((*_ENCODINGS, "mark", "latin-1"))
    if name == "mark":
        return rng.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\0\0")) + data
    text = _decode(data)
    if name == "latin-1":
        return text.replace("a", "\xe4").encode("latin-1", "replace")
    try:
        return text.encode(name)
    except UnicodeError:
        return None


def line_ends(data: bytes, rng: Random) -> bytes | None:
    """Write other ends of lines."""
    return data.replace(b"\n", rng.choice((b"\r", b"\r\n", b"\n\r", b"\xc2\x85", b"\0\n")))


def other_file(data: bytes, rng: Random) -> bytes | None:
    """Write something else: nothing, zeros, a web page, another format."""
    return rng.choice(
        (
            *(b"", b"\n", b"\0" * 1000, b"null", b"[]", b"{}", b"0", b'""', b"[" * 100_000),
            *(b"<!doctype html><html></html>", b"version https://git-lfs.github.com/spec/v1\n"),
            *(b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", b"\x1f\x8b\x08\0", b"\xff" * 100, b"%PDF-1.4"),
        )
    )


MUTATIONS = (word, word, word, remove_word, lines, lines, insert, insert, encoding, line_ends,
             other_file)  # fmt: skip
