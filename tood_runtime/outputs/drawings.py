"""Drawn images, drawn videos, and a window."""

import logging
import os
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..drawing import draw_detections
from ..image_detector import ImageDetector
from ..image_io import printable_path
from ..image_writing import ImageWriteError, save_image
from ..missing_packages import import_optional
from ..output_files import OutputError, make_output_folder
from ..sources import Input, VideoInput
from ..sources.videos import require_av
from .base import Output, Result
from .naming import drawing_name, output_paths
from .video_file import VideoWriter

logger = logging.getLogger(__name__)


class Drawings(Output):
    """A drawing of each image, and of each video a video with its frame rate and size.

    Videos are .mp4 (H.264), or .webm (VP9) where a side has an odd number of pixels, which H.264
    cannot have.

    Args:
        folder: for the files.
        inputs: everything that is detected in.
        video_suffix: ".mp4" or ".webm".

    Raises:
        SourceError: a drawing would overwrite an input.
        ImportError: there are videos, and PyAV is not installed.
    """

    needs_pixels = True

    def __init__(self, folder: str, inputs: Sequence[Input], video_suffix: str = ".mp4") -> None:
        videos = {item.path for item in inputs if isinstance(item, VideoInput)}
        if videos:
            require_av("Writing videos")
        self._targets = output_paths(
            [item.path for item in inputs],
            folder,
            lambda path: f"{path.stem}{video_suffix}" if path in videos else drawing_name(path),
        )
        self.folder = folder
        self._writer: VideoWriter | None = None
        self._index = -1

    def open(self, detector: ImageDetector[Any]) -> None:
        """Create the folder."""
        make_output_folder(self.folder)

    def add(self, result: Result) -> None:
        """Draw an image or a frame."""
        assert result.pixels is not None
        target = self._targets[result.index]
        if result.index != self._index:
            self._close_video()
            self._index = result.index
        try:
            if result.rate is None:
                save_image(draw_detections(result.pixels, result.found), target)
            else:
                self._draw_frame(result, target, result.rate)
        except MemoryError as error:
            raise ImageWriteError(f"Not enough memory to draw {printable_path(target)}") from error

    def close(self) -> None:
        """Complete the last video."""
        self._close_video()
        logger.info("Drawings: %s", self.folder)

    def _draw_frame(self, result: Result, target: Path, rate: Fraction) -> None:
        assert result.pixels is not None
        height, width = result.found.image_size
        if self._writer is None:
            if target.suffix == ".mp4" and (height % 2 or width % 2):
                target = target.with_suffix(".webm")
                logger.info("%s: %dx%d pixels are odd, so it is WebM", target, width, height)
            self._writer = VideoWriter(target, (width, height), rate)
        drawing = draw_detections(result.pixels, result.found, scale=1)
        if drawing.size != self._writer.size:  # a stream may change its resolution
            drawing = drawing.resize(self._writer.size)
        self._writer.write(drawing, result.found.time or 0.0)

    def _close_video(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()


class Window(Output):
    """Shows each drawing in a window. Its calls must come from the main thread.

    Raises:
        OutputError: there is no display.
        ImportError: OpenCV is not installed, or without windows.
    """

    needs_pixels = True
    in_main_thread = True
    _TITLE = "tood detect - q quits"

    def __init__(self) -> None:
        if sys.platform.startswith("linux") and not (
            os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        ):
            raise OutputError(
                "--show needs a display, and there is none (DISPLAY is not set). Write the "
                "drawings with --output instead."
            )
        self._cv2: Any = import_optional("cv2", "--show", "opencv-python")

    def open(self, detector: ImageDetector[Any]) -> None:
        """Open the window."""
        try:
            self._cv2.namedWindow(self._TITLE, self._cv2.WINDOW_NORMAL)
        except self._cv2.error as error:
            raise OutputError(
                "--show needs OpenCV with windows: pip install opencv-python, and not "
                "opencv-python-headless."
            ) from error

    def add(self, result: Result) -> None:
        """Show an image; an image of a video until the next one, others until a key is pressed.

        Raises:
            KeyboardInterrupt: the user has pressed q or Esc, or closed the window.
        """
        assert result.pixels is not None
        drawing = np.asarray(draw_detections(result.pixels, result.found))
        self._cv2.imshow(self._TITLE, np.ascontiguousarray(drawing[:, :, ::-1]))
        key = self._cv2.waitKey(0 if result.rate is None else 1) & 0xFF
        closed = self._cv2.getWindowProperty(self._TITLE, self._cv2.WND_PROP_VISIBLE) < 1
        if closed or key in (ord("q"), 27):
            raise KeyboardInterrupt

    def close(self) -> None:
        """Close the window."""
        self._cv2.destroyAllWindows()
