"""Detection in a batch of images, as a function that other engines can map over their data."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..batching import map_ahead
from ..image_detector import ImageDetector
from ..image_io import ImageReadError, as_rgb, decode_image, printable_path
from ..pipeline import detect_each
from ..prediction import SourceImage
from .rows import Row, detection_row, error_row, to_columns

# Where a batch has its images; the first of these columns that it has counts. Ray's
# read_binary_files gives "bytes" and "path".
_SOURCES = ("image", "bytes", "path")


class ImageRecord(NamedTuple):
    """An image to detect objects in.

    Attributes:
        path: its name in the results; None if it has none.
        image_id: likewise.
        source: a path, the content of a file (bytes), or (H, W, 3) uint8 pixels.
    """

    path: str | None
    image_id: int | None
    source: Any


class BatchDetector:
    """Detects objects in batches of images that are columns of a table.

    For ``ray.data``'s ``map_batches``, and whatever else calls a function with batches::

        detect = BatchDetector(partial(Detector.from_pretrained, "TOOD-R50-1x"), batch_size=8)
        columns = detect({"path": ["a.jpg", "b.jpg"]})

    An image that cannot be read has a row with its error. Any other error, such as a GPU without
    memory, is raised: rows of it would look like broken images.

    Args:
        model: a detector, or a function that loads one in the process that needs it.
        batch_size: images that the network gets at once. They are of one padded size, so a batch of
            the table should be several times larger.
        options: of :meth:`ImageDetector.predict`, such as ``score_threshold``. ``channel_order`` is
            that of pixels in the column "image".

    Raises:
        TypeError: the function returns no detector.
        ValueError: see :meth:`ImageDetector.predict`.

    Attributes:
        detector: the model.
        batch_size: likewise.
        options: likewise.
    """

    def __init__(
        self,
        model: ImageDetector[Any] | Callable[[], ImageDetector[Any]],
        *,
        batch_size: int | None = None,
        **options: Any,
    ) -> None:
        # A detector can be called as well, so its type decides.
        detector = model if isinstance(model, ImageDetector) else model()
        if not isinstance(detector, ImageDetector):
            raise TypeError(
                "model must be a detector, or a function without arguments that returns one; it "
                f"returned {type(detector).__name__}."
            )
        self.detector = detector
        self.batch_size = batch_size or detector.fixed_batch_size or 1
        self.options = options
        detector.validate_options(batch_size=batch_size, **options)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Detect objects in a batch.

        Args:
            batch: B values in each column. Images are in "image" ((H, W, 3) uint8 pixels), "bytes"
                (the content of image files) or "path" (paths of image files); the first of these
                counts. "path" and "image_id" are copied to the result.

        Returns:
            B values in each of :data:`COLUMNS`, in the order of the batch. A column of detections
            has a list for each image, best first, and None where ``error`` says why the image
            cannot be read.

        Raises:
            ValueError: there is no column with images, or pixels of another shape.
            TypeError: pixels of another type.
        """
        source = next((name for name in _SOURCES if name in batch), None)
        if source is None:
            raise ValueError(
                f"The batch has no images. It needs one of the columns {', '.join(_SOURCES)}; it "
                f"has: {', '.join(map(str, batch)) or 'none'}."
            )
        count = len(batch[source])
        paths, ids = batch.get("path", [None] * count), batch.get("image_id", [None] * count)
        records = [
            ImageRecord(
                None if path is None else printable_path(path),
                None if image_id is None else int(image_id),
                value,
            )
            for path, image_id, value in zip(paths, ids, batch[source], strict=True)
        ]
        return to_columns(self.detect(records))

    def detect(
        self,
        records: Sequence[ImageRecord],
        on_image: Callable[[], object] = lambda: None,
    ) -> list[Row]:
        """Detect objects in images, while the next ones are read.

        Args:
            records: the images.
            on_image: called after each image, readable or not.

        Returns:
            The row of each image, in order.
        """
        rows: list[Row | None] = [None] * len(records)

        def on_unreadable(index: int, error: ImageReadError) -> None:
            path, image_id, _ = records[index]
            rows[index] = error_row(path, image_id, str(error))
            on_image()

        images = enumerate(map_ahead(self._read, records, ahead=self.batch_size))
        results = detect_each(
            self.detector, images, on_unreadable, batch_size=self.batch_size, **self.options
        )
        for index, found in results:
            rows[index] = detection_row(*records[index][:2], found)
            on_image()
        return list(_complete(rows))

    def _read(self, record: ImageRecord) -> SourceImage | ImageReadError:
        """Read an image, whose pixels nobody copies any more."""
        source, apply_orientation = record.source, self.detector.apply_orientation
        try:
            if source is None:
                raise ImageReadError(f"There is no image: {record.path or 'the value'} is null.")
            if isinstance(source, (bytes, bytearray, memoryview)):
                name = record.path or "of a batch"
                return SourceImage(decode_image(bytes(source), name, apply_orientation))
            order = self.options.get("channel_order") or self.detector.channel_order
            return SourceImage(as_rgb(source, order, apply_orientation))
        except ImageReadError as error:
            return error


def _complete(rows: Iterable[Row | None]) -> Iterator[Row]:
    for row in rows:
        if row is None:  # a detector that loses images must not pass for one that finds nothing
            raise RuntimeError("The detector returned no result for an image.")
        yield row
