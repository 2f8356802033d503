"""What the detection programs do with image files: read ahead, detect, collect, draw."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from .batching import map_ahead
from .detection_results import DetectionResults
from .image_detector import ImageDetector
from .image_io import ImageReadError, RGBImage, read_image


class ImageFile(NamedTuple):
    """An image to detect objects in.

    Attributes:
        path: of the file.
        target: of its drawing; None for no drawing.
        image_id: in COCO-format results.
    """

    path: Path
    target: Path | None
    image_id: int


def detect_files(
    detector: ImageDetector[Any],
    files: Iterable[ImageFile],
    results: DetectionResults,
    *,
    on_image: Callable[[], object] = lambda: None,
    batch_size: int | None = None,
    **options: Any,
) -> None:
    """Detect objects in image files, and add and draw what is found.

    A file that cannot be read is noted in the results. Images are read while others are detected
    in.

    Args:
        detector: the model.
        files: the images.
        results: what is added to.
        on_image: called after each image, readable or not.
        batch_size: see :meth:`ImageDetector.predict`.
        options: more of its options, such as ``score_threshold``.
    """
    batch_size = batch_size or detector.fixed_batch_size or 1
    waiting: deque[tuple[ImageFile, RGBImage | None]] = deque()
    read = partial(_read, apply_orientation=detector.apply_orientation)

    def readable() -> Iterator[RGBImage]:
        for file, image in map_ahead(read, files, ahead=batch_size):
            if isinstance(image, ImageReadError):
                results.problems.append(str(image))
                on_image()
            else:
                waiting.append((file, None if file.target is None else image))
                yield image

    options["channel_order"] = "RGB"  # of what is read here, whatever the detector's default
    for found in detector.predict(readable(), batch_size=batch_size, **options):
        file, image = waiting.popleft()
        results.add(file.path, file.image_id, found)
        if file.target is not None and image is not None:
            results.draw(image, found, file.target)
        on_image()


def _read(file: ImageFile, apply_orientation: bool) -> tuple[ImageFile, RGBImage | ImageReadError]:
    try:
        return file, read_image(file.path, apply_orientation)
    except ImageReadError as error:
        return file, error
