"""Git's hash of the files in a zip archive, to check what a code host delivers.

An archive of a commit may be compressed in another way tomorrow, so the hash of the zip file itself
cannot be pinned. The hash of the tree, which is part of the commit, never changes::

    git rev-parse COMMIT^{tree}
"""

import hashlib
import stat
import zipfile
from pathlib import Path

# A folder: names to contents. A file: its mode in git, and its hash.
_Folder = dict[str, "_Folder | tuple[str, bytes]"]


def zip_tree_hash(path: Path) -> str:
    """The hash of the tree that an archive holds below its only top-level folder.

    Args:
        path: of a zip file as ``git archive`` writes it.

    Returns:
        40 hexadecimal digits. Names that are unusual, such as "..", are hashed as they are, so they
        give another hash than the tree's.

    Raises:
        zipfile.BadZipFile: it is no zip file, or damaged.
        ValueError: a name is used for a file and a folder, or something is not in that folder:
            pip would then build other files than those that are hashed.
    """
    root: _Folder = {}
    with zipfile.ZipFile(path) as archive:
        top = None
        for info in archive.infolist():
            first, slash, rest = info.filename.partition("/")
            if not slash or top not in (None, first):
                raise ValueError(f"{info.filename} is not in the only top-level folder")
            top = first
            *folders, name = rest.split("/")
            folder = root
            for part in folders:
                inner = folder.setdefault(part, {})
                if not isinstance(inner, dict):
                    raise ValueError(f"{info.filename} is inside of a file")
                folder = inner
            if name:
                if name in folder:
                    raise ValueError(f"{info.filename} occurs twice")
                folder[name] = (_mode(info), _hash(b"blob", archive.read(info)))
    return _tree_hash(root).hex()


def _mode(info: zipfile.ZipInfo) -> str:
    mode = info.external_attr >> 16
    if stat.S_ISLNK(mode):
        return "120000"
    return "100755" if mode & stat.S_IXUSR else "100644"


def _tree_hash(folder: _Folder) -> bytes:
    entries = []
    for name, content in folder.items():
        raw = name.encode()
        if isinstance(content, dict):  # sorted as if its name ended in a slash
            entries.append((raw + b"/", b"40000 " + raw + b"\0" + _tree_hash(content)))
        else:
            mode, digest = content
            entries.append((raw, mode.encode() + b" " + raw + b"\0" + digest))
    return _hash(b"tree", b"".join(entry for _, entry in sorted(entries)))


def _hash(kind: bytes, data: bytes) -> bytes:
    # Git's hash; that SHA-1 is weak does not help to find other files for a given one.
    header = kind + b" " + str(len(data)).encode() + b"\0"
    return hashlib.sha1(header + data, usedforsecurity=False).digest()
