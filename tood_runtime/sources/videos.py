"""Frames of videos and streams through PyAV, the extra ``video``, and of cameras through OpenCV."""

import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..image_io import ImageReadError, RGBImage, printable_path
from ..missing_packages import import_optional
from ..prediction import SourceImage

#: Lower-case suffixes of the files that are read as videos.
VIDEO_SUFFIXES = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".wmv", ".flv", ".mpg", ".mpeg"),
        *(".ts", ".mts", ".m2ts", ".3gp", ".ogv", ".vob", ".y4m", ".mjpg", ".mjpeg"),
        *(".m3u8", ".mpd"),
    }
)

# Seconds until a stream has to answer.
_TIMEOUT = 10.0

#: Frame rate of sources that do not say theirs.
DEFAULT_RATE = Fraction(25)

_MAX_RATE = 1000


def require_av(what: str) -> Any:
    """The package av.

    Args:
        what: needs it, for the message.

    Raises:
        ImportError: it is not installed.
    """
    return import_optional("av", what, '"tood-detectron2[video]"')


def read_frames(location: str, *, live: bool = False) -> Iterator[SourceImage | ImageReadError]:
    """Read a video file or a stream, frame by frame.

    Frames are turned as the file says (phones record that way). A frame that is broken is an error
    in its place; what makes the rest unreadable is the last error.

    Args:
        location: a path or URL.
        live: whether it is a stream that does not wait for its readers.

    Raises:
        ImageReadError: the video cannot be opened, or has no images.
        ImportError: PyAV is not installed.
    """
    av = require_av("Reading videos")
    name = printable_path(location)
    options = _options(location)
    is_url = "://" in location
    try:
        container = av.open(
            _address(location), options=options, timeout=(_TIMEOUT, _TIMEOUT) if is_url else None
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        raise ImageReadError(f"Cannot open the video {name}: {error_reason(error)}.") from error
    with container:
        if not container.streams.video:
            raise ImageReadError(f"Cannot read the video {name}: it has no images.")
        stream = container.streams.best("video")
        stream.thread_type = "SLICE" if live else "AUTO"
        yield from _decode(av, container, stream, location)


def _decode(
    av: Any, container: Any, stream: Any, location: str
) -> Iterator[SourceImage | ImageReadError]:
    name = printable_path(location)
    rate = frame_rate_of(stream)
    # The times of AVI files are those of the stored order, where frames are not shown in it.
    has_times = container.format.name != "avi"
    number, start, last = 0, None, -1.0
    packets = container.demux(stream)
    ending: ImageReadError | None = None
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            ending = _missing_end(container, stream, number, name)
            if ending is None:
                break
            packet = None
        except (av.FFmpegError, OSError) as error:
            ending = ImageReadError(
                f"Cannot read the video {name} to its end: {error_reason(error)}."
            )
            packet = None  # what the decoder still holds
        try:
            frames = stream.codec_context.decode(packet)
        except av.EOFError:
            frames = []
        except (av.FFmpegError, ValueError) as error:
            yield ImageReadError(f"Cannot read frame {number} of {name}: {error_reason(error)}.")
            number += 1
            frames = []
        for frame in frames:
            if frame.is_corrupt:
                yield ImageReadError(f"Cannot read frame {number} of {name}: it is damaged.")
                number += 1
                continue
            # After the end of a broken stream, PyAV 14 has frames without a unit of time.
            seconds = frame.time if has_times and frame.time_base else None
            if seconds is None:
                seconds = number / float(rate) + (start or 0.0)
            start = seconds if start is None else start
            seconds -= start
            if seconds <= last:
                seconds = last + 1 / float(rate)
            last = seconds
            yield SourceImage(_to_rgb(frame), location, number, seconds, rate=rate)
            number += 1
        if ending is not None:
            yield ending
            break


def _missing_end(container: Any, stream: Any, number: int, name: str) -> ImageReadError | None:
    """An error if the file has fewer frames than its header says, as a broken download has."""
    # Other headers than those of MP4 and MOV estimate the number. Edits may leave frames out.
    exact = "mp4" in container.format.name and "://" not in name
    if not exact or number >= stream.frames * 0.95 - 2:
        return None
    return ImageReadError(
        f"Cannot read the video {name} to its end: it has {number} of {stream.frames} frames."
    )


def _address(location: str) -> str:
    """What FFmpeg opens: a file may have a colon in its name, as after a protocol."""
    return location if "://" in location else f"file:{location}"


def _options(location: str) -> dict[str, str]:
    """FFmpeg's options for a protocol: certificates are not checked by default."""
    scheme = location.partition("://")[0].lower()
    if scheme.startswith("rtsp"):
        return {"rtsp_transport": "tcp"}
    if scheme != "https":
        return {}
    import ssl  # slow to import, and files do not need it

    paths = ssl.get_default_verify_paths()
    file = paths.cafile or paths.openssl_cafile
    return {"tls_verify": "1", **({"ca_file": file} if Path(file).is_file() else {})}


def _to_rgb(frame: Any) -> RGBImage:
    pixels: RGBImage = frame.to_ndarray(format="rgb24")
    quarter_turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns))


def frame_rate_of(stream: Any) -> Fraction:
    """Frames per second of a stream of PyAV."""
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0 < rate <= _MAX_RATE:
            return Fraction(rate)
    return DEFAULT_RATE


def count_frames(location: str) -> int | None:
    """The number of frames of a video, as its header says; None where it does not say.

    Raises:
        ImageReadError: see :func:`read_frames`.
    """
    av = require_av("Reading videos")
    try:
        with av.open(_address(location)) as container:
            stream = container.streams.best("video")
            if stream is None:
                return None
            count: int = stream.frames if "mp4" in container.format.name else 0
            if not count and container.duration:
                count = round(container.duration / av.time_base * frame_rate_of(stream))
            return count or None
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        reason = error_reason(error)
        raise ImageReadError(
            f"Cannot open the video {printable_path(location)}: {reason}."
        ) from error


def read_camera(index: int) -> Iterator[SourceImage | ImageReadError]:
    """Read the frames of a camera until it stops.

    Args:
        index: from 0.

    Raises:
        ImageReadError: there is no such camera.
        ImportError: OpenCV is not installed.
    """
    cv2 = import_optional("cv2", "Reading a camera", "opencv-python")
    camera = cv2.VideoCapture(index)
    try:
        if not camera.isOpened():
            raise ImageReadError(f"Cannot open camera {index}. Is it there, and not in use?")
        start = time.monotonic()
        for number in itertools.count():
            readable, frame = camera.read()
            if not readable:
                raise ImageReadError(f"Camera {index} gives no more frames, after {number}.")
            pixels = np.ascontiguousarray(frame[:, :, ::-1])
            seconds = time.monotonic() - start
            yield SourceImage(pixels, f"camera{index}", number, seconds)
    finally:
        camera.release()


def newest(
    frames: Iterator[SourceImage | ImageReadError],
) -> Iterator[SourceImage | ImageReadError]:
    """Skip frames that have become old while the caller worked on an earlier one.

    A live source goes on while a frame is worked on. Its frames are read in a thread, and only the
    newest is kept; errors are never skipped.
    """
    condition = threading.Condition()
    waiting: list[SourceImage | ImageReadError] = []
    state: dict[str, Any] = {"done": False, "stop": False, "failure": None}

    def read() -> None:
        try:
            for frame in frames:
                with condition:
                    if state["stop"]:
                        break
                    if waiting and not isinstance(waiting[-1], ImageReadError):
                        waiting.pop()
                    waiting.append(frame)
                    condition.notify()
        except BaseException as error:  # raised in the caller's thread
            state["failure"] = error
        finally:
            close: Callable[[], None] = getattr(frames, "close", lambda: None)
            close()
            with condition:
                state["done"] = True
                condition.notify()

    thread = threading.Thread(target=read, name="live-frames", daemon=True)
    thread.start()
    try:
        while True:
            with condition:
                condition.wait_for(lambda: waiting or state["done"])
                if not waiting:
                    break
                frame = waiting.pop(0)
            yield frame
    finally:
        with condition:
            state["stop"] = True
    if state["failure"] is not None:
        raise state["failure"]


def error_reason(error: BaseException) -> str:
    """What an error of PyAV says, without number and file name."""
    text = getattr(error, "strerror", None) or str(error)
    text = re.sub(r"^\[Errno \d+\] ", "", text).rstrip(".")
    return text or type(error).__name__
