"""Detection by a model given as a name, a folder, a config or a file."""

import os
from contextlib import ExitStack

import detectron2.data.transforms as T
import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from tood_runtime.image_detector import ImageDetector
from tood_runtime.image_io import ImageInput, RGBImage
from tood_runtime.model_files import is_model_file
from tood_runtime.nms import Candidates
from tood_runtime.postprocessing import finalize
from tood_runtime.prediction import PredictionSettings, PreparedImage
from tood_runtime.preprocessing import padded_size, round_up

from ..checkpoint import load_model
from ..config.device import resolve_device
from ..data.registration import class_info
from ..data.transforms import ResizeShortestEdge, convert_format
from ..errors import ConfigError
from ..model_zoo import find_weights, resolve
from ..modeling import size_divisor
from .acceleration import autocast_dtype, compile_errors, compile_parts
from .augmentation import add_views, build_views, model_input, require_no_flip
from .exported_model import ExportedModel
from .model_limits import is_dense, nms_threshold_of, require_possible
from .tensors import instances_to_candidates, tensor_to_image, to_candidates
from .two_stage import (
    can_paste_later,
    detect_with_masks,
    instances_of,
    predicts_masks,
    warn_about_keypoints,
)


class Detector(ImageDetector["ImageInput | Tensor"]):
    """Detects objects in images.

    Construct it with :meth:`from_pretrained` or :meth:`from_config`, call it with an image, or
    :meth:`predict` many::

        detector = Detector.from_pretrained("TOOD-R50-1x")
        detections = detector("street.jpg", score_threshold=0.4)
        detections.draw().save("street_detections.jpg")
        for detections in detector.predict("images/", batch_size=8):
            print(detections.path, len(detections))

    Models of detectron2 with masks, such as Mask R-CNN, fill ``Detections.mask``.

    Images are resized as in evaluation, by ``INPUT.MIN_SIZE_TEST`` and ``INPUT.MAX_SIZE_TEST``, and
    are converted to ``INPUT.FORMAT``. Tensors are taken too: (3, H, W) uint8.

    Exported files work like weights, with the same results. Only ``model`` is another class then,
    which has no parameters, and ``cfg`` is the config that the file was exported from.

    Args:
        model: a trained model in evaluation mode, or an exported file as
            `tood.inference.ExportedModel`.
        cfg: the config that it was built from.
        channel_order: see :meth:`from_pretrained`.
        precision: likewise.
        compile: likewise.
        tta: likewise.

    Raises:
        ConfigError: a precision that the device or an exported file does not have, or test-time
            augmentation that the model does not have.
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

    def __init__(
        self,
        model: nn.Module,
        cfg: CfgNode,
        *,
        channel_order: str = "RGB",
        precision: str = "float32",
        compile: bool = False,
        tta: bool = False,
    ) -> None:
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
        if exported and (precision != "float32" or compile):
            raise ConfigError(
                "The precision of an exported file is fixed, and it cannot be compiled. Choose the "
                "precision when you export: tood export --half or --precision."
            )
        self._dtype = autocast_dtype(precision, cfg.MODEL.DEVICE)
        self._is_compiled = compile
        if compile:
            compile_parts(model)
        self.fixed_batch_size = model.info.batch if exported else None
        self.predicts_masks = predicts_masks(model)
        warn_about_keypoints(model)
        self.model = model
        self.cfg = cfg.clone()
        self._views = build_views(model, cfg) if tta else None
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
        precision: str = "float32",
        compile: bool = False,
        tta: bool = False,
    ) -> "Detector":
        """Load a trained model.

        Args:
            name_or_path: a name of the model zoo, the folder of a training run, a config file, a
                checkpoint that a training of this project wrote, or a file that ``tood export``
                wrote (.onnx, .xml, .torchscript, .pt2). Both hold their config and classes.
            weights: file or URL of the weights, the name of a published model, the folder of a
                training run, or an exported file; by default those of the model zoo or the run, for
                a config file its ``MODEL.WEIGHTS``.
            device: "cpu", "cuda" or "cuda:N"; "auto" is the config's device, and the CPU for an
                exported file. Without a GPU, the CPU replaces any of them.
            channel_order: of arrays and tensors: "RGB", or "BGR" for frames of OpenCV. An array
                cannot tell; a wrong order gives worse detections.
            precision: "float32"; "float16", for GPUs; or "bfloat16", for GPUs and those CPUs that
                compute in it (AMX, AVX-512 BF16). Others are slower with it.
            compile: let torch.compile translate the model. The first call then takes a minute.
            tta: test-time augmentation: look at each image in the sizes of ``TEST.AUG``, and their
                mirror images, and choose from what is found in all of them. The network then gets
                up to two views of each image of a batch at once.

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
        weights = resolved.require_weights() if weights is None else find_weights(weights)
        if weights is not None:
            cfg.MODEL.WEIGHTS = weights
        return cls.from_config(
            cfg, channel_order=channel_order, precision=precision, compile=compile, tta=tta
        )

    @classmethod
    def from_config(
        cls,
        cfg: CfgNode,
        *,
        channel_order: str = "RGB",
        precision: str = "float32",
        compile: bool = False,
        tta: bool = False,
    ) -> "Detector":
        """Build the model of a config and load ``MODEL.WEIGHTS``, which may be an exported file.

        Args:
            cfg: not changed. Without a GPU, the CPU replaces its ``MODEL.DEVICE``.
            channel_order: see :meth:`from_pretrained`.
            precision: likewise.
            compile: likewise.
            tta: likewise.

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
        return cls(
            model, cfg, channel_order=channel_order, precision=precision, compile=compile, tta=tta
        )

    @property
    def nms_threshold(self) -> float:
        """The model's own IoU threshold of NMS."""
        return nms_threshold_of(self.model, self.cfg)

    def require_settings(self, settings: PredictionSettings) -> None:
        """Check options against what exported files and detectron2's own detectors can do.

        Raises:
            ConfigError: the model drops detections that score more than the threshold.
            OptionError: the model cannot have another NMS, or more detections, or the image would
                be mirrored twice.
        """
        if self._views is not None:
            require_no_flip(self.cfg, settings)
        require_possible(self.model, self.cfg, settings)

    def _describe_model(self) -> str:
        if isinstance(self.model, ExportedModel):
            return self.model.backend.name
        return f"{self.cfg.MODEL.META_ARCHITECTURE} on {self.cfg.MODEL.DEVICE}"

    def to_rgb(self, image: ImageInput | Tensor, channel_order: str) -> RGBImage:
        """Return an image as a (H, W, 3) uint8 RGB array; see :meth:`__call__`."""
        if isinstance(image, Tensor):
            image = tensor_to_image(image)
        return super().to_rgb(image, channel_order)

    def _resize(self, pixels: RGBImage) -> RGBImage:
        image = convert_format(pixels, self.cfg.INPUT.FORMAT)
        return self.resize.get_transform(image).apply_image(image)

    def prepare(self, pixels: RGBImage) -> PreparedImage:
        """Resize a (H, W, 3) uint8 RGB image for the network; several threads may do so."""
        prepared = super().prepare(pixels)
        if self._views is None:
            return prepared
        return add_views(prepared, pixels, self._views, self.cfg.INPUT.FORMAT)

    def _padded_size(self, height: int, width: int) -> tuple[int, int]:
        if isinstance(self.model, ExportedModel):
            return padded_size(height, width, self.model.info)
        divisor = size_divisor(self.model)
        return round_up(height, divisor), round_up(width, divisor)

    @torch.no_grad()
    def _run(self, batch: list[PreparedImage], settings: PredictionSettings) -> list[Candidates]:
        device = torch.device(self.cfg.MODEL.DEVICE).type
        with ExitStack() as stack:
            # Also without one, whatever the caller is in.
            is_low = self._dtype is not None
            stack.enter_context(torch.autocast(device, self._dtype, enabled=is_low))
            if self._is_compiled:
                stack.enter_context(compile_errors())
            return self._run_model(batch, settings)

    def _run_model(
        self, batch: list[PreparedImage], settings: PredictionSettings
    ) -> list[Candidates]:
        inputs = [model_input(prepared) for prepared in batch]
        model = self.model
        if isinstance(model, ExportedModel):
            return model.detect(inputs, settings)
        if can_paste_later(model):
            return detect_with_masks(model, inputs, settings)
        if not is_dense(model):
            return [instances_to_candidates(instances_of(x, model)) for x in model(inputs)]
        if settings.is_plain:
            outputs = model.inference(inputs, score_thresh=settings.score_threshold)
            return [instances_to_candidates(output["instances"]) for output in outputs]
        found = model.image_candidates(inputs, settings.score_threshold, settings.class_ids)
        return [
            finalize(
                to_candidates(candidates),
                settings,
                nms_threshold=model.test_nms_thresh,
                max_detections=model.max_detections_per_image,
                image_size=(prepared.pixels.shape[0], prepared.pixels.shape[1]),
                original_size=prepared.original_size,
            )
            for candidates, prepared in zip(found, batch, strict=True)
        ]
