"""What all detectors have in common: images in, detections out, one by one or in batches."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from .detections import Detections
from .image_io import RGBImage, as_rgb, require_channel_order
from .nms import Candidates
from .pipeline import Pipeline
from .prediction import PredictionSettings, PreparedImage, class_ids_of, require_positive
from .sources import images_of
from .suppression import require_method

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
        predicts_masks: whether its detections have masks.
    """

    fixed_batch_size: int | None = None
    predicts_masks: bool = False

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
        nms_threshold: float | None = None,
        nms: str = "per-class",
        slice_size: int | None = None,
        slice_overlap: float = 0.2,
        whole_image: bool = True,
        flip: bool = False,
        channel_order: str | None = None,
    ) -> Detections:
        """Detect objects in one image.

        Args:
            image: a path, an http(s) URL, a PIL image, or a (H, W, 3) uint8 array; of
                ``tood.Detector`` also a (3, H, W) uint8 tensor. Gray, palette, alpha and CMYK files
                become RGB, and the EXIF orientation of files and PIL images is applied, as in
                training.
            score_threshold: detections score more than this. Any value from 0 to 1 works, whatever
                the threshold for evaluation; only exported files with NMS inside find nothing below
                theirs.
            classes: names of the classes to keep; by default all.
            max_detections: keep the best ones only; by default as many as the model does (100), or
                all of a sliced image.
            nms_threshold: boxes with a larger IoU suppress each other; by default the model's.
            nms: "per-class"; "class-agnostic", which keeps one box of any class per place; "soft",
                which lowers the scores of overlapping boxes (needs supervision); or "wbf", weighted
                box fusion, which averages them (needs ensemble-boxes).
            slice_size: cut the image into overlapping squares of so many pixels, to find what is
                small in a large image.
            slice_overlap: of neighboring squares, as a fraction of their side. Objects that are
                smaller than the overlap are seen whole.
            whole_image: of a sliced image, look at the whole too, for objects larger than a slice.
            flip: look at the mirror image too. The detections of both are joined.
            channel_order: of an array: "RGB" or "BGR"; by default :attr:`channel_order`.

        Returns:
            Detections in pixels of the image, best first.

        Raises:
            TypeError: the image is of no accepted type.
            ValueError: an array of another shape, an empty image, an image that cannot be read
                (ImageReadError), or an option without such a value. Options that the model cannot
                have raise an OptionError, a ModelFileError or a ConfigError.
            ImportError: the package that ``nms`` needs is missing.
        """
        options = _options(locals())
        settings = self.validate_options(**options)
        pipeline = Pipeline(self, settings, self._channel_order(channel_order))
        return next(pipeline.run([image], self.fixed_batch_size or 1))

    def predict(
        self,
        source: str | os.PathLike[str] | InputT | Iterable[InputT],
        *,
        batch_size: int | None = None,
        score_threshold: float = 0.3,
        classes: Sequence[str] | None = None,
        max_detections: int | None = None,
        nms_threshold: float | None = None,
        nms: str = "per-class",
        slice_size: int | None = None,
        slice_overlap: float = 0.2,
        whole_image: bool = True,
        flip: bool = False,
        channel_order: str | None = None,
        skip_unreadable: bool = False,
    ) -> Iterator[Detections]:
        """Detect objects in many images, while the next ones are read.

        A batch holds images of one padded size only, because the network averages over padding: so
        each image has the detections that it has alone, but for rounding. At most four batches of
        resized images wait for others of their size, and one is read ahead; so images are taken
        from the source before they are due.

        Args:
            source: whatever ``tood detect`` takes: an image, a folder, a glob pattern, a list file
                (.txt), a video, a URL, a stream, or the number of a camera; or any iterable of
                images, such as a list, a generator, or an array (N, H, W, 3). Images in memory are
                copied when they are taken, so that a source may reuse them.
            batch_size: number of images, or of slices and mirror images, that the network gets at
                once, at most; by default 1, or that of an exported file with a fixed one.
            score_threshold: see :meth:`__call__`; and so for the options that follow.
            classes: likewise.
            max_detections: likewise.
            nms_threshold: likewise.
            nms: likewise.
            slice_size: likewise.
            slice_overlap: likewise.
            whole_image: likewise.
            flip: likewise.
            channel_order: likewise.
            skip_unreadable: log images and frames that cannot be read, and go on.

        Returns:
            The detections of each image, in order. An error comes after the detections of the
            images before it.

        Raises:
            SourceError: there is no image in the folder or pattern.
            TypeError: the source is none, or see :meth:`__call__`.
            ValueError: see :meth:`__call__`, or a ``batch_size`` that is not positive.
            ImportError: see :meth:`__call__`, or the package that reads videos is missing.
        """
        options = _options(locals())
        settings = self.validate_options(**options, batch_size=batch_size)
        pipeline = Pipeline(self, settings, self._channel_order(channel_order))
        if batch_size is None:
            batch_size = self.fixed_batch_size or 1
        images = map(pipeline.own, images_of(source))
        return pipeline.run(images, batch_size, skip_unreadable=skip_unreadable)

    def validate_options(
        self,
        *,
        classes: Sequence[str] | None = None,
        channel_order: str | None = None,
        batch_size: int | None = None,
        **options: Any,
    ) -> PredictionSettings:
        """Check the options of a call before there are images.

        Args:
            classes: see :meth:`predict`.
            channel_order: likewise.
            batch_size: likewise.
            options: likewise, the other ones.

        Returns:
            The settings that the options mean.

        Raises:
            ValueError: an option without such a value, or that the model cannot have.
            TypeError: a number that is none.
            ImportError: the package that ``nms`` needs is missing.
        """
        require_positive("batch_size", batch_size)
        if channel_order is not None:
            require_channel_order(channel_order)
        class_ids = None if classes is None else class_ids_of(classes, self.class_names)
        settings = PredictionSettings(class_ids=class_ids, **options)
        require_method(settings.nms)
        self.require_settings(settings)
        return settings

    def _channel_order(self, given: str | None) -> str:
        return self.channel_order if given is None else given

    def to_rgb(self, image: InputT, channel_order: str) -> RGBImage:
        """Return an image as a (H, W, 3) uint8 RGB array; see :meth:`__call__`."""
        return as_rgb(image, channel_order, self.apply_orientation)  # type: ignore[arg-type]

    def prepare(self, pixels: RGBImage) -> PreparedImage:
        """Resize a (H, W, 3) uint8 RGB image for the network; several threads may do so."""
        resized = self._resize(pixels)
        height, width = resized.shape[:2]
        size = (pixels.shape[0], pixels.shape[1])
        return PreparedImage(resized, self._padded_size(height, width), size)

    def detect_prepared(
        self, batch: list[PreparedImage], settings: PredictionSettings
    ) -> list[Candidates]:
        """Detect objects in images of one padded size.

        Args:
            batch: of :meth:`prepare`.
            settings: of :meth:`validate_options`. Each image is looked at as it is, once.

        Returns:
            For each image its detections in pixels of the original, best first.
        """
        return [settings.select(found) for found in self._run(batch, settings)]

    def to_detections(
        self, found: Candidates, image_size: tuple[int, int], **origin: Any
    ) -> Detections:
        """Name the classes of what was found in an image.

        Args:
            found: of :meth:`detect_prepared`, in pixels of the image.
            image_size: its (height, width).
            origin: where the image comes from: ``path`` and other fields of Detections.
        """
        names = self.class_names
        return Detections(
            xyxy=found.boxes.astype(np.float32),
            confidence=found.scores.astype(np.float32),
            class_id=found.classes.astype(np.int64),
            class_names=[names[i] if i < len(names) else f"class {i}" for i in found.classes],
            image_size=image_size,
            mask=found.masks,
            apply_orientation=self.apply_orientation,
            **origin,
        )

    @property
    @abstractmethod
    def nms_threshold(self) -> float:
        """The model's own IoU threshold of NMS."""

    @abstractmethod
    def require_settings(self, settings: PredictionSettings) -> None:
        """Check whether the model can give such detections.

        Raises:
            ValueError: it cannot (OptionError, ModelFileError or ConfigError).
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


def _options(arguments: dict[str, Any]) -> dict[str, Any]:
    """Those of a method's arguments that are options of a call."""
    left_out = ("self", "image", "source", "batch_size", "skip_unreadable")
    return {name: value for name, value in arguments.items() if name not in left_out}
