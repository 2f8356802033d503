"""Damages any file by its bytes."""

import struct
from random import Random

_NUMBERS = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**64 - 1,
)
_SIZES = {1: "B", 2: "H", 4: "I", 8: "Q"}


def flip(data: bytes, rng: Random) -> bytes | None:
    """Flip bits."""
    if not data:
        return None
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 40))):
        changed[_place(len(data), rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _place(size: int, rng: Random) -> int:
    """Often near the beginning or the end, where headers and directories are."""
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randrange(min(size, 64))
    if kind == 1:
        return size - 1 - rng.randrange(min(size, 200))
    return rng.randrange(size)


def cut(data: bytes, rng: Random) -> bytes | None:
    """Cut the end off."""
    return data[: rng.randrange(len(data))] if data else None


def remove(data: bytes, rng: Random) -> bytes | None:
    """Remove bytes in the middle."""
    if not data:
        return None
    start = _place(len(data), rng)
    return data[:start] + data[start + rng.choice((1, 4, 30, 500)) :]


def repeat(data: bytes, rng: Random) -> bytes | None:
    """Repeat bytes."""
    if not data:
        return None
    start = _place(len(data), rng)
    part = data[start : start + rng.choice((1, 4, 30, 500))]
    return data[:start] + part * rng.choice((2, 3, 100)) + data[start:]


def number(data: bytes, rng: Random) -> bytes | None:
    """Overwrite bytes with a number that sizes and counters do not expect."""
    if len(data) < 8:
        return None
    size = rng.choice((1, 2, 4, 4, 8))
    start = min(_place(len(data), rng), len(data) - size)
    value = rng.choice(_NUMBERS) % 2 ** (8 * size)
    packed = struct.pack(rng.choice("<>") + _SIZES[size], value)
    return data[:start] + packed + data[start + size :]


def splice(data: bytes, rng: Random) -> bytes | None:
    """Overwrite bytes with others of the same file."""
    if len(data) < 8:
        return None
    length = rng.choice((2, 8, 60, 400))
    source, target = rng.randrange(len(data)), rng.randrange(len(data))
    part = data[source : source + length]
    return data[:target] + part + data[target + len(part) :]


def noise(data: bytes, rng: Random) -> bytes | None:
    """Overwrite bytes with random ones."""
    if not data:
        return None
    start = _place(len(data), rng)
    length = min(rng.choice((1, 3, 16, 200)), len(data) - start)
    return data[:start] + rng.randbytes(length) + data[start + length :]


def append(data: bytes, rng: Random) -> bytes | None:
    """Append bytes."""
    return data + rng.choice((b"\0" * 1000, data, rng.randbytes(50)))


MUTATIONS = (flip, flip, cut, remove, repeat, number, number, splice, noise, append)
