"""Damages image files by their structure: giant sizes, bombs, chunks in the wrong place."""

import functools
import io
import struct
import zlib
from random import Random

from PIL import Image

_SIDES = (0, 1, 2, 5000, 12_000, 60_000, 2**31 - 1, 2**31, 2**32 - 1)
_MAGIC = b"\x89PNG\r\n\x1a\n"


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, place = [], len(_MAGIC)
    while place + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        if length > len(data):
            break
        found.append((kind, data[place + 8 : place + 8 + length]))
        place += 12 + length
    return found


def _join(chunks: list[tuple[bytes, bytes]]) -> bytes:
    return _MAGIC + b"".join(_chunk(kind, content) for kind, content in chunks)


def png_header(data: bytes, rng: Random) -> bytes | None:
    """Other sizes, bit depths, color types, interlacing; the checksum is right."""
    chunks = _chunks(data)
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        return None
    header = list(struct.unpack(">IIBBBBB", chunks[0][1]))
    index = rng.randrange(7)
    header[index] = rng.choice(_SIDES if index < 2 else (0, 1, 2, 3, 4, 6, 8, 16, 255))
    if index < 2 and rng.random() < 0.5:
        header[1 - index] = rng.choice(_SIDES)
    chunks[0] = b"IHDR", struct.pack(">IIBBBBB", *header)
    return _join(chunks)


def png_chunks(data: bytes, rng: Random) -> bytes | None:
    """Remove, repeat, move or damage chunks; the checksums are right."""
    chunks = _chunks(data)
    if len(chunks) < 2:
        return None
    first, second = rng.randrange(len(chunks)), rng.randrange(len(chunks))
    kind = rng.randrange(4)
    if kind == 0:
        del chunks[first]
    elif kind == 1:
        chunks[second:second] = [chunks[first]] * rng.choice((1, 2, 3000))
    elif kind == 2:
        chunks[first], chunks[second] = chunks[second], chunks[first]
    else:
        name, content = chunks[first]
        place = rng.randrange(len(content) + 1)
        chunks[first] = (
            name,
            content[:place] + rng.randbytes(rng.choice((1, 8))) + content[place + 1 :],
        )
    return _join(chunks)


def png_bomb(data: bytes, rng: Random) -> bytes | None:
    """Add a chunk whose content grows when it is read, or is deeply nested."""
    chunks = _chunks(data)
    if not chunks:
        return None
    zeros = _compressed_zeros()
    bomb = rng.choice(
        (
            (b"zTXt", b"a\0\0" + zeros),
            (b"iTXt", b"a\0\1\0\0\0" + zeros),
            (b"iCCP", b"a\0\0" + zeros),
            (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"<a>" * 50_000),
            (b"zTXt", b"Raw profile type exif\0\0" + zeros),
            (b"eXIf", b"II*\0\x08\0\0\0" + b"\xff" * 200),
            (b"eXIf", _looping_exif()),
            (b"acTL", struct.pack(">II", 2**31 - 1, 0)),
        )
    )
    chunks.insert(rng.choice((1, len(chunks) - 1)), bomb)
    return _join(chunks)


@functools.cache
def _compressed_zeros() -> bytes:
    return zlib.compress(bytes(80_000_000), 9)


def _looping_exif() -> bytes:
    """A directory that names itself as its own next and as a part of itself."""
    entry = struct.pack("<HHII", 0x8769, 4, 1, 8)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + entry + struct.pack("<I", 8)


def exif(data: bytes, rng: Random) -> bytes | None:
    """Other EXIF data: odd orientations, loops, damage."""
    own = Image.Exif()
    own[274] = rng.choice((0, 9, 65_535, 6, 8))
    content = rng.choice((own.tobytes(), b"Exif\0\0" + _looping_exif(), b"Exif\0\0" + b"\xff" * 50))
    try:
        with Image.open(io.BytesIO(data)) as image:
            image_format = image.format or ""
            file = io.BytesIO()
            image.save(file, image_format, exif=content)
            return file.getvalue()
    except Exception:  # damaged by an earlier mutation, or a format without EXIF data
        return None


def size(data: bytes, rng: Random) -> bytes | None:
    """Another size in the header."""
    with_sizes = _size_places(data)
    if not with_sizes:
        return None
    place, code = rng.choice(with_sizes)
    limit = 2 ** (8 * struct.calcsize(code))
    packed = struct.pack(code, rng.choice(_SIDES) % limit)
    return data[:place] + packed + data[place + len(packed) :]


def _size_places(data: bytes) -> list[tuple[int, str]]:
    """Where the header has width and height, and how."""
    if data.startswith(b"\xff\xd8"):
        starts = [data.find(bytes((0xFF, marker))) for marker in (0xC0, 0xC1, 0xC2)]
        start = max(starts)
        return [(start + 5, ">H"), (start + 7, ">H")] if start > 0 else []
    if data.startswith(b"GIF8"):
        return [(6, "<H"), (8, "<H")]
    if data.startswith(b"BM"):
        return [(10, "<I"), (14, "<I"), (18, "<I"), (22, "<I"), (28, "<H"), (46, "<I")]
    if data.startswith(b"RIFF"):
        return [(4, "<I"), (16, "<I"), (24, "<H"), (26, "<H"), (28, "<H")]
    if data[:2] in (b"II", b"MM"):
        return _tiff_places(data)
    return []


def _tiff_places(data: bytes) -> list[tuple[int, str]]:
    order = "<" if data.startswith(b"II") else ">"
    if len(data) < 8:
        return []
    (start,) = struct.unpack(f"{order}I", data[4:8])
    if start + 2 > len(data):
        return []
    (count,) = struct.unpack(f"{order}H", data[start : start + 2])
    places: list[tuple[int, str]] = []
    for index in range(count):
        entry = start + 2 + 12 * index
        if entry + 12 <= len(data):
            places += [(entry, f"{order}H"), (entry + 2, f"{order}H")]
            places += [(entry + 4, f"{order}I"), (entry + 8, f"{order}I")]
    return places


def ppm(data: bytes, rng: Random) -> bytes | None:
    """A header in text with other numbers."""
    if not data.startswith(b"P"):
        return None
    side = rng.choice((b"0", b"-1", b"9" * 30, b"60000", b"12000"))
    return rng.choice((b"P5", b"P6", b"P3", b"Pf")) + b"\n" + side + b" " + side + b"\n255\n"


PNG = (png_header, png_header, png_chunks, png_chunks, png_bomb, exif)
ANY = (size, size, size, exif, ppm)
