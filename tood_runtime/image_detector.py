"""What all detectors have in common: images in, detections out, one by one or in batches."""

import logging
import operator
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from .batching import map_ahead, run_in_batches
from .detections import Detections
from .image_io import ImageReadError, RGBImage, as_rgb, require_channel_order
from .nms import Candidates
from .prediction import OptionError, PredictionSettings, PreparedImage
from .sources import images_of

logger = logging.getLogger(__name__)

#: What a detector takes as an image.
InputT = TypeVar("InputT")


class ImageDetector(ABC, Generic[InputT]):
    """Detects objects in images.

    Args:
        class_names: by class index.
        category_ids: ids in COCO-format files, by class index.
        channel_order: of arrays that come without one: "RGB", or "BGR" for frames of OpenCV. An
            array cannot tell.
        apply_orientation: whether the EXIF orientation of files and PIL images is applied.

    Raises:
        ValueError: an unknown ``channel_order``.

    Attributes:
        class_names: likewise.
        category_ids: likewise.
        channel_order: likewise.
        apply_orientation: likewise.
        fixed_batch_size: of an exported file; None for any. Smaller batches are filled up with
            copies, and larger ones are split.
    """

    fixed_batch_size: int | None = None

    def __init__(
        self,
        class_names: Sequence[str],
        category_ids: Sequence[int | str],
        *,
        channel_order: str = "RGB",
        apply_orientation: bool = True,
    ) -> None:
        require_channel_order(channel_order)
        self.class_names = list(class_names)
        self.category_ids = list(category_ids)
        self.channel_order = channel_order
        self.apply_orientation = apply_orientation

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self._describe_model()}, {len(self.class_names)} classes, "
            f"channel_order={self.channel_order!r})"
        )

    def __call__(
        self,
        image: InputT,
        *,
        score_threshold: float = 0.3,
        classes: Sequence[str] | None = None,
        max_detections: int | None = None,
        channel_order: str | None = None,
    ) -> Detections:
        """Detect objects in one image.

        Args:
            image: a path, a PIL image, or a (H, W, 3) uint8 array; of ``tood.Detector`` also a
                (3, H, W) uint8 tensor. Gray, palette, alpha and CMYK files become RGB, and the EXIF
                orientation of files and PIL images is applied, as in training.
            score_threshold: detections score more than this. Any value from 0 to 1 works, whatever
                the threshold for evaluation; only exported files with NMS inside find nothing below
                theirs.
            classes: names of the classes to keep; by default all. They are chosen among the model's
                best detections of all classes, 100 by default.
            max_detections: keep the best ones only, at most the model's limit, the default.
            channel_order: of an array: "RGB" or "BGR"; by default :attr:`channel_order`.

        Returns:
            Detections in pixels of the image, best first.

        Raises:
            TypeError: the image is of no accepted type.
            ValueError: an array of another shape, an empty image, an image that cannot be read
                (ImageReadError), or an option without such a value. Options that the model cannot
                have raise a ModelFileError or ConfigError.
        """
        settings = self.validate_options(score_threshold, classes, max_detections, channel_order)
        prepared = self._read(image, self._channel_order(channel_order))
        return self._detect([prepared], settings)[0]

    def predict(
        self,
        source: str | os.PathLike[str] | InputT | Iterable[InputT],
        *,
        batch_size: int | None = None,
        score_threshold: float = 0.3,
        classes: Sequence[str] | None = None,
        max_detections: int | None = None,
        channel_order: str | None = None,
        skip_unreadable: bool = False,
    ) -> Iterator[Detections]:
        """Detect objects in many images, while the next ones are read.

        A batch holds images of one padded size only, because the network averages over padding: so
        each image has the detections that it has alone, but for rounding. At most four batches of
        resized images wait for others of their size, and one is read ahead; so images are taken
        from the source before they are due.

        Args:
            source: a folder, a glob pattern or one image; or any iterable of images, such as a
                list, a generator, or an array (N, H, W, 3). Images in memory are copied when they
                are taken, so that a source may reuse them.
            batch_size: number of images that the network gets at once, at most; by default 1, or
                that of an exported file with a fixed one.
            score_threshold: see :meth:`__call__`; and so for the options that follow.
            classes: likewise.
            max_detections: likewise.
            channel_order: likewise.
            skip_unreadable: log images that cannot be read, and go on.

        Returns:
            The detections of each image, in order. An error comes after the detections of the
            images before it.

        Raises:
            SourceError: there is no image in the folder or pattern.
            TypeError: the source is none, or see :meth:`__call__`.
            ValueError: see :meth:`__call__`, or a ``batch_size`` that is not positive.
        """
        if batch_size is None:
            batch_size = self.fixed_batch_size or 1
        settings = self.validate_options(
            score_threshold, classes, max_detections, channel_order, batch_size
        )
        order = self._channel_order(channel_order)

        def own(image: Any) -> Any:
            """A path, or RGB pixels that nobody else changes; or why there are none."""
            if isinstance(image, (str, os.PathLike)):
                return image
            try:
                return np.array(self._to_rgb(image, order))
            except ImageReadError as error:
                return error

        def read(image: Any) -> PreparedImage | ImageReadError:
            """Read and resize one image, or return why it cannot be read."""
            if isinstance(image, ImageReadError):
                return image
            try:
                return self._read(image, "RGB", order)
            except ImageReadError as error:
                return error

        prepared = map_ahead(read, map(own, images_of(source)), ahead=batch_size)
        return run_in_batches(
            lambda batch: self._detect(batch, settings),
            _readable(prepared, skip_unreadable),
            key=lambda image: image.padded_size,
            batch_size=batch_size,
        )

    def validate_options(
        self,
        score_threshold: float = 0.3,
        classes: Sequence[str] | None = None,
        max_detections: int | None = None,
        channel_order: str | None = None,
        batch_size: int | None = None,
    ) -> PredictionSettings:
        """Check the options of a call before there are images; see :meth:`predict`.

        Raises:
            ValueError: an option without such a value.
            TypeError: a number that is none.
        """
        if not 0 <= score_threshold <= 1:
            raise ValueError(f"score_threshold must be between 0 and 1, got {score_threshold}.")
        for name, value in (("max_detections", max_detections), ("batch_size", batch_size)):
            if value is not None and operator.index(value) < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        if channel_order is not None:
            require_channel_order(channel_order)
        self.require_threshold(score_threshold)
        class_ids = None if classes is None else self.class_ids(classes)
        return PredictionSettings(score_threshold, class_ids, max_detections)

    def _channel_order(self, given: str | None) -> str:
        return self.channel_order if given is None else given

    def class_ids(self, names: Iterable[str]) -> tuple[int, ...]:
        """Class indices of names.

        Raises:
            OptionError: a name that the model does not have, or no name at all.
        """
        names = [names] if isinstance(names, str) else list(names)
        if not names:
            raise OptionError("classes is empty. Leave it out to keep all classes.")
        unknown = [str(name) for name in names if name not in self.class_names]
        if unknown:
            raise OptionError(
                f"Unknown classes {', '.join(map(repr, unknown))}. The model has: "
                f"{', '.join(self.class_names)}."
            )
        # All of a name: two classes may have the same one.
        return tuple(i for i, name in enumerate(self.class_names) if name in names)

    def _to_rgb(self, image: InputT, channel_order: str) -> RGBImage:
        return as_rgb(image, channel_order, self.apply_orientation)  # type: ignore[arg-type]

    def _read(
        self, image: Any, channel_order: str, original_order: str | None = None
    ) -> PreparedImage:
        """Read and resize an image, which may have been in another channel order before."""
        path = os.fspath(image) if isinstance(image, (str, os.PathLike)) else None
        pixels = self._to_rgb(image, channel_order)
        resized = self._resize(pixels)
        return PreparedImage(
            resized,
            self._padded_size(resized.shape[0], resized.shape[1]),
            (pixels.shape[0], pixels.shape[1]),
            path,
            original_order or channel_order,
        )

    def _detect(self, batch: list[PreparedImage], settings: PredictionSettings) -> list[Detections]:
        found = self._run(batch, settings)
        return [
            self._to_detections(settings.select(candidates), prepared)
            for candidates, prepared in zip(found, batch, strict=True)
        ]

    def _to_detections(self, found: Candidates, prepared: PreparedImage) -> Detections:
        names = self.class_names
        return Detections(
            xyxy=found.boxes.astype(np.float32),
            confidence=found.scores.astype(np.float32),
            class_id=found.classes.astype(np.int64),
            class_names=[names[i] if i < len(names) else f"class {i}" for i in found.classes],
            image_size=prepared.original_size,
            path=prepared.path,
            apply_orientation=self.apply_orientation,
            channel_order=prepared.channel_order,
        )

    @abstractmethod
    def require_threshold(self, score_threshold: float) -> None:
        """Check a score threshold against the model's own.

        Raises:
            ValueError: the model drops detections that score more (ModelFileError or ConfigError).
        """

    @abstractmethod
    def _describe_model(self) -> str: ...

    @abstractmethod
    def _resize(self, pixels: RGBImage) -> RGBImage:
        """Resize an image, in the network's channel order; called in several threads."""

    @abstractmethod
    def _padded_size(self, height: int, width: int) -> tuple[int, int]:
        """The size that the network pads a resized image to."""

    @abstractmethod
    def _run(self, batch: list[PreparedImage], settings: PredictionSettings) -> list[Candidates]:
        """Detections of images of one padded size, in pixels of the original images."""


def _readable(
    results: Iterable[PreparedImage | ImageReadError], skip: bool
) -> Iterator[PreparedImage]:
    for result in results:
        if not isinstance(result, ImageReadError):
            yield result
        elif skip:
            logger.warning("Skipped: %s", result)
        else:
            raise result
