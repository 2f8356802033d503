"""Damages a case: each call makes another one from a valid case, given a random generator."""

from collections.abc import Callable, Sequence
from random import Random

from ..files import Case, Entry
from . import archives, binary, folders, images, pickles, structures, text, xml_trees

# What changes the bytes of one file: new bytes and a word about what was done; None if it cannot.
FileMutation = Callable[[bytes, Random], bytes | None]

_TEXT = (*text.MUTATIONS, *text.MUTATIONS, binary.flip, binary.cut, binary.splice)
_BINARY = binary.MUTATIONS
_ZIP = (*_BINARY, *archives.MUTATIONS, *archives.MUTATIONS, *pickles.IN_ZIP)
_BY_SUFFIX: dict[str, Sequence[FileMutation]] = {
    ".json": (*structures.JSON, *structures.JSON, *_TEXT),
    ".yaml": (*structures.YAML, *structures.YAML, *_TEXT),
    ".xml": (*xml_trees.MUTATIONS, *xml_trees.MUTATIONS, *_TEXT),
    ".txt": _TEXT,
    ".csv": _TEXT,
    ".data": _TEXT,
    ".names": _TEXT,
    ".pth": _ZIP,
    ".pt": _ZIP,
    ".pkl": (*_BINARY, *pickles.MUTATIONS),
    ".safetensors": (*_BINARY, *archives.SAFETENSORS, *archives.SAFETENSORS),
    ".torchscript": (*_BINARY, *archives.MUTATIONS),
    ".pt2": (*_BINARY, *archives.MUTATIONS),
    ".onnx": (*_BINARY, *archives.ONNX, *archives.ONNX),
    ".bin": _BINARY,
    ".png": (*_BINARY, *images.PNG, *images.PNG),
    **dict.fromkeys((".jpg", ".gif", ".tif", ".webp", ".bmp", ".ppm"), (*_BINARY, *images.ANY)),
}
# Files that are no images are damaged more often than those that are.
_IMAGES = (".png", ".jpg", ".gif", ".tif", ".webp", ".bmp", ".ppm")
_MOST = 3


def mutate(case: Case, rng: Random) -> tuple[Case, list[str]]:
    """Damage one to three things.

    Args:
        case: a valid one.
        rng: decides everything.

    Returns:
        The damaged case, and a line for each thing that was done.
    """
    done: list[str] = []
    wanted = rng.choice((1, 1, 1, 2, _MOST))
    for _ in range(40):
        if len(done) == wanted:
            break
        if rng.random() < 0.06:
            change = rng.choice(folders.MUTATIONS)
            files = change(dict(case.files), case.target, rng)
            if files is not None:
                case = case.with_files(files)
                done.append(f"folder: {change.__name__}")
            continue
        name = _choose_file(case, rng)
        if name is None:
            continue
        mutation = rng.choice(_BY_SUFFIX.get(_suffix(name), _BINARY))
        data = case.files[name]
        changed = mutation(data, rng) if isinstance(data, bytes) else None
        if changed is not None and changed != data:
            entries: dict[str, Entry] = {**case.files, name: changed}
            case = case.with_files(entries)
            done.append(f"{name}: {mutation.__module__.rpartition('.')[2]}.{mutation.__name__}")
    return case, done


def _suffix(name: str) -> str:
    return f".{name.rpartition('.')[2].lower()}"


def _choose_file(case: Case, rng: Random) -> str | None:
    names = [name for name, entry in sorted(case.files.items()) if isinstance(entry, bytes)]
    if case.target in names and rng.random() < 0.6:
        return case.target
    others = [name for name in names if _suffix(name) not in _IMAGES]
    if others and rng.random() < 0.85:
        names = others
    return rng.choice(names) if names else None
