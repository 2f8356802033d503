"""What goes into a call of a detector: prepared images, and which detections are kept."""

from dataclasses import dataclass

import numpy as np

from .image_io import RGBImage
from .nms import Candidates


class OptionError(ValueError):
    """An option of a call that the model does not have; the message says what it has."""


@dataclass(frozen=True)
class PreparedImage:
    """An image, resized for the network.

    Attributes:
        pixels: (H, W, C) uint8 in the network's channel order.
        padded_size: (height, width) that the network pads it to, alone in a batch.
        original_size: (height, width) of the image.
        path: its file, or None.
        channel_order: of the array that it was.
    """

    pixels: RGBImage
    padded_size: tuple[int, int]
    original_size: tuple[int, int]
    path: str | None
    channel_order: str


@dataclass(frozen=True)
class PredictionSettings:
    """What detections are kept.

    Attributes:
        score_threshold: those that score more than this.
        class_ids: those of these classes; None for all.
        max_detections: at most this many per image; None for the model's own limit.
    """

    score_threshold: float
    class_ids: tuple[int, ...] | None = None
    max_detections: int | None = None

    def select(self, found: Candidates) -> Candidates:
        """Those detections, which are best first, that are kept."""
        # Again, because heads with centerness apply the threshold before centerness.
        keep = found.scores > np.float32(self.score_threshold)
        if self.class_ids is not None:
            keep &= np.isin(found.classes, self.class_ids)
        return found.take(np.flatnonzero(keep)[: self.max_detections])
