"""Detection on single images, by a model given as a name, a folder or a config."""

import os

import detectron2.data.transforms as T
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from torch import Tensor, nn

from tood_runtime.detections import Detections
from tood_runtime.image_io import ImageInput, RGBImage, as_rgb

from ..checkpoint import load_model
from ..config.device import resolve_device
from ..data.registration import class_info
from ..data.transforms import ResizeShortestEdge, convert_format
from ..errors import ConfigError
from ..model_zoo import resolve
from ..modeling import find_dense_core


class Detector:
    """Detects objects in one image at a time.

    Construct it with :meth:`from_pretrained` or :meth:`from_config`::

        detector = Detector.from_pretrained("TOOD-R50-1x")
        detections = detector("street.jpg", score_threshold=0.4)
        detections.draw().save("street_detections.jpg")

    Images are resized as in evaluation, by ``INPUT.MIN_SIZE_TEST`` and ``INPUT.MAX_SIZE_TEST``, and
    are converted to ``INPUT.FORMAT``.

    Args:
        model: a trained model in evaluation mode.
        cfg: the config that it was built from.

    Raises:
        DataError: see :meth:`from_pretrained`.

    Attributes:
        model: the model.
        cfg: a copy of its config.
        class_names: by class index.
        category_ids: ids in COCO-format files, by class index.
        resize: detectron2's augmentation that resizes a (H, W, C) array.
    """

    def __init__(self, model: nn.Module, cfg: CfgNode) -> None:
        self.model = model
        self.cfg = cfg.clone()
        self.class_names, self.category_ids = class_info(cfg)
        self.resize: T.ResizeShortestEdge = ResizeShortestEdge(
            [cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST
        )

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        *,
        weights: str | os.PathLike[str] | None = None,
        device: str = "auto",
    ) -> "Detector":
        """Load a trained model.

        Args:
            name_or_path: a name of the model zoo, the folder of a training run, a config file, or a
                checkpoint that a training of this project wrote: it holds its config and classes.
            weights: file or URL of the weights; by default those of the model zoo or the run, for a
                config file its ``MODEL.WEIGHTS``.
            device: "cpu", "cuda" or "cuda:N"; "auto" is the config's device. Without a GPU, the CPU
                replaces any of them.

        Raises:
            ConfigError: an unknown name, a config that does not fit, or an unavailable device.
            CheckpointError: the weights are missing or do not match the model.
            DataError: the config has no class names, and the file in
                ``DATASETS.TEST_ANNOTATIONS``, which has them, is invalid.
        """
        resolved = resolve(name_or_path)
        opts = [] if device == "auto" else ["MODEL.DEVICE", device]
        cfg = resolved.load_config(opts)
        if weights is None:
            weights = resolved.require_weights()
        if weights is not None:
            cfg.MODEL.WEIGHTS = os.fspath(weights)
        return cls.from_config(cfg)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "Detector":
        """Build the model of a config and load ``MODEL.WEIGHTS``.

        Args:
            cfg: not changed. Without a GPU, the CPU replaces its ``MODEL.DEVICE``.

        Raises:
            ConfigError: the config does not fit the model, or the device is unavailable.
            CheckpointError: the weights are missing or do not match the model.
            DataError: see :meth:`from_pretrained`.
        """
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.DEVICE = resolve_device(cfg.MODEL.DEVICE)
        return cls(load_model(cfg), cfg)

    @torch.no_grad()
    def __call__(
        self, image: ImageInput, *, score_threshold: float = 0.3, channel_order: str = "RGB"
    ) -> Detections:
        """Detect objects.

        Args:
            image: a path, a PIL image, or a (H, W, 3) uint8 array. The EXIF orientation of files
                and PIL images is applied unless ``INPUT.APPLY_EXIF_ORIENTATION`` is False.
            score_threshold: detections score more than this. Any value from 0 to 1 works, whatever
                the config's threshold for evaluation, which does not change.
            channel_order: of an array: "RGB", or "BGR" for frames of OpenCV.

        Returns:
            Detections in pixels of the image, best first.

        Raises:
            TypeError: the image is of no accepted type.
            ValueError: an array of another shape, an empty image, an image that cannot be read
                (ImageReadError), an unknown ``channel_order`` or a threshold outside of [0, 1].
            ConfigError: one of detectron2's own detectors drops boxes above ``score_threshold``
                because of its config.
        """
        if not 0 <= score_threshold <= 1:
            raise ValueError(f"score_threshold must be between 0 and 1, got {score_threshold}.")
        pixels = as_rgb(image, channel_order, self.cfg.INPUT.APPLY_EXIF_ORIENTATION)
        height, width = pixels.shape[:2]
        inputs = {"image": self._to_model_input(pixels), "height": height, "width": width}
        instances = self._run_model(inputs, score_threshold).to("cpu")
        # Heads with centerness apply the threshold before it is multiplied into the scores.
        instances = instances[instances.scores > score_threshold]
        path = os.fspath(image) if isinstance(image, (str, os.PathLike)) else None
        return self._to_detections(instances, path)

    def _to_model_input(self, pixels: RGBImage) -> Tensor:
        """Convert to ``INPUT.FORMAT``, resize, and move the channels first: (C, H, W) float32."""
        image = convert_format(pixels, self.cfg.INPUT.FORMAT)
        image = self.resize.get_transform(image).apply_image(image)
        return torch.from_numpy(np.array(image.transpose(2, 0, 1), dtype=np.float32, order="C"))

    def _run_model(self, inputs: dict[str, object], score_threshold: float) -> Instances:
        core = find_dense_core(self.model)
        if core is not None and core is self.model:
            outputs = self.model.inference([inputs], score_thresh=score_threshold)
        else:
            self._require_reachable(score_threshold)
            outputs = self.model([inputs])
        return outputs[0]["instances"]

    def _require_reachable(self, score_threshold: float) -> None:
        """Check a threshold of detectron2's own detectors, which have one of their own."""
        if self.cfg.MODEL.META_ARCHITECTURE == "RetinaNet":
            key, lowest = "MODEL.RETINANET.SCORE_THRESH_TEST", self.cfg.MODEL.RETINANET
        elif hasattr(self.model, "roi_heads"):
            key, lowest = "MODEL.ROI_HEADS.SCORE_THRESH_TEST", self.cfg.MODEL.ROI_HEADS
        else:
            return
        if score_threshold < lowest.SCORE_THRESH_TEST:
            raise ConfigError(
                f"score_threshold {score_threshold} is below {key} "
                f"{lowest.SCORE_THRESH_TEST}, and the model drops detections below that. Lower "
                f"{key} in the config before building the detector."
            )

    def _to_detections(self, instances: Instances, path: str | None) -> Detections:
        class_ids = instances.pred_classes.numpy().astype(np.int64)
        names = self.class_names
        return Detections(
            xyxy=instances.pred_boxes.tensor.float().numpy(),
            confidence=instances.scores.float().numpy(),
            class_id=class_ids,
            class_names=[names[i] if i < len(names) else f"class {i}" for i in class_ids],
            image_size=instances.image_size,
            path=path,
            apply_orientation=self.cfg.INPUT.APPLY_EXIF_ORIENTATION,
        )
