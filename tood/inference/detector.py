"""Detection on single images, by a model given as a name, a folder, a config or a file."""

import os

import detectron2.data.transforms as T
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from torch import Tensor, nn

from tood_runtime.detections import Detections
from tood_runtime.image_io import ImageInput, RGBImage, as_rgb
from tood_runtime.model_files import is_model_file

from ..checkpoint import load_model
from ..config.device import resolve_device
from ..data.registration import class_info
from ..data.transforms import ResizeShortestEdge, convert_format
from ..errors import ConfigError
from ..model_zoo import resolve
from ..modeling import find_dense_core
from .exported_model import ExportedModel


class Detector:
    """Detects objects in one image at a time.

    Construct it with :meth:`from_pretrained` or :meth:`from_config`::

        detector = Detector.from_pretrained("TOOD-R50-1x")
        detections = detector("street.jpg", score_threshold=0.4)
        detections.draw().save("street_detections.jpg")

    Images are resized as in evaluation, by ``INPUT.MIN_SIZE_TEST`` and ``INPUT.MAX_SIZE_TEST``, and
    are converted to ``INPUT.FORMAT``.

    Exported files work like weights, with the same results. Only ``model`` is another class then,
    which has no parameters, and ``cfg`` is the config that the file was exported from.

    Args:
        model: a trained model in evaluation mode, or an exported file as
            `tood.inference.ExportedModel`.
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
        self.resize: T.Augmentation
        if isinstance(model, ExportedModel):
            self.class_names = list(model.info.class_names)
            self.category_ids = list(model.info.category_ids)
            self.resize = model.resize
        else:
            self.class_names, self.category_ids = class_info(cfg)
            sizes = [cfg.INPUT.MIN_SIZE_TEST] * 2
            self.resize = ResizeShortestEdge(sizes, cfg.INPUT.MAX_SIZE_TEST)

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
            name_or_path: a name of the model zoo, the folder of a training run, a config file, a
                checkpoint that a training of this project wrote, or a file that ``tood export``
                wrote (.onnx, .xml, .torchscript, .pt2). Both hold their config and classes.
            weights: file or URL of the weights, or an exported file; by default those of the model
                zoo or the run, for a config file its ``MODEL.WEIGHTS``.
            device: "cpu", "cuda" or "cuda:N"; "auto" is the config's device, and the CPU for an
                exported file. Without a GPU, the CPU replaces any of them.

        Raises:
            ConfigError: an unknown name, a config that does not fit, an unavailable device, or
                ``weights`` together with an exported file.
            CheckpointError: the weights are missing or do not match the model.
            ModelFileError: an exported file is missing or damaged, was not written by ``tood
                export``, or needs a runtime that is not installed.
            DataError: the config has no class names, and the file in
                ``DATASETS.TEST_ANNOTATIONS``, which has them, is invalid.
        """
        resolved = resolve(name_or_path)
        if resolved.exported is not None and weights is not None:
            raise ConfigError(
                f"{os.fspath(name_or_path)} is an exported model, which holds its weights. Leave "
                "weights out, or name the config that they belong to."
            )
        opts = [] if device == "auto" else ["MODEL.DEVICE", device]
        cfg = resolved.load_config(opts)
        if weights is None:
            weights = resolved.require_weights()
        if weights is not None:
            cfg.MODEL.WEIGHTS = os.fspath(weights)
        return cls.from_config(cfg)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "Detector":
        """Build the model of a config and load ``MODEL.WEIGHTS``, which may be an exported file.

        Args:
            cfg: not changed. Without a GPU, the CPU replaces its ``MODEL.DEVICE``.

        Raises:
            ConfigError: the config does not fit the model, or the device is unavailable.
            CheckpointError: the weights are missing or do not match the model.
            ModelFileError: see :meth:`from_pretrained`.
            DataError: see :meth:`from_pretrained`.
        """
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.DEVICE = resolve_device(cfg.MODEL.DEVICE)
        exported = is_model_file(cfg.MODEL.WEIGHTS)
        return cls(ExportedModel.from_config(cfg) if exported else load_model(cfg), cfg)

    @torch.no_grad()
    def __call__(
        self, image: ImageInput, *, score_threshold: float = 0.3, channel_order: str = "RGB"
    ) -> Detections:
        """Detect objects.

        Args:
            image: a path, a PIL image, or a (H, W, 3) uint8 array. The EXIF orientation of files
                and PIL images is applied unless ``INPUT.APPLY_EXIF_ORIENTATION`` is False.
            score_threshold: detections score more than this. Any value from 0 to 1 works, whatever
                the config's threshold for evaluation, which does not change; only exported files
                with NMS inside find nothing below theirs.
            channel_order: of an array: "RGB", or "BGR" for frames of OpenCV.

        Returns:
            Detections in pixels of the image, best first.

        Raises:
            TypeError: the image is of no accepted type.
            ValueError: an array of another shape, an empty image, an image that cannot be read
                (ImageReadError), an unknown ``channel_order`` or a threshold outside of [0, 1].
            ConfigError: an exported file, or one of detectron2's own detectors because of its
                config, drops boxes above ``score_threshold``.
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
        takes_threshold = find_dense_core(self.model) is self.model
        if takes_threshold or isinstance(self.model, ExportedModel):
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
