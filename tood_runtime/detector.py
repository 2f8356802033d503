"""Detection with exported models, without PyTorch."""

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from .backends import Backend, open_backend
from .detections import Detections
from .image_io import ImageInput, as_rgb
from .model_info import ModelFileError
from .nms import Candidates, detections_of_image
from .preprocessing import prepare_batch


class RuntimeDetector:
    """Detects objects in images with an exported model.

    It takes the same options as ``tood.inference.Detector`` and gives the same results::

        detector = RuntimeDetector("model.onnx")
        detections = detector("street.jpg", score_threshold=0.4)
        detections.draw().save("street_detections.jpg")

    Classes, image size and channel order come from the file.

    Args:
        model: an exported file (.onnx or .xml), or a backend that has opened one.
        runtime: see :func:`tood_runtime.backends.open_backend`; of a file.
        device: likewise.
        threads: likewise.
        precision: likewise.

    Raises:
        ModelFileError: the file is missing, or no exported model; or, as a BackendError, its
            runtime is missing, too old, or lacks the device.

    Attributes:
        backend: the model.
        info: what the file says about its model.
        class_names: by class index.
        category_ids: ids in COCO-format files, by class index.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Backend,
        *,
        runtime: str | None = None,
        device: str = "cpu",
        threads: int | None = None,
        precision: str | None = None,
    ) -> None:
        if isinstance(model, (str, os.PathLike)):
            model = open_backend(
                model, runtime=runtime, device=device, threads=threads, precision=precision
            )
        self.backend = model
        self.info = model.info
        self.class_names = list(self.info.class_names)
        self.category_ids = list(self.info.category_ids)

    @property
    def lowest_threshold(self) -> float:
        """Detections that do not score more than this are not in the file's output."""
        return self.info.lowest_threshold

    def __call__(
        self, image: ImageInput, *, score_threshold: float = 0.3, channel_order: str = "RGB"
    ) -> Detections:
        """Detect objects in one image.

        Args:
            image: a path, a PIL image, or a (H, W, 3) uint8 array. The EXIF orientation of files
                and PIL images is applied if the model was trained so.
            score_threshold: detections score more than this: from :attr:`lowest_threshold` to 1.
            channel_order: of an array: "RGB", or "BGR" for frames of OpenCV.

        Returns:
            Detections in pixels of the image, best first.

        Raises:
            TypeError: the image is of no accepted type.
            ValueError: an array of another shape, an empty image, an image that cannot be read
                (ImageReadError), an unknown ``channel_order``, or a threshold outside of [0, 1] or
                below the file's (ModelFileError).
        """
        self.require_threshold(score_threshold)
        return self._detect([image], score_threshold, channel_order)[0]

    def predict(
        self,
        images: Iterable[ImageInput],
        *,
        batch_size: int = 1,
        score_threshold: float = 0.3,
        channel_order: str = "RGB",
    ) -> Iterator[Detections]:
        """Detect objects in many images, batch by batch.

        In a batch, images of different sizes are padded to the largest. As in evaluation, a little
        of the padding gets into the scores: T-head's attention averages over the whole map.

        Args:
            images: see :meth:`__call__`; read when their batch is due.
            batch_size: maximum number of images that the network gets at once.
            score_threshold: see :meth:`__call__`.
            channel_order: likewise.

        Returns:
            The detections of each image, in order.

        Raises:
            TypeError: see :meth:`__call__`.
            ValueError: likewise, or a ``batch_size`` that is not positive, or more than the file's
                fixed one (ModelFileError).
        """
        self.require_threshold(score_threshold)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        if self.info.batch is not None and batch_size > self.info.batch:
            raise ModelFileError(
                f"The file takes batches of {self.info.batch}, got the batch size {batch_size}. "
                "Export the model without --batch for any size."
            )
        return self._predict(iter(images), batch_size, score_threshold, channel_order)

    def require_threshold(self, score_threshold: float) -> None:
        """Check a score threshold against the file.

        Raises:
            ValueError: it is outside of [0, 1], or below the file's (ModelFileError).
        """
        if not 0 <= score_threshold <= 1:
            raise ValueError(f"score_threshold must be between 0 and 1, got {score_threshold}.")
        if score_threshold < self.lowest_threshold:
            raise ModelFileError(
                f"score_threshold {score_threshold:g} is below {self.lowest_threshold:g}, and the "
                "file drops detections below that. Export the model with a lower one: tood export "
                f"... --opts MODEL.TOOD.SCORE_THRESH_TEST {score_threshold:g}"
            )

    def _predict(
        self,
        images: Iterator[ImageInput],
        batch_size: int,
        score_threshold: float,
        channel_order: str,
    ) -> Iterator[Detections]:
        while batch := list(itertools.islice(images, batch_size)):
            yield from self._detect(batch, score_threshold, channel_order)

    def _detect(
        self, images: Sequence[ImageInput], score_threshold: float, channel_order: str
    ) -> list[Detections]:
        """Detect objects in one batch."""
        orient = self.info.apply_exif_orientation
        pixels = [as_rgb(image, channel_order, orient) for image in images]
        batch = prepare_batch(pixels, self.info)
        outputs = self.backend.run(*batch)
        return [
            self._to_detections(
                detections_of_image(
                    outputs,
                    i,
                    self.info,
                    input_size=batch.images.shape[2:],
                    image_size=tuple(batch.image_sizes[i].tolist()),
                    original_size=tuple(batch.original_sizes[i].tolist()),
                    score_threshold=score_threshold,
                ),
                (pixels[i].shape[0], pixels[i].shape[1]),
                os.fspath(image) if isinstance(image, (str, os.PathLike)) else None,
            )
            for i, image in enumerate(images)
        ]

    def _to_detections(
        self, found: Candidates, image_size: tuple[int, int], path: str | None
    ) -> Detections:
        names = self.class_names
        return Detections(
            xyxy=found.boxes.astype(np.float32),
            confidence=found.scores.astype(np.float32),
            class_id=found.classes.astype(np.int64),
            class_names=[names[i] if i < len(names) else f"class {i}" for i in found.classes],
            image_size=image_size,
            path=path,
            apply_orientation=self.info.apply_exif_orientation,
        )
