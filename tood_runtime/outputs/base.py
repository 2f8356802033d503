"""What a detection program does with the results: one class for each kind of output."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ..detections import Detections
from ..image_detector import ImageDetector
from ..image_io import RGBImage, printable_path
from ..sources import Input


@dataclass(frozen=True, eq=False)
class Result:
    """The detections of one image or frame.

    Attributes:
        index: of the input that it is from.
        input: likewise.
        image_id: in COCO-format results.
        pixels: (H, W, 3) uint8 RGB; None where no output needs them.
        found: its detections.
        rate: frames per second of a video; None for an image.
    """

    index: int
    input: Input
    image_id: int
    pixels: RGBImage | None
    found: Detections
    rate: Fraction | None = None

    @property
    def name(self) -> str:
        """The file, URL or camera, as text that can be printed."""
        return printable_path(self.input.location)


class Output(ABC):
    """One kind of output. Results arrive in the order of the inputs.

    Its constructor checks what can be checked before there is a model, and writes nothing.
    """

    #: Whether it needs the pixels of the images.
    needs_pixels = False

    #: Whether its results must come from the main thread.
    in_main_thread = False

    def open(self, detector: ImageDetector[Any]) -> None:  # noqa: B027
        """Create the file or folder, when everything else is ready.

        Args:
            detector: whose detections follow.

        Raises:
            OutputError: it cannot be created.
        """

    @abstractmethod
    def add(self, result: Result) -> None:
        """Add the detections of an image.

        Raises:
            OutputError: it cannot be written, so that going on makes no sense.
            ImageWriteError: this one cannot be written, but others may.
        """

    def close(self) -> None:  # noqa: B027
        """Complete what is written, also after an error.

        Raises:
            OutputError: it cannot be written.
        """
