"""What goes into a call of a detector: prepared images, and which detections are kept."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from .image_io import RGBImage
from .nms import Candidates
from .nms_methods import NMS_METHODS


class OptionError(ValueError):
    """An option of a call that the model does not have; the message says what it has."""


@dataclass(frozen=True, eq=False)
class SourceImage:
    """A decoded image, and where it comes from.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        path: its file, URL or camera; None for an array.
        frame: its number in a video, from 0; None for an image.
        time: when it is shown in a video, in seconds from the start; None for an image.
        channel_order: of the array that it was.
        rate: frames per second of its video; None for an image, or where that is not known.
    """

    pixels: RGBImage
    path: str | None = None
    frame: int | None = None
    time: float | None = None
    channel_order: str = "RGB"
    rate: Fraction | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image, resized for the network.

    Attributes:
        pixels: (H, W, C) uint8 in the network's channel order.
        padded_size: (height, width) that the network pads it to, alone in a batch.
        original_size: (height, width) of the image.
    """

    pixels: RGBImage
    padded_size: tuple[int, int]
    original_size: tuple[int, int]


@dataclass(frozen=True)
class PredictionSettings:
    """Which detections are kept, and how the image is looked at.

    Attributes:
        score_threshold: those that score more than this.
        class_ids: those of these classes; None for all.
        max_detections: at most this many per image; None for the model's own limit, or for all of a
            sliced image.
        nms_threshold: boxes with a larger IoU suppress each other; None for the model's own.
        nms: one of :data:`~tood_runtime.nms_methods.NMS_METHODS`.
        slice_size: side of the squares that an image is cut into, in pixels; None for whole images.
        slice_overlap: of neighboring squares, as a fraction of their side.
        whole_image: whether a sliced image is also looked at as a whole.
        flip: whether an image is looked at in a mirror too.

    Raises:
        ValueError: a value out of range.
        TypeError: a number that is none.
    """

    score_threshold: float = 0.3
    class_ids: tuple[int, ...] | None = None
    max_detections: int | None = None
    nms_threshold: float | None = None
    nms: str = "per-class"
    slice_size: int | None = None
    slice_overlap: float = 0.2
    whole_image: bool = True
    flip: bool = False

    def __post_init__(self) -> None:
        _require_fraction("score_threshold", self.score_threshold)
        if self.nms_threshold is not None:
            _require_fraction("nms_threshold", self.nms_threshold)
        require_positive("max_detections", self.max_detections)
        require_positive("slice_size", self.slice_size)
        if self.nms not in NMS_METHODS:
            raise ValueError(f"Unknown nms {self.nms!r}. Available: {', '.join(NMS_METHODS)}")
        if not 0 <= self.slice_overlap < 1:
            raise ValueError(f"slice_overlap must be from 0 to below 1, got {self.slice_overlap}.")

    @property
    def is_plain(self) -> bool:
        """Whether these are a model's own detections, but for the score threshold."""
        values = (self.class_ids, self.max_detections, self.nms_threshold)
        return self.nms == "per-class" and all(value is None for value in values)

    @property
    def has_views(self) -> bool:
        """Whether the network looks at an image more than once."""
        return self.slice_size is not None or self.flip

    def iou_threshold(self, model_threshold: float) -> float:
        """The IoU threshold of NMS, given the model's own."""
        return model_threshold if self.nms_threshold is None else self.nms_threshold

    def limit(self, model_limit: int) -> int | None:
        """The maximum number of detections, None for all, given the model's (negative for all)."""
        if self.max_detections is not None:
            return self.max_detections
        return model_limit if model_limit >= 0 else None

    def for_view(self) -> "PredictionSettings":
        """The settings for one of several views of an image, whose results are joined later."""
        return replace(self, nms="per-class", max_detections=None)

    def select(self, found: Candidates) -> Candidates:
        """Those detections, which are best first, that are kept."""
        # Again, because heads with centerness apply the threshold before centerness.
        keep = found.scores > np.float32(self.score_threshold)
        if self.class_ids is not None:
            keep &= np.isin(found.classes, self.class_ids)
        return found.take(np.flatnonzero(keep)[: self.max_detections])


def require_positive(name: str, value: int | None) -> None:
    """Raise a ValueError for a number below 1, and a TypeError for what is no whole number."""
    if value is not None and operator.index(value) < 1:
        raise ValueError(f"{name} must be at least 1, got {value}.")


def _require_fraction(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value}.")


def class_ids_of(names: Sequence[str] | str, class_names: Sequence[str]) -> tuple[int, ...]:
    """Class indices of names.

    Args:
        names: of classes, or one name.
        class_names: of the model, by class index.

    Raises:
        OptionError: a name that the model does not have, or no name at all.
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise OptionError("classes is empty. Leave it out to keep all classes.")
    unknown = [str(name) for name in names if name not in class_names]
    if unknown:
        raise OptionError(
            f"Unknown classes {', '.join(map(repr, unknown))}. The model has: "
            f"{', '.join(class_names)}."
        )
    # All of a name: two classes may have the same one.
    return tuple(i for i, name in enumerate(class_names) if name in names)
