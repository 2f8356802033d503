"""Finds test images that the training set contains: equal files, and copies that were edited."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from tood_runtime.image_io import ImageReadError, printable_path, read_image

# The hash has 8 x 8 comparisons of horizontal neighbors and 8 x 8 of vertical ones, 128 bits. In
# BCCD (292 photographs of blood cells, which look alike), the nearest two different images differ
# in 37 bits; copies at JPEG quality 30, half the size, another aspect ratio or 60 to 130 % of the
# brightness in at most 17.
MAX_DISTANCE = 20
# Images of one kind on a plain background have similar hashes, so their thumbnails must correlate
# too: in BCCD at most 0.65 for different images, and at least 0.97 for these copies.
MIN_CORRELATION = 0.9
# The standard deviation of gray values below which an image is too plain for a comparison.
MIN_CONTRAST = 2.0

_HASH_SIDE = 8
_THUMBNAIL_SIDE = 16
# What JPEG files are decoded at, at least.
_DRAFT_SIDE = 64
_PART = 64
# Pairs that are compared at once: 32 MB.
_MAX_PAIRS = 4_000_000

Bits = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Fingerprints:
    """What N images look like, roughly.

    Attributes:
        bits: (N, 2) the hash.
        thumbnails: (N, 256) uint8, gray.
        unreadable: for each image that could not be decoded the reason; its rows are 0.
    """

    bits: Bits
    thumbnails: npt.NDArray[np.uint8]
    unreadable: dict[int, str] = field(default_factory=dict)

    @property
    def comparable(self) -> npt.NDArray[np.bool_]:
        """(N,) which images are not plain."""
        return self.thumbnails.std(axis=1) >= MIN_CONTRAST


class Match(NamedTuple):
    """An image of one set that looks like one of another.

    Attributes:
        image: index in the one set.
        other: index in the other set.
    """

    image: int
    other: int


def fingerprint(path: str, apply_exif: bool = True) -> tuple[Bits, npt.NDArray[np.uint8]]:
    """Decode an image; return its hash (2,) and its thumbnail (256,).

    JPEG files are decoded at a fraction of their size, but read to the end.

    Args:
        path: of the image.
        apply_exif: ``INPUT.APPLY_EXIF_ORIENTATION``.

    Raises:
        ImageReadError: it cannot be decoded.
    """
    gray = Image.fromarray(read_image(path, apply_exif, _DRAFT_SIDE)).convert("L")
    side = _HASH_SIDE
    across = _resize(gray, side + 1, side)
    down = _resize(gray, side, side + 1)
    bits = np.concatenate(
        [(across[:, 1:] > across[:, :-1]).ravel(), (down[1:] > down[:-1]).ravel()]
    )
    thumbnail = _resize(gray, _THUMBNAIL_SIDE, _THUMBNAIL_SIDE)
    return np.packbits(bits).view(np.uint64), thumbnail.ravel()


def _resize(gray: Image.Image, width: int, height: int) -> npt.NDArray[np.uint8]:
    return np.asarray(gray.resize((width, height), Image.Resampling.BOX))


def fingerprint_images(
    paths: Sequence[str], num_threads: int = 8, apply_exif: bool = True
) -> Fingerprints:
    """Decode images (N) and fingerprint them.

    Args:
        paths: of the images.
        num_threads: how many to decode at once.
        apply_exif: ``INPUT.APPLY_EXIF_ORIENTATION``.
    """
    bits = np.zeros((len(paths), 2), np.uint64)
    thumbnails = np.zeros((len(paths), _THUMBNAIL_SIDE**2), np.uint8)

    def run(start: int) -> list[tuple[int, str]]:
        """Fingerprint a part of the images; return which cannot be read, and why."""
        failed = []
        for index in range(start, min(start + _PART, len(paths))):
            try:
                bits[index], thumbnails[index] = fingerprint(paths[index], apply_exif)
            except ImageReadError as error:
                prefix = f"Cannot read the image {printable_path(paths[index])}: "
                failed.append((index, str(error).removeprefix(prefix).rstrip(".")))
        return failed

    with ThreadPoolExecutor(num_threads, thread_name_prefix="fingerprints") as pool:
        failed = chain.from_iterable(pool.map(run, range(0, len(paths), _PART)))
        return Fingerprints(bits, thumbnails, dict(failed))


def near_duplicates(
    images: Fingerprints,
    others: Fingerprints,
    max_distance: int = MAX_DISTANCE,
    min_correlation: float = MIN_CORRELATION,
) -> list[Match]:
    """Find images that look like one of the others: resized, compressed again, or brightened.

    Args:
        images: (N) for example of the test set.
        others: (N') for example of the training set.
        max_distance: bits, of 128, in which the hashes may differ.
        min_correlation: of the thumbnails.

    Returns:
        For each image that has some the most similar of the others, by index.
    """
    rows = np.flatnonzero(images.comparable)
    columns = np.flatnonzero(others.comparable)
    matches = []
    step = max(1, _MAX_PAIRS // max(1, len(columns)))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        distances = _count_ones(images.bits[part, 0, None] ^ others.bits[columns, 0])
        distances += _count_ones(images.bits[part, 1, None] ^ others.bits[columns, 1])
        near, candidates = np.nonzero(distances <= max_distance)
        similarity = _correlation(
            images.thumbnails[part[near]], others.thumbnails[columns[candidates]]
        )
        # The most similar one of each image comes first.
        order = np.lexsort([-similarity, near])
        order = order[similarity[order] >= min_correlation]
        _, first = np.unique(near[order], return_index=True)
        for pair in order[first]:
            matches.append(Match(int(part[near[pair]]), int(columns[candidates[pair]])))
    return matches


def _correlation(
    first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float64]:
    """Pearson's correlation of rows (P, 256); they are not plain."""
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (first, second))
    norms = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return np.asarray((a * b).sum(axis=1) / norms)


_ONES = np.array([bin(value).count("1") for value in range(2**16)], np.uint8)


def _count_ones(values: Bits) -> npt.NDArray[np.uint8]:
    """Count the 1s in each of the values; NumPy can do this from version 2 on."""
    if hasattr(np, "bitwise_count"):
        return np.asarray(np.bitwise_count(values), np.uint8)
    return np.asarray(_ONES[values[..., None].view(np.uint16)].sum(axis=-1), np.uint8)


def equal_files(paths: Sequence[str], others: Sequence[str]) -> list[Match]:
    """Find files with the content of one of the other files. Files that are missing are skipped.

    Args:
        paths: for example of the test set.
        others: for example of the training set.
    """
    sizes = _sizes(paths)
    other_sizes = _sizes(others)
    shared = set(sizes) & set(other_sizes)
    matches = []
    for size in sorted(shared):
        content: dict[bytes, int] = {}
        for index in reversed(other_sizes[size]):
            content[_digest(others[index])] = index
        for index in sizes[size]:
            other = content.get(_digest(paths[index]))
            if other is not None:
                matches.append(Match(index, other))
    return sorted(matches)


def repeated_files(paths: Sequence[str]) -> list[Match]:
    """Find files with the content of an earlier one. Files that are missing are skipped."""
    matches = []
    for indices in _sizes(paths).values():
        first: dict[bytes, int] = {}
        for index in indices if len(indices) > 1 else ():
            other = first.setdefault(_digest(paths[index]), index)
            if other != index:
                matches.append(Match(index, other))
    return sorted(matches)


def _sizes(paths: Sequence[str]) -> dict[int, list[int]]:
    """Indices by size in bytes; only files of one size can be equal."""
    groups: dict[int, list[int]] = {}
    for index, path in enumerate(paths):
        if os.path.isfile(path):
            groups.setdefault(os.path.getsize(path), []).append(index)
    return groups


def _digest(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).digest()
    except OSError:  # reported with the images that cannot be read
        return os.fsencode(path)
