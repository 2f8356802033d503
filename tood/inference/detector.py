"""Detection by a model given as a name, a folder, a config or a file."""

import os

import detectron2.data.transforms as T
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from torch import Tensor, nn

from tood_runtime.image_detector import ImageDetector
from tood_runtime.image_io import ImageInput, RGBImage
from tood_runtime.model_files import is_model_file
from tood_runtime.nms import Candidates
from tood_runtime.postprocessing import finalize
from tood_runtime.prediction import OptionError, PredictionSettings, PreparedImage
from tood_runtime.preprocessing import padded_size, round_up

from ..checkpoint import load_model
from ..config.device import resolve_device
from ..data.registration import class_info
from ..data.transforms import ResizeShortestEdge, convert_format
from ..errors import ConfigError
from ..model_zoo import resolve
from ..modeling import find_dense_core, size_divisor
from .exported_model import ExportedModel

# Of NMS in models of other projects, where it is needed to join views.
_OTHER_NMS_THRESHOLD = 0.5


class Detector(ImageDetector["ImageInput | Tensor"]):
    """Detects objects in images.

    Construct it with :meth:`from_pretrained` or :meth:`from_config`, call it with an image, or
    :meth:`predict` many::

        detector = Detector.from_pretrained("TOOD-R50-1x")
        detections = detector("street.jpg", score_threshold=0.4)
        detections.draw().save("street_detections.jpg")
        for detections in detector.predict("images/", batch_size=8):
            print(detections.path, len(detections))

    Images are resized as in evaluation, by ``INPUT.MIN_SIZE_TEST`` and ``INPUT.MAX_SIZE_TEST``, and
    are converted to ``INPUT.FORMAT``. Tensors are taken too: (3, H, W) uint8.

    Exported files work like weights, with the same results. Only ``model`` is another class then,
    which has no parameters, and ``cfg`` is the config that the file was exported from.

    Args:
        model: a trained model in evaluation mode, or an exported file as
            `tood.inference.ExportedModel`.
        cfg: the config that it was built from.
        channel_order: see :meth:`from_pretrained`.

    Raises:
        DataError: see :meth:`from_pretrained`.
        ValueError: an unknown ``channel_order``.

    Attributes:
        model: the model.
        cfg: a copy of its config.
        class_names: by class index.
        category_ids: ids in COCO-format files, by class index.
        channel_order: of arrays and tensors that come without one.
        resize: detectron2's augmentation that resizes a (H, W, C) array.
    """

    def __init__(self, model: nn.Module, cfg: CfgNode, *, channel_order: str = "RGB") -> None:
        exported = isinstance(model, ExportedModel)
        names, ids = (
            (model.info.class_names, model.info.category_ids) if exported else class_info(cfg)
        )
        super().__init__(
            names,
            ids,
            channel_order=channel_order,
            apply_orientation=cfg.INPUT.APPLY_EXIF_ORIENTATION,
        )
        self.fixed_batch_size = model.info.batch if exported else None
        self.model = model
        self.cfg = cfg.clone()
        self.resize: T.Augmentation = (
            model.resize
            if exported
            else ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)
        )

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        *,
        weights: str | os.PathLike[str] | None = None,
        device: str = "auto",
        channel_order: str = "RGB",
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
            channel_order: of arrays and tensors: "RGB", or "BGR" for frames of OpenCV. An array
                cannot tell; a wrong order gives worse detections.

        Raises:
            ConfigError: an unknown name, a config that does not fit, an unavailable device, or
                ``weights`` together with an exported file.
            CheckpointError: the weights are missing or do not match the model.
            ModelFileError: an exported file is missing or damaged, was not written by ``tood
                export``, or needs a runtime that is not installed.
            DataError: the config has no class names, and the file in
                ``DATASETS.TEST_ANNOTATIONS``, which has them, is invalid.
            ValueError: an unknown ``channel_order``.
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
        return cls.from_config(cfg, channel_order=channel_order)

    @classmethod
    def from_config(cls, cfg: CfgNode, *, channel_order: str = "RGB") -> "Detector":
        """Build the model of a config and load ``MODEL.WEIGHTS``, which may be an exported file.

        Args:
            cfg: not changed. Without a GPU, the CPU replaces its ``MODEL.DEVICE``.
            channel_order: see :meth:`from_pretrained`.

        Raises:
            ConfigError: the config does not fit the model, or the device is unavailable.
            CheckpointError: the weights are missing or do not match the model.
            ModelFileError: see :meth:`from_pretrained`.
            DataError: see :meth:`from_pretrained`.
            ValueError: an unknown ``channel_order``.
        """
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.DEVICE = resolve_device(cfg.MODEL.DEVICE)
        exported = is_model_file(cfg.MODEL.WEIGHTS)
        model = ExportedModel.from_config(cfg) if exported else load_model(cfg)
        return cls(model, cfg, channel_order=channel_order)

    @property
    def nms_threshold(self) -> float:
        """The model's own IoU threshold of NMS."""
        if isinstance(self.model, ExportedModel):
            return self.model.info.nms_threshold
        if self._is_dense():
            return self.model.test_nms_thresh
        node = self._threshold_node()
        return _OTHER_NMS_THRESHOLD if node is None else self.cfg.MODEL[node].NMS_THRESH_TEST

    def require_settings(self, settings: PredictionSettings) -> None:
        """Check options against what exported files and detectron2's own detectors can do.

        Raises:
            ConfigError: the model drops detections that score more than the threshold.
            OptionError: the model cannot have another NMS, or more detections.
        """
        if isinstance(self.model, ExportedModel):
            self.model.require_settings(settings)
            return
        if self._is_dense():
            return
        node = self._threshold_node()
        if node is not None:
            self._require_threshold(settings.score_threshold, node)
        joined = settings.has_views  # nms is then about joining the views
        if settings.nms_threshold is not None or (settings.nms != "per-class" and not joined):
            raise OptionError(
                "nms and nms_threshold are options of TOOD models. Set "
                f"MODEL.{node or '...'}.NMS_THRESH_TEST in the config before building the detector."
            )
        limit = self.cfg.TEST.DETECTIONS_PER_IMAGE
        if (settings.max_detections or 0) > limit and not joined:
            raise OptionError(
                f"max_detections {settings.max_detections} is more than TEST.DETECTIONS_PER_IMAGE "
                f"{limit}. Raise that in the config before building the detector."
            )

    def _require_threshold(self, score_threshold: float, node: str) -> None:
        key, lowest = f"MODEL.{node}.SCORE_THRESH_TEST", self.cfg.MODEL[node].SCORE_THRESH_TEST
        if score_threshold < lowest:
            raise ConfigError(
                f"score_threshold {score_threshold} is below {key} {lowest}, and the model drops "
                f"detections below that. Lower {key} in the config before building the detector."
            )

    def _is_dense(self) -> bool:
        """Whether the model is this project's meta-architecture."""
        return find_dense_core(self.model) is self.model

    def _threshold_node(self) -> str | None:
        """The config node with the thresholds of a detector of detectron2; None if not known."""
        if hasattr(self.model, "roi_heads"):
            return "ROI_HEADS"
        return "RETINANET" if self.cfg.MODEL.META_ARCHITECTURE == "RetinaNet" else None

    def _describe_model(self) -> str:
        if isinstance(self.model, ExportedModel):
            return self.model.backend.name
        return f"{self.cfg.MODEL.META_ARCHITECTURE} on {self.cfg.MODEL.DEVICE}"

    def to_rgb(self, image: ImageInput | Tensor, channel_order: str) -> RGBImage:
        """Return an image as a (H, W, 3) uint8 RGB array; see :meth:`__call__`."""
        if isinstance(image, Tensor):
            image = _tensor_to_array(image)
        return super().to_rgb(image, channel_order)

    def _resize(self, pixels: RGBImage) -> RGBImage:
        image = convert_format(pixels, self.cfg.INPUT.FORMAT)
        return self.resize.get_transform(image).apply_image(image)

    def _padded_size(self, height: int, width: int) -> tuple[int, int]:
        if isinstance(self.model, ExportedModel):
            return padded_size(height, width, self.model.info)
        divisor = size_divisor(self.model)
        return round_up(height, divisor), round_up(width, divisor)

    @torch.no_grad()
    def _run(self, batch: list[PreparedImage], settings: PredictionSettings) -> list[Candidates]:
        inputs = [
            {
                "image": _to_tensor(prepared.pixels),
                "height": prepared.original_size[0],
                "width": prepared.original_size[1],
            }
            for prepared in batch
        ]
        model = self.model
        if isinstance(model, ExportedModel):
            return model.detect(inputs, settings)
        if not self._is_dense():
            return [_to_candidates(output["instances"]) for output in model(inputs)]
        if settings.is_plain:
            outputs = model.inference(inputs, score_thresh=settings.score_threshold)
            return [_to_candidates(output["instances"]) for output in outputs]
        found = model.image_candidates(inputs, settings.score_threshold, settings.class_ids)
        return [
            finalize(
                Candidates(
                    candidates.boxes.float().cpu().numpy(),
                    candidates.scores.float().cpu().numpy(),
                    candidates.classes.cpu().numpy(),
                ),
                settings,
                nms_threshold=model.test_nms_thresh,
                max_detections=model.max_detections_per_image,
                image_size=(prepared.pixels.shape[0], prepared.pixels.shape[1]),
                original_size=prepared.original_size,
            )
            for candidates, prepared in zip(found, batch, strict=True)
        ]


def _to_tensor(pixels: RGBImage) -> Tensor:
    """(C, H, W) float32, 0 to 255."""
    return torch.from_numpy(np.array(pixels.transpose(2, 0, 1), dtype=np.float32, order="C"))


def _tensor_to_array(image: Tensor) -> RGBImage:
    """(3, H, W) uint8 to (H, W, 3)."""
    expected = "Expected a tensor as torchvision has images: (3, height, width), uint8"
    if image.dim() != 3 or image.shape[0] != 3:
        hint = ""
        if image.dim() == 3 and image.shape[2] == 3:
            hint = " Move the channels to the front: image.permute(2, 0, 1)."
        elif image.dim() == 4:
            hint = " Pass a batch to predict, as it is and not in a list."
        raise ValueError(f"{expected}; got the shape {tuple(image.shape)}.{hint}")
    if image.dtype != torch.uint8:
        hint = " Scale 0..1 to 0..255: (image * 255).round().byte()."
        hint = hint if image.dtype.is_floating_point else ""
        raise TypeError(f"{expected}; got {str(image.dtype).removeprefix('torch.')}.{hint}")
    return image.detach().permute(1, 2, 0).cpu().numpy()


def _to_candidates(instances: Instances) -> Candidates:
    instances = instances.to("cpu")
    return Candidates(
        instances.pred_boxes.tensor.float().numpy(),
        instances.scores.float().numpy(),
        instances.pred_classes.numpy().astype(np.int64),
    )
