"""An exported file in the place of a model: detectron2's inputs and outputs.

Shapes: **N** images of a batch, **D** detections, **R** points over all levels, **K** classes.
"""

import logging
from dataclasses import replace
from typing import Any

import detectron2.data.transforms as T
import numpy as np
import numpy.typing as npt
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from tood_runtime.backends import Backend, BackendError
from tood_runtime.model_info import ModelInfo
from tood_runtime.nms import Candidates
from tood_runtime.postprocessing import detections_of_image, require_possible
from tood_runtime.prediction import PredictionSettings
from tood_runtime.preprocessing import resized_size

from ..config.merging import get_value
from ..config.yaml_files import parse_config
from ..errors import ConfigError, DataError

logger = logging.getLogger(__name__)


class ExportedModel(nn.Module):
    """Runs an exported file on what detectron2's data loaders give.

    It takes and returns what a ``TOOD`` in evaluation mode does, so evaluators, ``Detector`` and
    ``inference_on_dataset`` need not know the difference. It has no parameters.

    Args:
        backend: the file, opened by its runtime.
        info: properties of the model; by default what the file says. The sizes of another one are
            those that images are resized to; its thresholds and limits have an effect for raw
            output only.

    Attributes:
        backend: likewise.
        info: likewise.
        resize: detectron2's augmentation that resizes a (H, W, C) array for the file.
    """

    def __init__(self, backend: Backend, info: ModelInfo | None = None) -> None:
        super().__init__()
        self.backend = backend
        self.info = backend.info if info is None else info
        self.resize: T.Augmentation = _ResizeToFit(self.info)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "ExportedModel":
        """Open the file that ``MODEL.WEIGHTS`` names, on ``MODEL.DEVICE``.

        Where its runtime has no GPU, the CPU replaces it, with a warning.

        Args:
            cfg: the config that images are read by.

        Raises:
            ModelFileError: the file is missing, damaged, or is not one of this project, or its
                runtime is not installed.
            ConfigError: the config has other values than are fixed in the file.
        """
        path, device = cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE
        if device == "cuda":  # each of several processes has a GPU of its own
            device = f"cuda:{torch.cuda.current_device()}"
        backend = _open_on(device, path)
        validate_config(cfg, backend.info, path)
        return cls(backend, _with_config(backend.info, cfg))

    @property
    def has_fixed_size(self) -> bool:
        """Whether images have to be resized with :attr:`resize`, not by the config's rule alone."""
        return self.info.height is not None or self.info.width is not None

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Instances]]:
        """Detect objects in a batch; see :meth:`inference`."""
        return self.inference(batched_inputs)

    def inference(
        self, batched_inputs: list[dict[str, Any]], score_thresh: float | None = None
    ) -> list[dict[str, Instances]]:
        """Detect objects in a batch.

        A file of a fixed batch size runs as often as needed; its last batch is filled up with
        copies of an image, whose detections are dropped.

        Args:
            batched_inputs: for each image a dict with "image", a (C, H, W) tensor in the file's
                channel order, 0 to 255, and optionally "height" and "width", the size that
                detections refer to.
            score_thresh: instead of the model's; it can be lower for raw output only.

        Returns:
            For each image ``{"instances": Instances(pred_boxes, scores, pred_classes)}``, best
            first, on the CPU.

        Raises:
            DataError: an image does not fit into a file of a fixed size.
            ConfigError: the file has NMS inside, and drops detections above ``score_thresh``.
        """
        if score_thresh is not None:
            self.require_threshold(score_thresh)
        settings = None if score_thresh is None else PredictionSettings(score_thresh)
        found = self.detect(batched_inputs, settings)
        return [
            {"instances": _to_instances(one, _wanted_size(x))}
            for one, x in zip(found, batched_inputs, strict=True)
        ]

    def detect(
        self, batched_inputs: list[dict[str, Any]], settings: PredictionSettings | None
    ) -> list[Candidates]:
        """The same as :meth:`inference`, with more options and as arrays.

        Args:
            batched_inputs: see :meth:`inference`.
            settings: which detections are kept; None for the file's own threshold.

        Returns:
            For each image its detections, best first.
        """
        batch = self.info.batch or max(len(batched_inputs), 1)
        found: list[Candidates] = []
        for start in range(0, len(batched_inputs), batch):
            found += self._run(batched_inputs[start : start + batch], settings)
        return found

    def require_settings(self, settings: PredictionSettings) -> None:
        """Check options against what the file has fixed inside.

        Raises:
            ConfigError: see :meth:`require_threshold`.
            OptionError: the file has NMS inside, and the options ask for another.
        """
        self.require_threshold(settings.score_threshold)
        require_possible(settings, self.info)

    def require_threshold(self, score_threshold: float) -> None:
        """Check a score threshold against the file's.

        Raises:
            ConfigError: the file has NMS inside, and drops detections that score more.
        """
        lowest = self.info.lowest_threshold
        if score_threshold < lowest:
            raise ConfigError(
                f"score_threshold {score_threshold} is below that of the exported file, {lowest}, "
                "which drops detections below that. Export the model with a lower "
                "MODEL.TOOD.SCORE_THRESH_TEST, or with --raw."
            )

    def _run(
        self, inputs: list[dict[str, Any]], settings: PredictionSettings | None
    ) -> list[Candidates]:
        """Run one batch of at most the file's size."""
        filled = [*inputs, *inputs[-1:] * ((self.info.batch or len(inputs)) - len(inputs))]
        sizes = [(int(x["image"].shape[1]), int(x["image"].shape[2])) for x in filled]
        wanted = [_wanted_size(x) for x in filled]
        images = self._stack([x["image"] for x in filled])
        outputs = self.backend.run(images, np.array(sizes, np.int64), np.array(wanted, np.int64))
        return [
            detections_of_image(
                outputs,
                index,
                self.info,
                input_size=(images.shape[2], images.shape[3]),
                image_size=sizes[index],
                original_size=wanted[index],
                settings=settings,
            )
            for index in range(len(inputs))
        ]

    def _stack(self, images: list[Tensor]) -> npt.NDArray[np.float32]:
        """Pad images on the right and at the bottom to one batch (N, C, H, W)."""
        size = (
            self.info.height or max(image.shape[1] for image in images),
            self.info.width or max(image.shape[2] for image in images),
        )
        for _, height, width in (image.shape for image in images):
            if height > size[0] or width > size[1]:
                raise DataError(
                    f"An image has {width}x{height} pixels after resizing, more than the "
                    f"{size[1]}x{size[0]} that the exported file takes. Resize images with "
                    "ExportedModel.resize, or export the model for any size."
                )
        batch = np.zeros((len(images), self.info.channels, *size), np.float32)
        for place, image in zip(batch, images, strict=True):
            place[:, : image.shape[1], : image.shape[2]] = image.cpu().numpy()
        return batch


def _wanted_size(x: dict[str, Any]) -> tuple[int, int]:
    """The (height, width) that detections refer to."""
    _, height, width = x["image"].shape
    return int(x.get("height", height)), int(x.get("width", width))


def _to_instances(found: Candidates, size: tuple[int, int]) -> Instances:
    instances = Instances(size)
    instances.pred_boxes = Boxes(torch.from_numpy(found.boxes))
    instances.scores = torch.from_numpy(found.scores)
    instances.pred_classes = torch.from_numpy(found.classes)
    return instances


def _open_on(device: str, path: str) -> Backend:
    """Open a file on a device, or on the CPU where its runtime lacks the device."""
    # Here, because weights need none of what tood.export imports.
    from ..export.torch_backends import open_any_backend

    threads = torch.get_num_threads()
    try:
        return open_any_backend(path, device=device, threads=threads)
    except BackendError as error:
        if device == "cpu":
            raise
        backend = open_any_backend(path, threads=threads)
        logger.warning("%s The CPU runs it now.", error)
        return backend


class _ResizeToFit(T.Augmentation):
    """The resize of a config, which a file of a fixed size scales further down if needed.

    Args:
        info: with the config's sizes.
    """

    def __init__(self, info: ModelInfo) -> None:
        super().__init__()
        self.info = info

    def get_transform(self, image: npt.NDArray[Any]) -> T.Transform:
        """Return the transform of an image (H, W, C)."""
        height, width = image.shape[:2]
        return T.ResizeTransform(height, width, *resized_size(height, width, self.info))


def _with_config(info: ModelInfo, cfg: CfgNode) -> ModelInfo:
    """The properties of a file, with those of a config that are not fixed in it."""
    info = replace(info, min_size=cfg.INPUT.MIN_SIZE_TEST, max_size=cfg.INPUT.MAX_SIZE_TEST)
    if info.output != "raw":
        return info
    return replace(
        info,
        score_threshold=cfg.MODEL.TOOD.SCORE_THRESH_TEST,
        nms_threshold=cfg.MODEL.TOOD.NMS_THRESH_TEST,
        topk_candidates=cfg.MODEL.TOOD.TOPK_CANDIDATES_TEST,
        max_detections=cfg.TEST.DETECTIONS_PER_IMAGE,
    )


def validate_config(cfg: CfgNode, info: ModelInfo, path: str) -> None:
    """Check a config against the values that are fixed in an exported file.

    Args:
        cfg: the config that images are read by.
        info: what the file says about its model.
        path: the file, for messages.

    Raises:
        ConfigError: a value that decides about the detections is another one in the file.
    """
    exported_from = parse_config(info.config, f"the config in {path}").get("MODEL", {})
    fixed: dict[str, Any] = {
        "INPUT.FORMAT": info.channel_order,
        "MODEL.PIXEL_MEAN": exported_from.get("PIXEL_MEAN"),
        "MODEL.PIXEL_STD": exported_from.get("PIXEL_STD"),
        "MODEL.TOOD.NUM_CLASSES": len(info.class_names),
    }
    if info.output != "raw":
        fixed |= {
            "MODEL.TOOD.SCORE_THRESH_TEST": info.score_threshold,
            "MODEL.TOOD.NMS_THRESH_TEST": info.nms_threshold,
            "MODEL.TOOD.TOPK_CANDIDATES_TEST": info.topk_candidates,
            "TEST.DETECTIONS_PER_IMAGE": info.max_detections,
        }
    for key, expected in fixed.items():
        value = get_value(cfg, key)
        if isinstance(value, tuple):
            value = list(value)
        if expected is not None and value != expected:
            raise ConfigError(
                f"{key} is {value}, but {path} was exported with {expected}, which cannot be "
                f"changed any more. Set {key} to that, or export the model again."
            )
