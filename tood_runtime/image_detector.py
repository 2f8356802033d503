"""What all detectors have in common: images in, detections out, one by one or in batches."""

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from .batching import map_ahead, run_in_batches
from .detections import Detections
from .image_io import ImageInput, ImageReadError, RGBImage, as_rgb, require_channel_order
from .nms import Candidates
from .prediction import OptionError, PredictionSettings, PreparedImage
from .sources import Source, images_of

logger = logging.getLogger(__name__)


class ImageDetector(ABC):
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
        max_batch_size: that the model takes; None for any.
    """

    max_batch_size: int | None = None

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
        image: ImageInput,
        *,
        score_threshold: float = 0.3,
        classes: Sequence[str] | None = None,
        max_detections: int | None = None,
        channel_order: str | None = None,
    ) -> Detections:
        """Detect objects in one image.

        Args:
            image: a path, a PIL image, or a (H, W, 3) uint8 array. Gray, palette, alpha and CMYK
                files become RGB, and the EXIF orientation of files and PIL images is applied, as
                in training.
            score_threshold: detections score more than this. Any value from 0 to 1 works, whatever
                the threshold for evaluation; only exported files with NMS inside find nothing below
                theirs.
            classes: names of the classes to keep; by default all. They are chosen among the model's
                best detections of all classes, 100 by default.
            max_detections: keep the best ones only; by default all of the model's.
            channel_order: of an array: "RGB" or "BGR"; by default :attr:`channel_order`.

        Returns:
            Detections in pixels of the image, best first.

        Raises:
            TypeError: the image is of no accepted type.
            ValueError: an array of another shape, an empty image, an image that cannot be read
                (ImageReadError), or an option without such a value. Options that the model cannot
                have raise a ModelFileError or ConfigError.
        """
        settings = self.validate_options(score_threshold, classes, max_detections)
        return self._detect([self._prepare(image, channel_order)], settings)[0]

    def predict(
        self,
        source: Source,
        *,
        batch_size: int = 1,
        score_threshold: float = 0.3,
        classes: Sequence[str] | None = None,
        max_detections: int | None = None,
        channel_order: str | None = None,
        skip_unreadable: bool = False,
    ) -> Iterator[Detections]:
        """Detect objects in many images, while the next ones are read.

        A batch holds images of one padded size only, because the network averages over padding: so
        each image has the detections that it has alone. At most four batches of images wait for
        others of their size, and one is read ahead.

        Args:
            source: a folder, a glob pattern or one image; or any iterable of images, such as a
                list, a generator, or an array (N, H, W, 3).
            batch_size: number of images that the network gets at once, at most.
            score_threshold: see :meth:`__call__`; and so for the options that follow.
            classes: likewise.
            max_detections: likewise.
            channel_order: likewise.
            skip_unreadable: log images that cannot be read, and go on.

        Returns:
            The detections of each image, in order.

        Raises:
            SourceError: there is no image in the folder or pattern.
            TypeError: see :meth:`__call__`.
            ValueError: likewise, or a ``batch_size`` that the model does not take.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        if self.max_batch_size is not None and batch_size > self.max_batch_size:
            raise OptionError(
                f"The file takes batches of {self.max_batch_size}, got the batch size "
                f"{batch_size}. Export the model without --batch for any size."
            )
        settings = self.validate_options(score_threshold, classes, max_detections)
        if channel_order is not None:
            require_channel_order(channel_order)
        images = images_of(source)

        def read(image: ImageInput) -> PreparedImage | ImageReadError:
            """Read and resize one image, or return why it cannot be read."""
            try:
                return self._prepare(image, channel_order)
            except ImageReadError as error:
                if not skip_unreadable:
                    raise
                return error

        return run_in_batches(
            lambda batch: self._detect(batch, settings),
            _log_unreadable(map_ahead(read, images, ahead=batch_size)),
            key=lambda prepared: prepared.padded_size,
            batch_size=batch_size,
        )

    def validate_options(
        self,
        score_threshold: float = 0.3,
        classes: Sequence[str] | None = None,
        max_detections: int | None = None,
    ) -> PredictionSettings:
        """Check the options of a call, before there are images; see :meth:`__call__`.

        Raises:
            ValueError: an option without such a value; see :meth:`__call__`.
        """
        if not 0 <= score_threshold <= 1:
            raise ValueError(f"score_threshold must be between 0 and 1, got {score_threshold}.")
        if max_detections is not None and max_detections < 1:
            raise ValueError(f"max_detections must be at least 1, got {max_detections}.")
        self.require_threshold(score_threshold)
        class_ids = None if classes is None else self.class_ids(classes)
        return PredictionSettings(score_threshold, class_ids, max_detections)

    def class_ids(self, names: Sequence[str]) -> tuple[int, ...]:
        """Class indices of names.

        Raises:
            OptionError: a name that the model does not have, or no name at all.
        """
        if isinstance(names, str):
            names = [names]
        if not len(names):
            raise OptionError("classes is empty. Leave it out to keep all classes.")
        unknown = [str(name) for name in names if name not in self.class_names]
        if unknown:
            raise OptionError(
                f"Unknown classes {', '.join(map(repr, unknown))}. The model has: "
                f"{', '.join(self.class_names)}."
            )
        # All of a name: two classes may have the same one.
        return tuple(i for i, name in enumerate(self.class_names) if name in names)

    def _prepare(self, image: ImageInput, channel_order: str | None) -> PreparedImage:
        pixels = as_rgb(image, channel_order or self.channel_order, self.apply_orientation)
        resized = self._resize(pixels)
        return PreparedImage(
            resized,
            self._padded_size(resized.shape[0], resized.shape[1]),
            (pixels.shape[0], pixels.shape[1]),
            os.fspath(image) if isinstance(image, (str, os.PathLike)) else None,
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
        )

    @abstractmethod
    def require_threshold(self, score_threshold: float) -> None:
        """Check a score threshold against the model's own.

        Raises:
            ValueError: the model drops detections above it (ModelFileError or ConfigError).
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


def _log_unreadable(
    results: Iterable[PreparedImage | ImageReadError],
) -> Iterator[PreparedImage]:
    for result in results:
        if isinstance(result, ImageReadError):
            logger.warning("Skipped: %s", result)
        else:
            yield result
