"""Replaces pickles by hostile ones, also in the archives of ``torch.save``."""

import io
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable
from random import Random

from ..audit import CANARY
from . import binary
from .archives import write_zip

_FUNCTIONS = (
    *(("os", "system"), ("posix", "system"), ("builtins", "exec"), ("builtins", "eval")),
    *(("__builtin__", "eval"), ("subprocess", "check_output"), ("builtins", "open")),
    *(("torch", "load"), ("torch.hub", "load"), ("torch.jit", "load"), ("numpy", "load")),
    *(("numpy.core.multiarray", "_reconstruct"), ("torch._utils", "_rebuild_tensor_v2")),
    *(("torch.storage", "_load_from_bytes"), ("functools", "partial"), ("operator", "attrgetter")),
    *(
        ("builtins", "getattr"),
        ("builtins", "__import__"),
        ("tood.config.imports", "import_custom"),
    ),
    *(("torch.serialization", "load"), ("numpy.testing._private.utils", "runstring")),
    *(
        ("collections", "OrderedDict"),
        ("torch", "FloatStorage"),
        ("torch", "Size"),
        ("x" * 5000, "y"),
    ),
)


def _text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def hostile_pickle(rng: Random) -> bytes:
    """A pickle that calls something, in one of the ways that the format has."""
    module, name = rng.choice(_FUNCTIONS)
    command = _text(f"echo {CANARY}")
    arguments = rng.choice((command, command + command, b"K\x01", b"]", b"", b"J\xff\xff\xff\x7f"))
    called = rng.choice(
        (
            f"c{module}\n{name}\n".encode() + b"(" + arguments + b"tR",
            _text(module) + _text(name) + b"\x93(" + arguments + b"tR",
            f"(S'echo {CANARY}'\ni{module}\n{name}\n".encode(),
            b"(" + f"c{module}\n{name}\n".encode() + arguments + b"o",
            f"c{module}\n{name}\n".encode() + b"(" + arguments + b"t\x81",
            f"c{module}\n{name}\n".encode() + b")\x81}" + _text("x") + command + b"sb",
            f"c{module}\n{name}\n".encode() + b")}\x92",
            b"\x82\x01",
        )
    )
    inside = rng.choice((called, b"}" + _text("model") + b"}" + _text("a") + called + b"ss"))
    return b"\x80\x02" + inside + b"."


def greedy_pickle(rng: Random) -> bytes:
    """A pickle that is small and asks for much time or memory."""
    depth = rng.choice((200, 20_000, 200_000))
    doubled = b"K\x01\x85q\x00" + b"".join(
        b"h\x00h\x00\x86q\x00" for _ in range(rng.choice((30, 5000)))
    )
    return rng.choice(
        (
            b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b".",
            b"\x80\x02" + b"K\x01" + b"\x85" * depth + b".",
            b"\x80\x02" + doubled + b".",
            b"\x80\x02}" + doubled + b"K\x01s.",
            b"\x80\x02\x8b\xff\xff\xff\x7f" + b"1" * 10 + b".",
            b"\x80\x02B\xff\xff\xff\xff.",
            b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b".",
            b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
            b"\x80\x02]q\x00h\x00a.",
            b"\x80\x02}q\x00" + _text("a") + b"h\x00s.",
            b"\x80\x02r\xff\xff\xff\xffN.",
            b"\x80\x02" + b"(" * depth + b"t" * depth + b".",
            b"\x80\x02" + b"N2" * depth + b".",
            b"I" + b"9" * 6000 + b"\n.",
            b"\x80\x02\x8b" + struct.pack("<I", 100_000) + b"\x01" * 100_000 + b".",
        )
    )


def rebuilt_tensor(rng: Random) -> bytes:
    """A pickle with a tensor whose sizes are wrong; its storage is record 0."""
    sizes = (0, 1, 2, -1, 10**6, 2**31, 2**62, True, 1.5, "x", None)
    shape = tuple(rng.choice(sizes) for _ in range(rng.choice((0, 1, 2, 5, 70))))
    stride = tuple(rng.choice(sizes) for _ in range(rng.choice((len(shape), len(shape), 3))))
    arguments = (rng.choice(sizes), shape, stride, False, {})
    # The stem of the small model has 588 weights.
    numel = rng.choice((588, 588, 0, 1, 2**40, -1))
    storage = (
        b"(" + _text("storage") + b"ctorch\n" + rng.choice((b"Float", b"Long", b"QInt8"))
        + b"Storage\n" + _text("0") + _text("cpu") + _value(numel) + b"tQ"
    )  # fmt: skip
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage
    call += b"".join(map(_value, arguments)) + b"tR"
    return b"\x80\x02}" + _text("model") + b"}" + _text("a") + call + b"ss."


def _value(value: object) -> bytes:
    """The instructions that push a value."""
    return pickletools.optimize(pickle.dumps(value, protocol=2))[2:-1]


_MAKERS: tuple[Callable[[Random], bytes], ...] = (
    hostile_pickle, hostile_pickle, greedy_pickle, rebuilt_tensor,
)  # fmt: skip


def replaced(data: bytes, rng: Random) -> bytes | None:
    """Another pickle in the place of this one."""
    return rng.choice(_MAKERS)(rng)


def inserted(data: bytes, rng: Random) -> bytes | None:
    """A call somewhere in this pickle."""
    if len(data) < 10:
        return None
    place = rng.randrange(2, len(data))
    return data[:place] + hostile_pickle(rng)[2:-1] + data[place:]


def _in_zip(data: bytes, change: Callable[[bytes], bytes | None]) -> bytes | None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            records = [(item.filename, archive.read(item)) for item in archive.infolist()]
    except Exception:  # damaged by an earlier mutation; zipfile raises many types
        return None
    for index, (name, content) in enumerate(records):
        if name.endswith("data.pkl"):
            changed = change(content)
            if changed is None:
                return None
            records[index] = name, changed
    return write_zip(records)


def zipped_replaced(data: bytes, rng: Random) -> bytes | None:
    """`replaced`, of the pickle in an archive."""
    return _in_zip(data, lambda content: replaced(content, rng))


def zipped_inserted(data: bytes, rng: Random) -> bytes | None:
    """`inserted`, of the pickle in an archive."""
    return _in_zip(data, lambda content: inserted(content, rng))


def zipped_damaged(data: bytes, rng: Random) -> bytes | None:
    """Damaged bytes of the pickle in an archive, with the right checksum."""
    return _in_zip(data, lambda content: rng.choice(binary.MUTATIONS)(content, rng))


MUTATIONS = (replaced, replaced, inserted, inserted)
IN_ZIP = (zipped_replaced, zipped_replaced, zipped_inserted, zipped_damaged, zipped_damaged)
