"""Download a checkpoint once, into iopath's cache, which detectron2 uses too.

The cache is the folder ``$FVCORE_CACHE``, by default ``~/.torch/iopath_cache``. A file in it is
whole: it gets its name after its size and content were checked, so a killed download leaves nothing
that another process would take. Processes that need the same file wait for the one that downloads.
"""

import hashlib
import http.client
import logging
import os
import re
import secrets
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from iopath.common.file_io import file_lock, get_cache_dir
from portalocker.exceptions import AlreadyLocked, LockException
from tqdm import tqdm

from ..errors import CheckpointError
from .reader.kinds import DamagedCheckpointError

logger = logging.getLogger(__name__)

# Hosts whose files lie where iopath puts them, so that detectron2's own programs share them. iopath
# leaves the host out of the path, and two hosts may have different files of one name; so the files
# of all others lie in a folder of their host.
_SHARED_HOSTS = {"dl.fbaipublicfiles.com", "download.openmmlab.com", "download.pytorch.org"}
# Hosts that end a file's name with the first 8 digits of its sha256.
_HASHING_HOSTS = {"download.openmmlab.com", "download.pytorch.org"}
_HASHED_NAME = re.compile(r"-([0-9a-f]{8})\.pth$")
# OpenMMLab's names, which mirrors keep.
_OPENMMLAB_NAME = re.compile(r"_\d{8}_\d{6}-[0-9a-f]{8}\.pth$")

# Seconds without a byte.
_TIMEOUT = 60.0
_CHUNK = 1 << 20
_MAX_NAME = 200


def published_hash(url: str) -> str | None:
    """First 8 hexadecimal digits of a file's sha256, where its publisher writes them in the name.

    Returns:
        None for a file of another publisher.
    """
    parts = urlsplit(url)
    name = parts.path.rpartition("/")[2]
    match = _HASHED_NAME.search(name)
    if match is None or not (parts.hostname in _HASHING_HOSTS or _OPENMMLAB_NAME.search(name)):
        return None
    return match.group(1)


def place_in_cache(url: str) -> Path:
    """Where a download lies, relative to the cache.

    Args:
        url: with http or https.

    Raises:
        CheckpointError: the URL names no file.
    """
    parts = urlsplit(url)
    folder, _, name = unquote(parts.path).rpartition("/")
    if not name or not parts.hostname:
        raise CheckpointError(f"{url} names no file. Name a checkpoint file.")
    if parts.query or len(os.fsencode(name)) > _MAX_NAME:
        # A query may hold a secret, and a long name fits no file system.
        digest = hashlib.sha256(f"{name}?{parts.query}".encode("utf-8", "replace")).hexdigest()[:16]
        stem, suffix = os.path.splitext(name)
        name = f"{stem[:40]}-{digest}{suffix[:20]}"
    folders = [part for part in folder.split("/") if part not in ("", ".", "..")]
    if parts.hostname not in _SHARED_HOSTS:
        folders.insert(0, parts.netloc.rpartition("@")[2].replace(":", "_"))
    return Path(*folders, name)


def download(url: str, validate: Callable[[str], object]) -> str:
    """Return the local path of a URL's file, which is downloaded unless the cache has it.

    Args:
        url: with http or https.
        validate: called with the path of a new file; it raises a DamagedCheckpointError that begins
            with this path if the file is no whole checkpoint.

    Raises:
        CheckpointError: the file cannot be downloaded, or is damaged. It is not kept then.
    """
    place, expected = place_in_cache(url), published_hash(url)
    # Not get_cache_dir's answer, which is another folder where this one is read-only.
    cached = Path(os.path.expanduser(os.getenv("FVCORE_CACHE", "~/.torch/iopath_cache"))) / place
    if cached.is_file() and _is_published(cached, expected):
        logger.info("%s is in the cache: %s", url, cached)
        return str(cached)
    cached = Path(get_cache_dir()) / place
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with _exclusive(cached) as is_alone:
            if cached.is_file() and not _is_published(cached, expected):
                logger.warning(
                    "%s is not the file that was published: its sha256 does not start with %s, as "
                    "its name says. It is removed and downloaded again.",
                    cached,
                    expected,
                )
                cached.unlink()
            if not cached.is_file():  # nor has another process downloaded it meanwhile
                _fetch(url, cached, expected, validate, is_alone)
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise CheckpointError(
            f"{url} cannot be downloaded ({_reason(error)}). Download it elsewhere, and pass the "
            f"local file or save it as {cached}"
        ) from error
    logger.info("%s is in the cache: %s", url, cached)
    return str(cached)


def _fetch(
    url: str,
    target: Path,
    expected: str | None,
    validate: Callable[[str], object],
    is_alone: bool,
) -> None:
    """Download to a temporary file, check it, and rename it."""
    # One that is left by a killed process is overwritten.
    unique = "" if is_alone else f".{secrets.token_hex(8)}"
    temporary = target.with_name(f".{target.name}{unique}.part")
    logger.info("Downloading %s to %s", url, target)
    try:
        digest = _receive(url, temporary)
        if expected is not None and not digest.startswith(expected):
            raise CheckpointError(
                f"{url} gave a file whose sha256 starts with {digest[:8]}, and not with {expected} "
                "as its name says: it is damaged, or another file. It was not kept. Try again, or "
                f"download it elsewhere, and pass the local file or save it as {target}"
            )
        try:
            validate(str(temporary))
        except DamagedCheckpointError as error:
            raise CheckpointError(
                str(error).replace(str(temporary), f"What {url} answered")
            ) from error
        except CheckpointError:
            pass  # it is whole; whoever loads it says what is wrong
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _receive(url: str, target: Path) -> str:
    """Write what a URL answers to a file; returns its sha256 in hexadecimal."""
    digest, received = hashlib.sha256(), 0
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer, open(target, "wb") as file:
        length = answer.headers.get("Content-Length")
        total = int(length) if length is not None and length.isdecimal() else None
        # disable=None: no progress bar in files.
        with tqdm(
            total=total, unit="B", unit_scale=True, unit_divisor=1024, desc="Download", disable=None
        ) as progress:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                digest.update(chunk)
                received += len(chunk)
                progress.update(len(chunk))
        if total is not None and received != total:
            raise OSError(f"the connection ended after {received} of {total} bytes")
        file.flush()
        os.fsync(file.fileno())  # the name must not outlive the content in a power failure
    return digest.hexdigest()


def _is_published(path: Path, expected: str | None) -> bool:
    if expected is None:
        return True
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest().startswith(expected)


@contextmanager
def _exclusive(target: Path) -> Iterator[bool]:
    """Keep other processes from downloading the same file, with the lock that iopath takes.

    The lock saves work only: files are renamed when they are whole, with or without it.

    Yields:
        Whether the lock is held; some network file systems have none.
    """
    lock = file_lock(str(target))
    try:
        try:
            lock.acquire(fail_when_locked=True)
        except AlreadyLocked:
            logger.info("Another process downloads %s. Waiting for it.", target)
            lock.acquire()
    except LockException as error:
        logger.info("%s cannot be locked (%s).", target, error)
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
        error = error.reason if isinstance(error.reason, Exception) else error
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
