"""Images through a detector: read and resized in threads, run in batches, joined from views."""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .batching import map_ahead, run_in_batches
from .detections import Detections
from .image_io import ImageReadError
from .nms import Candidates
from .prediction import PredictionSettings, PreparedImage, SourceImage
from .sources import ImageInput
from .views import View, join_views, make_views

if TYPE_CHECKING:
    from .image_detector import ImageDetector

logger = logging.getLogger(__name__)

Kept = TypeVar("Kept")


@dataclass(frozen=True, eq=False)
class _Origin:
    """What is known of an image when its pixels are gone."""

    path: str | None
    frame: int | None
    time: float | None
    size: tuple[int, int]
    channel_order: str
    views: list[View] | None


@dataclass(frozen=True, eq=False)
class _Look:
    """One view of an image, ready for the network."""

    origin: _Origin
    prepared: PreparedImage


class Pipeline:
    """Detects objects in a stream of images with fixed options.

    Args:
        detector: the model.
        settings: which detections are kept, and how images are looked at.
        channel_order: of arrays.
    """

    def __init__(
        self, detector: "ImageDetector[Any]", settings: PredictionSettings, channel_order: str
    ) -> None:
        self.detector = detector
        self.settings = settings
        self.channel_order = channel_order

    def run(
        self, images: Iterable[Any], batch_size: int, *, skip_unreadable: bool = False
    ) -> Iterator[Detections]:
        """Detect objects in images.

        Args:
            images: what the detector takes, :class:`SourceImage`, or an ImageReadError in the place
                of an image. They are taken before they are due, and not copied.
            batch_size: number of views that the network gets at once, at most.
            skip_unreadable: log images that cannot be read, and go on.

        Returns:
            The detections of each image, in order. An error comes after the detections of the
            images before it.

        Raises:
            ImageReadError: an image cannot be read.
        """
        looks = map_ahead(self._look, self._views_of(images), ahead=batch_size)
        found = run_in_batches(
            self._run_batch,
            _readable(looks, skip_unreadable),
            key=lambda look: look.prepared.padded_size,
            batch_size=batch_size,
        )
        return self._join(found)

    def own(self, image: Any) -> Any:
        """A path, or pixels that nobody else changes; or why there are none."""
        if isinstance(image, (str, os.PathLike, SourceImage, ImageReadError)):
            return image
        try:
            pixels = np.array(self.detector.to_rgb(image, self.channel_order))
        except ImageReadError as error:
            return error
        return SourceImage(pixels, channel_order=self.channel_order)

    def _views_of(self, images: Iterable[Any]) -> Iterator[tuple[Any, View | None, Any]]:
        """Each view of each image; without views an image is read when it is resized."""
        if not self.settings.has_views:
            for image in images:
                yield image, None, None
            return
        # One image is read while another is looked at, because they may be very large.
        for image in map_ahead(self._load, images, ahead=1):
            if isinstance(image, ImageReadError):
                yield image, None, None
                continue
            views = make_views(image.size, self.settings)
            for view in views:
                yield image, view, views

    def _load(self, image: Any) -> SourceImage | ImageReadError:
        if isinstance(image, (SourceImage, ImageReadError)):
            return image
        try:
            if isinstance(image, (str, os.PathLike)):
                item = ImageInput(os.fspath(image))
                pixels = item.read(self.detector.apply_orientation)
                return SourceImage(pixels, item.location, channel_order=self.channel_order)
            pixels = self.detector.to_rgb(image, self.channel_order)
        except ImageReadError as error:
            return error
        return SourceImage(pixels, channel_order=self.channel_order)

    def _look(self, task: tuple[Any, View | None, list[View] | None]) -> _Look | ImageReadError:
        """Read an image if that is not done yet, and resize the view."""
        image, view, views = task
        image = self._load(image)
        if isinstance(image, ImageReadError):
            return image
        pixels = image.pixels if view is None else view.cut(image.pixels)
        origin = _Origin(
            image.path, image.frame, image.time, image.size, image.channel_order, views
        )
        return _Look(origin, self.detector.prepare(pixels))

    def _run_batch(self, looks: list[_Look]) -> list[tuple[_Origin, Candidates]]:
        settings = self.settings.for_view() if self.settings.has_views else self.settings
        found = self.detector.detect_prepared([look.prepared for look in looks], settings)
        return [(look.origin, one) for look, one in zip(looks, found, strict=True)]

    def _join(self, results: Iterable[tuple[_Origin, Candidates]]) -> Iterator[Detections]:
        views: list[Candidates] = []
        for origin, found in results:
            views.append(found)
            if origin.views is not None:
                if len(views) < len(origin.views):
                    continue
                threshold = self.detector.nms_threshold
                found = join_views(origin.views, views, origin.size, self.settings, threshold)
            views = []
            yield self.detector.to_detections(
                found,
                origin.size,
                path=origin.path,
                frame=origin.frame,
                time=origin.time,
                channel_order=origin.channel_order,
            )


def detect_each(
    detector: "ImageDetector[Any]",
    images: Iterable[tuple[Kept, SourceImage | ImageReadError]],
    on_unreadable: Callable[[Kept, ImageReadError], object],
    **options: Any,
) -> Iterator[tuple[Kept, Detections]]:
    """Detect objects in images, and keep something with each until its detections are there.

    Args:
        detector: the model.
        images: each with what is kept, which comes back with its detections.
        on_unreadable: called in the place of an image that cannot be read.
        options: of :meth:`ImageDetector.predict`.
    """
    waiting: deque[Kept] = deque()

    def readable() -> Iterator[SourceImage]:
        for kept, image in images:
            if isinstance(image, ImageReadError):
                on_unreadable(kept, image)
            else:
                waiting.append(kept)
                yield image

    for found in detector.predict(readable(), **options):
        yield waiting.popleft(), found


def _readable(results: Iterable[_Look | ImageReadError], skip: bool) -> Iterator[_Look]:
    for result in results:
        if not isinstance(result, ImageReadError):
            yield result
        elif skip:
            logger.warning("Skipped: %s", result)
        else:
            raise result
