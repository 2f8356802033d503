"""Detection with exported models, without PyTorch."""

import os

from .backends import Backend, open_backend
from .image_detector import ImageDetector
from .image_io import ImageInput, RGBImage
from .model_info import ModelFileError
from .nms import Candidates
from .postprocessing import detections_of_image, require_possible
from .prediction import PredictionSettings, PreparedImage
from .preprocessing import padded_size, resize_image, stack_images


class RuntimeDetector(ImageDetector[ImageInput]):
    """Detects objects in images with an exported model.

    It takes the same options as ``tood.Detector`` and gives the same results::

        detector = RuntimeDetector("model.onnx")
        detections = detector("street.jpg", score_threshold=0.4)
        detections.draw().save("street_detections.jpg")

    Classes, image size and channel order of the network come from the file.

    Args:
        model: an exported file (.onnx or .xml), or a backend that has opened one.
        runtime: see :func:`tood_runtime.backends.open_backend`; of a file.
        device: likewise.
        threads: likewise.
        precision: likewise.
        channel_order: of arrays: "RGB", or "BGR" for frames of OpenCV. An array cannot tell.

    Raises:
        ModelFileError: the file is missing, or no exported model; or, as a BackendError, its
            runtime is missing, too old, or lacks the device.
        ValueError: an unknown ``channel_order``.

    Attributes:
        backend: the model.
        info: what the file says about its model.
        class_names: by class index.
        category_ids: ids in COCO-format files, by class index.
        channel_order: of arrays that come without one.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Backend,
        *,
        runtime: str | None = None,
        device: str = "cpu",
        threads: int | None = None,
        precision: str | None = None,
        channel_order: str = "RGB",
    ) -> None:
        if isinstance(model, (str, os.PathLike)):
            model = open_backend(
                model, runtime=runtime, device=device, threads=threads, precision=precision
            )
        super().__init__(
            model.info.class_names,
            model.info.category_ids,
            channel_order=channel_order,
            apply_orientation=model.info.apply_exif_orientation,
        )
        self.backend = model
        self.info = model.info
        self.fixed_batch_size = model.info.batch

    @property
    def lowest_threshold(self) -> float:
        """Detections that do not score more than this are not in the file's output."""
        return self.info.lowest_threshold

    @property
    def nms_threshold(self) -> float:
        """The model's own IoU threshold of NMS."""
        return self.info.nms_threshold

    def require_settings(self, settings: PredictionSettings) -> None:
        """Check options against the file.

        Raises:
            ModelFileError: the score threshold is below the file's, which drops detections that
                score more.
            OptionError: the file has NMS inside, and the options ask for another.
        """
        if settings.score_threshold < self.lowest_threshold:
            raise ModelFileError(
                f"score_threshold {settings.score_threshold:g} is below "
                f"{self.lowest_threshold:g}, and the file drops detections below that. Export the "
                "model with a lower one: tood export ... --opts MODEL.TOOD.SCORE_THRESH_TEST "
                f"{settings.score_threshold:g}"
            )
        require_possible(settings, self.info)

    def _describe_model(self) -> str:
        return self.backend.name

    def _resize(self, pixels: RGBImage) -> RGBImage:
        return resize_image(pixels, self.info)

    def _padded_size(self, height: int, width: int) -> tuple[int, int]:
        return padded_size(height, width, self.info)

    def _run(self, batch: list[PreparedImage], settings: PredictionSettings) -> list[Candidates]:
        size = self.info.batch or len(batch)
        found: list[Candidates] = []
        for start in range(0, len(batch), size):
            found += self._run_part(batch[start : start + size], settings)
        return found

    def _run_part(
        self, batch: list[PreparedImage], settings: PredictionSettings
    ) -> list[Candidates]:
        """Detections of one batch of the file's size or less."""
        model_input = stack_images(
            [prepared.pixels for prepared in batch],
            [prepared.original_size for prepared in batch],
            self.info,
        )
        outputs = self.backend.run(*model_input)
        return [
            detections_of_image(
                outputs,
                index,
                self.info,
                input_size=model_input.images.shape[2:],
                image_size=(prepared.pixels.shape[0], prepared.pixels.shape[1]),
                original_size=prepared.original_size,
                settings=settings,
            )
            for index, prepared in enumerate(batch)
        ]
