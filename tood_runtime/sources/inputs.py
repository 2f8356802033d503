"""Everything that can be named to detect objects in: files, URLs, videos, cameras, lists, stdin."""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from PIL import Image

from ..image_io import ImageReadError, printable_path
from ..prediction import SourceImage
from .files import IMAGE_SUFFIXES, NoImageError, SourceError, collect_images
from .items import SCHEME, ImageInput, Input, VideoInput, is_live_stream, is_remote, is_remote_video
from .videos import VIDEO_SUFFIXES, require_av

_LIST_SUFFIX = ".txt"
_STDIN = "-"

# Images that can be text.
_NETPBM = re.compile(r"P[1-7]\s")


def collect_inputs(
    words: Iterable[str | os.PathLike[str]], output: str | os.PathLike[str] | None = None
) -> list[Input]:
    """Find everything that a command line names, in its order.

    Each file counts once, but each line of a list counts.

    Args:
        words: images, folders, glob patterns, videos, http(s) URLs, streams (rtsp and others), list
            files (.txt, one of all these per line), the number of a camera, or ``-`` for the
            standard input (an image, or such a list).
        output: see :func:`tood_runtime.sources.collect_images`.

    Raises:
        SourceError: there is nothing at all.
        ImportError: a video is named, and PyAV is not installed.
    """
    found: list[Input] = []
    known: set[str] = set()
    missing: dict[str, NoImageError] = {}
    for word in [os.fspath(word) for word in words]:
        # Each line of a list counts, so that results can be joined with it.
        is_list = word == _STDIN or Path(word).suffix.lower() == _LIST_SUFFIX
        try:
            for item in _expand(word, output):
                identity = _identity(item)
                if is_list or identity not in known:
                    found.append(item)
                known.add(identity)
        except NoImageError as reason:  # a warning has said why
            missing[word] = reason
    if not found:
        empty_lists = [why for word, why in missing.items() if os.path.isfile(word)]
        if empty_lists:
            raise empty_lists[0]
        collect_images(missing, output, warn=False)  # raises, with all names in one message
    if any(isinstance(item, VideoInput) and not item.is_camera for item in found):
        require_av("Reading videos")
    return found


def images_of(source: Any) -> Iterable[Any]:
    """The images of a source; see :meth:`ImageDetector.predict`.

    Raises:
        SourceError: there is no image in a folder or pattern.
        TypeError: the source is none.
        ImportError: it is a video, and PyAV is not installed.
    """
    if isinstance(source, (str, os.PathLike)):
        if not os.fspath(source):
            raise SourceError('The source is "". Name an image file, a folder or a glob pattern.')
        return _images_of_inputs(collect_inputs([source]))
    if isinstance(source, int) and not isinstance(source, bool):
        if source < 0:
            raise SourceError(f"There is no camera {source}. Cameras count from 0.")
        return _images_of_inputs([VideoInput(str(source))])
    # An array or tensor of more dimensions is a batch of them.
    dimensions = getattr(source, "ndim", None)
    if isinstance(source, (Image.Image, SourceImage)) or dimensions in (0, 2, 3):
        return [source]
    no_image = isinstance(source, (bytes, bytearray, Mapping)) or hasattr(source, "read")
    if no_image or not isinstance(source, Iterable):
        hint = " Open it first: PIL.Image.open(file)." if hasattr(source, "read") else ""
        if isinstance(source, Mapping):
            hint = " Pass its values."
        elif isinstance(source, (bytes, bytearray)):
            hint = " Decode them first: PIL.Image.open(io.BytesIO(data))."
        raise TypeError(
            f"Expected a path, an image or an iterable of images, got {type(source).__name__}."
            f"{hint}"
        )
    return source


def _images_of_inputs(inputs: Iterable[Input]) -> Iterator[Any]:
    for item in inputs:
        if isinstance(item, VideoInput):
            yield from item.frames()
        elif item.data is None:
            yield item.location
        else:
            try:
                yield SourceImage(item.read(), item.location)
            except ImageReadError as error:
                yield error


def _expand(word: str, output: str | os.PathLike[str] | None, lists: int = 0) -> Iterator[Input]:
    """What one word of a command line, or one line of a list, means."""
    if word == _STDIN:
        yield from _read_stdin(output)
    elif os.path.isfile(word):
        suffix = Path(word).suffix.lower()
        if suffix == _LIST_SUFFIX:
            yield from _read_list(Path(word), output, lists)
        elif suffix in VIDEO_SUFFIXES:
            yield VideoInput(word)
        else:
            yield ImageInput(word)
    elif _is_camera(word, lists):
        yield VideoInput(word)
    elif word.lower().startswith("file://"):
        yield from _expand(unquote(urlsplit(word).path), output, lists)
    elif is_remote(word):
        suffix = PurePosixPath(urlsplit(word).path).suffix.lower()
        if suffix in VIDEO_SUFFIXES:
            yield VideoInput(word)
        elif suffix in IMAGE_SUFFIXES or not is_remote_video(word):
            yield ImageInput(word)
        else:  # of a camera, which goes on whatever its readers do
            yield VideoInput(word, is_endless=True)
    elif is_live_stream(word):
        yield VideoInput(word)
    else:
        for path in collect_images([word], output):
            is_video = path.suffix.lower() in VIDEO_SUFFIXES
            yield VideoInput(str(path)) if is_video else ImageInput(str(path))


def _read_list(
    path: Path, output: str | os.PathLike[str] | None, lists: int, text: str | None = None
) -> Iterator[Input]:
    """The lines of a list, which are relative to the working folder or to the list's."""
    if lists > 3:
        raise SourceError(f"{printable_path(path)}: lists that name each other. Name images.")
    try:
        lines = (path.read_text("utf-8-sig") if text is None else text).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(
            f"Cannot read the list {printable_path(path)}: {error}. Save it as UTF-8 text, one "
            "image per line."
        ) from error
    words = [line.strip() for line in lines]
    words = [word for word in words if word and not word.startswith("#")]
    if not words:
        raise NoImageError(f"The list {printable_path(path)} names nothing.")
    for word in words:
        beside = path.parent / word
        if not os.path.lexists(word) and not SCHEME.match(word) and os.path.lexists(beside):
            word = str(beside)
        if word == _STDIN:
            word = os.path.join(os.curdir, word)
        try:
            yield from _expand(word, output, lists + 1)
        except NoImageError:
            # A line that names nothing is a file that cannot be read, and is counted like one.
            yield ImageInput(word)


def _read_stdin(output: str | os.PathLike[str] | None) -> Iterator[Input]:
    """An image, or a list of what to read."""
    if sys.stdin is None:  # closed by the caller, as a daemon may do
        raise SourceError("The standard input is closed, so - names nothing.")
    data = sys.stdin.buffer.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = None
    if text is None or "\0" in text or _NETPBM.match(text):
        yield ImageInput("stdin", data)
    else:
        yield from _read_list(Path("stdin"), output, 0, text)


def _is_camera(word: str, lists: int) -> bool:
    """Whether a word is the number of a camera. In lists, numbers are files without a suffix."""
    is_number = word.isdecimal() and str(int(word)) == word
    return is_number and not lists and not os.path.lexists(word)


def _identity(item: Input) -> str:
    location = item.location
    is_file = isinstance(item, ImageInput) and item.data is None and not is_remote(location)
    return os.path.abspath(location) if is_file else location
