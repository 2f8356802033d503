"""Checks the files of a dataset's images by their headers, without decoding them."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

from PIL import Image

from tood_runtime.image_header import ImageHeader, is_animated, read_header
from tood_runtime.image_io import ImageReadError, printable_path

from .dataset import DetectionDataset
from .findings import MAX_EXAMPLES, Finding, FindingKind, one_line

MISSING = FindingKind(
    "missing-image",
    "error",
    "images that do not exist",
    "Name the right folder, or remove them from the annotations.",
)
UNREADABLE = FindingKind(
    "unreadable-image",
    "error",
    "images that cannot be read",
    "Replace them, or remove them from the annotations.",
)
UNSUPPORTED = FindingKind(
    "unsupported-pixels",
    "error",
    "images with floating-point or 32-bit integer pixels",
    "Convert them to 8 bits per channel.",
)
WRONG_SIZE = FindingKind(
    "wrong-size",
    "error",
    "images of another size than annotated",
    "Correct height and width in the annotations.",
)
STORED_SIZE = FindingKind(
    "size-before-orientation",
    "error",
    "images annotated with the size that they have before their EXIF orientation is applied",
    "The boxes seem drawn on the stored pixels. If so, set INPUT.APPLY_EXIF_ORIENTATION False.",
)
UPRIGHT_SIZE = FindingKind(
    "size-after-orientation",
    "error",
    "images annotated with the size that they have after their EXIF orientation is applied",
    "The boxes seem drawn on the upright images. If so, set INPUT.APPLY_EXIF_ORIENTATION True.",
)
TURNED = FindingKind(
    "orientation",
    "note",
    "images with an EXIF orientation",
    "They are turned upright. If boxes were drawn on the stored pixels, set "
    "INPUT.APPLY_EXIF_ORIENTATION False.",
)
NOT_TURNED = FindingKind(
    "orientation",
    "note",
    "images with an EXIF orientation, which INPUT.APPLY_EXIF_ORIENTATION ignores",
)
SIXTEEN_BIT = FindingKind(
    "16-bit",
    "note",
    "images with 16 bits per channel",
    "Only the high byte of each value is used. If the values do not span 16 bits, scale them.",
)
LARGE = FindingKind(
    "large-image",
    "warning",
    "images with more pixels than Pillow considers safe to decode",
    "Cut them into tiles.",
)
ANIMATED = FindingKind(
    "several-frames", "note", "images with several frames", "Only the first frame is used."
)
# In the order in which they are reported.
KINDS = (
    *(MISSING, UNREADABLE, UNSUPPORTED, STORED_SIZE, UPRIGHT_SIZE, WRONG_SIZE),
    *(LARGE, TURNED, NOT_TURNED, SIXTEEN_BIT, ANIMATED),
)
# Formats that can have several frames.
_MULTI_FRAME = ("GIF", "PNG", "WEBP", "TIFF", "AVIF")
_PART = 64

# What is wrong with an image, and the details.
Problem = tuple[FindingKind, str]


@dataclass(frozen=True)
class HeaderReport:
    """What the headers of a dataset's images say.

    Attributes:
        source: the dataset, for messages.
        num_images: how many images were checked.
        images: by kind the indices in the dataset of all images that have it.
        examples: by kind the first of them with details, at most ``MAX_EXAMPLES``.
    """

    source: str
    num_images: int
    images: dict[FindingKind, list[int]]
    examples: dict[FindingKind, list[str]]

    @property
    def findings(self) -> list[Finding]:
        """One finding per kind that occurs, errors first."""
        return [
            Finding(
                kind,
                len(self.images[kind]),
                tuple(self.examples[kind]),
                tuple(self.images[kind][:MAX_EXAMPLES]),
            )
            for kind in KINDS
            if kind in self.images
        ]

    @property
    def errors(self) -> list[Finding]:
        """The findings that training or evaluation would stop at."""
        return [finding for finding in self.findings if finding.kind.severity == "error"]


def check_image_headers(
    dataset: DetectionDataset,
    *,
    apply_exif: bool = True,
    num_threads: int = 8,
    indices: Sequence[int] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> HeaderReport:
    """Check the image files of a dataset by their headers, without decoding them.

    Args:
        dataset: whose images are checked.
        apply_exif: whether images are turned as their EXIF orientation says
            (``INPUT.APPLY_EXIF_ORIENTATION``).
        num_threads: how many files to read at once.
        indices: the images to check; by default all.
        stop: ends the check early when it returns true, for checks in the background; images that
            were not reached are not counted.
    """
    chosen = range(len(dataset)) if indices is None else indices

    def check(part: Sequence[int]) -> list[tuple[int, list[Problem]]]:
        return [(int(i), _check_image(dataset, i, apply_exif)) for i in part if not stop()]

    # In parts, because a future for each of a million images would take a gigabyte.
    parts = [chosen[start : start + _PART] for start in range(0, len(chosen), _PART)]
    images: dict[FindingKind, list[int]] = {}
    examples: dict[FindingKind, list[str]] = {}
    checked = 0
    with ThreadPoolExecutor(num_threads, thread_name_prefix="image-headers") as pool:
        for index, problems in chain.from_iterable(pool.map(check, parts)):
            checked += 1
            for kind, details in problems:
                images.setdefault(kind, []).append(index)
                shown = examples.setdefault(kind, [])
                if len(shown) < MAX_EXAMPLES:
                    shown.append(f"{one_line(dataset.file_names[index])}{details}")
    return HeaderReport(dataset.source, checked, images, examples)


def _check_image(dataset: DetectionDataset, index: int, apply_exif: bool) -> list[Problem]:
    size = int(dataset.widths[index]), int(dataset.heights[index])
    return check_header(dataset.file_names[index], size, apply_exif)


def check_header(path: str, size: tuple[int, int], apply_exif: bool = True) -> list[Problem]:
    """Check one image file by its header.

    Args:
        path: of the file.
        size: (width, height) of the image in the dataset.
        apply_exif: see :func:`check_image_headers`.

    Returns:
        The problems, each with details that follow the file name: empty, or " (640x480)".
    """
    try:
        header = read_header(path)
    except ImageReadError as error:
        if not os.path.lexists(path):
            return [(MISSING, "")]
        reason = str(error).removeprefix(f"Cannot read the image {printable_path(path)}: ")
        return [(UNREADABLE, f" ({one_line(reason.rstrip('.'))})")]
    if header.is_unsupported:
        return [(UNSUPPORTED, f" ({header.mode})")]
    problems = _size_problems(header, size, apply_exif)
    if header.orientation != 1:
        problems.append((TURNED if apply_exif else NOT_TURNED, f" ({header.orientation})"))
    if header.is_16_bit:
        problems.append((SIXTEEN_BIT, ""))
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and header.size[0] * header.size[1] > limit:
        problems.append((LARGE, f" ({_size_text(header.size)})"))
    if header.format in _MULTI_FRAME and is_animated(path):
        problems.append((ANIMATED, ""))
    return problems


def _size_problems(header: ImageHeader, size: tuple[int, int], apply_exif: bool) -> list[Problem]:
    expected, other = header.size, header.stored_size
    kind = STORED_SIZE
    if not apply_exif:
        expected, other, kind = other, expected, UPRIGHT_SIZE
    if size == expected:
        return []
    details = f" ({_size_text(expected)}, annotated {_size_text(size)})"
    return [(kind if size == other else WRONG_SIZE, details)]


def _size_text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
