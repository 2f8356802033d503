"""Videos of drawings, through PyAV: the extra ``video``."""

import os
import secrets
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..image_io import printable_path
from ..output_files import OutputError
from ..sources.videos import error_reason, require_av

# Of FFmpeg: AVCOL_SPC_SMPTE170M and AVCOL_RANGE_MPEG.
_BT601, _LIMITED_RANGE = 6, 1

# Fast settings with little loss: the time is the network's.
_ENCODERS = {
    ".mp4": ("libx264", {"preset": "veryfast", "crf": "20"}),
    ".webm": (
        "libvpx-vp9",
        {"crf": "28", "b": "0", "deadline": "realtime", "cpu-used": "7", "row-mt": "1"},
    ),
}
_CONTAINER_OPTIONS = {".mp4": {"movflags": "+faststart"}, ".webm": {}}


class VideoWriter:
    """Writes images to a video file that browsers play: VP9 in .webm, or H.264 in .mp4.

    Images are shown when their sources were, so a video has the length of its source. The file
    appears when it is complete.

    Args:
        path: of the file, ending in .webm or .mp4.
        size: (width, height) in pixels; even numbers for .mp4.
        rate: frames per second of the source.

    Raises:
        ImportError: PyAV is not installed.
        OutputError: the file cannot be written.
    """

    def __init__(self, path: Path, size: tuple[int, int], rate: Fraction) -> None:
        self._av = require_av("Writing videos")
        self.path = path
        self.size = size
        self._temporary = path.parent / f".{secrets.token_hex(8)}{path.suffix}"
        self._start: float | None = None
        self._last = -1
        # Whatever its rate, a frame is shown to the millisecond: cameras have none that is exact.
        self._time_base = Fraction(1, 1000) if path.suffix == ".webm" else Fraction(1, 90000)
        codec, options = _ENCODERS[path.suffix]
        try:
            self._container = self._av.open(
                str(self._temporary), "w", options=_CONTAINER_OPTIONS[path.suffix]
            )
            self._stream = self._container.add_stream(
                codec, rate=rate.limit_denominator(100_000), options=options
            )
            self._stream.width, self._stream.height = size
            self._stream.pix_fmt = "yuv420p"
            # What the conversion from RGB gives; players would guess BT.709 for large videos.
            self._stream.codec_context.colorspace = _BT601
            self._stream.codec_context.color_range = _LIMITED_RANGE
            self._stream.codec_context.time_base = self._time_base
        except (self._av.FFmpegError, OSError, ValueError) as error:
            self._temporary.unlink(missing_ok=True)
            raise self._error(error) from error

    def write(self, image: Image.Image, seconds: float) -> None:
        """Add an image.

        Args:
            image: RGB, of the video's size.
            seconds: when it is shown, from any start; more than that of the image before.

        Raises:
            OutputError: the file cannot be written.
        """
        self._start = seconds if self._start is None else self._start
        frame = self._av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")
        self._last = max(self._last + 1, round((seconds - self._start) / self._time_base))
        frame.pts, frame.time_base = self._last, self._time_base
        self._encode(frame)

    def close(self) -> None:
        """Complete the file.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            self._encode(None)
            self._container.close()
            os.replace(self._temporary, self.path)
        except (self._av.FFmpegError, OSError) as error:
            raise self._error(error) from error
        finally:
            self._temporary.unlink(missing_ok=True)

    def _encode(self, frame: Any) -> None:
        try:
            self._container.mux(self._stream.encode(frame))
        except (self._av.FFmpegError, OSError, ValueError) as error:
            self._temporary.unlink(missing_ok=True)
            raise self._error(error) from error

    def _error(self, error: Exception) -> OutputError:
        return OutputError(
            f"Cannot write the video {printable_path(self.path)}: {error_reason(error)}. Choose "
            "another folder."
        )
