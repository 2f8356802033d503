"""Damages the folder of a case: missing files, links, named pipes, odd names."""

from collections.abc import Callable
from random import Random

from ..files import Entry, Link, Pipe

_Files = dict[str, Entry]
_NAMES = (
    *("\udcff\udcfe", "a\nb", "a b", "'", '"', "<x>", "%s", "-rf", "e\u0301", "\U0001d518", "~"),
    *("." * 3, "a" * 240, "COM1", "$(x)", "\x1b[31m", "a,b", "a:b", "?", "*", "[a]", "\u202egnp"),
)


def _choose(files: _Files, target: str, rng: Random) -> str:
    names = sorted(files)
    return target if target in files and rng.random() < 0.3 else rng.choice(names)


def missing(files: _Files, target: str, rng: Random) -> _Files | None:
    """Remove a file."""
    del files[_choose(files, target, rng)]
    return files or None


def folder(files: _Files, target: str, rng: Random) -> _Files | None:
    """Make a file a folder."""
    name = _choose(files, target, rng)
    files[f"{name}/x"] = files.pop(name)
    return files


def link(files: _Files, target: str, rng: Random) -> _Files | None:
    """Make a file a link: to itself, to nothing, to a device, to another file or folder."""
    name = _choose(files, target, rng)
    own = name.rpartition("/")[2]
    other = rng.choice(sorted(files)).rpartition("/")[2]
    targets = (own, "nothing", "/dev/zero", "/etc/passwd", "..", ".", "/", other, "/dev/stdin")
    files[name] = Link(rng.choice(targets))
    return files


def pipe(files: _Files, target: str, rng: Random) -> _Files | None:
    """Make a file a named pipe."""
    files[_choose(files, target, rng)] = Pipe()
    return files


def rename(files: _Files, target: str, rng: Random) -> _Files | None:
    """Give a file or its folder an odd name; the suffix stays."""
    name = _choose(files, target, rng)
    parent, _, own = name.rpartition("/")
    suffix = f".{own.rpartition('.')[2]}" if "." in own else ""
    odd = rng.choice(_NAMES)
    new = f"{parent}/{odd}{suffix}" if parent else f"{odd}{suffix}"
    if parent and rng.random() < 0.3:
        new = f"{odd}/{own}"
    files[new] = files.pop(name)
    return files


def copy(files: _Files, target: str, rng: Random) -> _Files | None:
    """Write the content of a file under the name of another one, or next to it."""
    names = sorted(files)
    first, second = rng.choice(names), rng.choice(names)
    if rng.random() < 0.5:
        files[second] = files[first]
    else:
        stem, _, suffix = first.rpartition(".")
        files[
            f"{stem}.{rng.choice((suffix.upper(), 'json', 'yaml', 'xml', 'txt', 'png', 'csv'))}"
        ] = files[second]
    return files


def loop(files: _Files, target: str, rng: Random) -> _Files | None:
    """Add a link to a folder above."""
    parents = sorted({name.rpartition("/")[0] for name in files})
    parent = rng.choice(parents)
    files[f"{parent}/loop" if parent else "loop"] = Link(rng.choice((".", "..", "../..")))
    return files


MUTATIONS: tuple[Callable[[_Files, str, Random], _Files | None], ...] = (
    missing, folder, link, link, pipe, rename, copy, loop,
)  # fmt: skip
