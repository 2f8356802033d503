"""One thing to detect in: an image or a video, wherever it is."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from ..batching import read_ahead
from ..image_io import ImageReadError, RGBImage, decode_image, printable_path, read_image
from ..prediction import SourceImage
from .videos import VIDEO_SUFFIXES, count_frames, newest, read_camera, read_frames

#: Streams that do not wait for their readers.
LIVE_SCHEMES = ("rtsp", "rtsps", "rtmp", "udp", "srt")

#: The start of a URL.
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_remote(location: object) -> bool:
    """Whether something is the URL of a file."""
    return isinstance(location, str) and location.lower().startswith(("http://", "https://"))


def is_live_stream(location: str) -> bool:
    """Whether something is the URL of a stream that does not wait for its readers."""
    return location.partition("://")[0].lower() in LIVE_SCHEMES and "://" in location


def is_remote_video(url: str) -> bool:
    """Ask a server whether a URL without a known suffix is a video, as those of IP cameras are."""
    from ..remote.images import RemoteVideoError, fetch_image_bytes

    try:
        fetch_image_bytes(url, max_bytes=1, timeout=10, allow_private=True)
    except RemoteVideoError:
        return True
    except ImageReadError:
        pass  # an image, or nothing; reading it will tell
    return False


@dataclass(frozen=True)
class ImageInput:
    """An image: a file, a URL, or the bytes of the standard input.

    Attributes:
        location: a path or URL.
        data: the bytes of the file, if they are there already.
    """

    location: str
    data: bytes | None = None

    @property
    def path(self) -> Path:
        """What outputs are named after; the file itself unless it is elsewhere."""
        if self.data is not None or is_remote(self.location):
            return _file_name(self.location, "image.jpg")
        return Path(self.location)

    def count(self) -> int:
        """The number of images."""
        return 1

    def read(self, apply_orientation: bool = True) -> RGBImage:
        """Decode the image.

        Raises:
            ImageReadError: it cannot be fetched or decoded.
        """
        data = self.data
        if data is None and is_remote(self.location):
            from ..remote.images import fetch_image_bytes  # imports much, which files do not need

            data = fetch_image_bytes(self.location, allow_private=True)
        if data is None:
            if Path(self.location).suffix.lower() in VIDEO_SUFFIXES:
                name = printable_path(self.location)
                raise ImageReadError(f"{name} is a video. Its frames are images: use predict.")
            return read_image(self.location, apply_orientation)
        return decode_image(data, self.location, apply_orientation)


@dataclass(frozen=True)
class VideoInput:
    """A video file, a stream or a camera.

    Attributes:
        location: a path, a URL, or the number of a camera.
        is_endless: whether a URL that looks like a file's is that of a camera.
    """

    location: str
    is_endless: bool = False

    @property
    def is_live(self) -> bool:
        """Whether it goes on while a frame is worked on, so that some are skipped."""
        return self.is_endless or self.is_camera or is_live_stream(self.location)

    @property
    def is_camera(self) -> bool:
        """Whether it is a camera of this machine."""
        return self.location.isdecimal()

    @property
    def path(self) -> Path:
        """What outputs are named after; the file itself unless it is elsewhere."""
        if self.is_camera:
            return Path(f"camera{self.location}")
        if SCHEME.match(self.location):
            return _file_name(self.location, "stream")
        return Path(self.location)

    def frames(self) -> Iterator[SourceImage | ImageReadError]:
        """Read the frames; a frame that is broken is an error in its place.

        Whatever keeps the video from being read any further is the last error.
        """
        frames = (
            read_camera(int(self.location))
            if self.is_camera
            else read_frames(self.location, live=self.is_live)
        )
        try:
            yield from newest(frames) if self.is_live else read_ahead(frames)
        except ImageReadError as error:
            yield error

    def count(self) -> int | None:
        """The number of frames, if the file says so."""
        if self.is_live or SCHEME.match(self.location):
            return None
        try:
            return count_frames(self.location)
        except ImageReadError:
            return None  # reading it will say why


Input = ImageInput | VideoInput


def _file_name(location: str, default: str) -> Path:
    """A file name for what is not a file: the last part of a URL."""
    name = PurePosixPath(unquote(urlsplit(location).path)).name
    name = re.sub(r"[^\w.-]+", "_", name).strip("._")
    return Path(name or default)
