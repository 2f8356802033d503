"""MMDetection 3.3.0's TOOD as the reference, without mmcv's compiled extension.

``pip install -e ".[mmdet]"`` installs mmdet, mmengine and mmcv-lite. The mmcv operators that TOOD
calls are replaced by torchvision's, which compute the same functions.
"""

import contextlib
import functools
import importlib.util
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from tood.checkpoint.convert import convert_checkpoint
from tood.checkpoint.key_mapping import to_tood_keys
from tood.errors import ConfigError
from tools.reference.recipe import recipe_tensor

# Our config -> MMDetection 3.x's config file of the same model.
MMDET_CONFIGS = {
    "TOOD-R50-1x": "tood_r50_fpn_1x_coco.py",
    "TOOD-R50-AnchorBased-1x": "tood_r50_fpn_anchor-based_1x_coco.py",
    "TOOD-R50-2x": "tood_r50_fpn_ms-2x_coco.py",
    "TOOD-R101-2x": "tood_r101_fpn_ms-2x_coco.py",
    "TOOD-R101-DCN-2x": "tood_r101-dconv-c3-c5_fpn_ms-2x_coco.py",
    "TOOD-X101-64x4d-2x": "tood_x101-64x4d_fpn_ms-2x_coco.py",
    "TOOD-X101-64x4d-DCN-2x": "tood_x101-64x4d-dconv-c4-c5_fpn_ms-2x_coco.py",
}


class _NoExtension(ModuleType):
    """Stands in for mmcv's compiled module: every name exists, none can be called."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_: object, **__: object) -> None:
            raise RuntimeError(f"mmcv's compiled operator {name} is not available")

        return missing


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    if offset:
        raise ValueError("torchvision's NMS has no offset of one pixel")
    return torchvision.ops.nms(boxes, scores, iou_threshold)


def _modulated_deform_conv2d(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: int,
    dilation: int,
    *_groups: int,
) -> Tensor:
    # Under autocast the arguments differ in dtype, which torchvision's operator does not accept.
    x, offset = x.to(weight.dtype), offset.to(weight.dtype)
    mask = None if mask is None else mask.to(weight.dtype)
    return torchvision.ops.deform_conv2d(x, offset, weight, bias, stride, padding, dilation, mask)


def _deform_conv2d(x: Tensor, offset: Tensor, weight: Tensor, *geometry: int) -> Tensor:
    return _modulated_deform_conv2d(x, offset, None, weight, None, *geometry)


def import_mmdet() -> ModuleType:
    """Import mmdet, with torchvision's operators in place of mmcv's.

    Raises:
        ConfigError: MMDetection is not installed.
    """
    if importlib.util.find_spec("mmdet") is None or importlib.util.find_spec("mmcv") is None:
        raise ConfigError('MMDetection is not installed. Run: pip install -e ".[mmdet]"')
    if importlib.util.find_spec("mmcv._ext") is None:
        extension = _NoExtension("mmcv._ext")
        extension.__spec__ = ModuleSpec("mmcv._ext", None)
        sys.modules["mmcv._ext"] = extension
    import mmdet
    from mmcv.ops import modulated_deform_conv
    from mmdet.models.dense_heads import tood_head
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    sys.modules["mmcv.ops.nms"].ext_module.nms = _nms  # the module; mmcv.ops.nms is its function
    modulated_deform_conv.modulated_deform_conv2d = _modulated_deform_conv2d
    tood_head.deform_conv2d = _deform_conv2d
    return mmdet


def build_reference(name: str, model: nn.Module, path: str | None = None) -> "MMDetTOOD":
    """Build MMDetection's model of a config, and give it and ours the same weights.

    Args:
        name: of the config; see :class:`MMDetTOOD`.
        model: ours.
        path: file or URL of the weights; None for random ones by :mod:`tools.reference.recipe`.

    Raises:
        ConfigError: MMDetection is not installed.
    """
    reference = MMDetTOOD(name)
    if path is not None:
        weights = convert_checkpoint(path, "mmdet").state_dict
    else:
        weights = {
            key: torch.from_numpy(recipe_tensor(key, value.shape))
            for key, value in reference.model.state_dict().items()
        }
    reference.model.load_state_dict(weights, strict=True)
    model.load_state_dict(to_tood_keys(weights, "mmdet")[0])
    return reference


@contextlib.contextmanager
def precision(dtype: torch.dtype) -> Iterator[None]:
    """Compute everything in this dtype, even code that asks for torch.float or Tensor.float()."""
    tensor_class: Any = torch.Tensor  # mypy forbids assigning to methods
    original = tensor_class.float
    torch.set_default_dtype(dtype)
    torch.float = dtype
    tensor_class.float = lambda self, *_, **__: self.to(dtype)
    try:
        yield
    finally:
        tensor_class.float = original
        torch.float = torch.float32
        torch.set_default_dtype(torch.float32)


def convert_priors(generator: Any, dtype: torch.dtype) -> None:
    """Make MMDetection's generator of anchors or points return another dtype.

    Args:
        generator: a head's ``prior_generator``, changed in place.
        dtype: instead of float32.
    """
    for name in ("grid_priors", "single_level_grid_priors"):
        method = getattr(type(generator), name)
        setattr(generator, name, functools.partial(method, generator, dtype=dtype))


class MMDetTOOD:
    """MMDetection's model of one of our configs.

    Args:
        name: of our config without ".yaml", a key of :data:`MMDET_CONFIGS`.

    Raises:
        ConfigError: MMDetection is not installed, or has no such model.
    """

    def __init__(self, name: str) -> None:
        mmdet = import_mmdet()
        from mmengine import Config, MessageHub
        from mmengine.registry import MODELS

        if name not in MMDET_CONFIGS:
            raise ConfigError(f"Unknown model {name!r}. Available: {', '.join(MMDET_CONFIGS)}")
        folder = Path(mmdet.__file__).parent / ".mim" / "configs" / "tood"
        self.cfg = Config.fromfile(str(folder / MMDET_CONFIGS[name]))
        self.cfg.model.backbone.init_cfg = None
        self.model: Any = MODELS.build(self.cfg.model)
        self._hub = MessageHub.get_instance("tood_reference")

    @property
    def head(self) -> Any:
        """The head."""
        return self.model.bbox_head

    def to(self, dtype: torch.dtype) -> None:
        """Convert the model, and the anchors that it generates."""
        self.model.to(dtype)
        convert_priors(self.head.prior_generator, dtype)

    def set_phase(self, phase: str) -> None:
        """Set the epoch that our ``"warmup"`` or ``"aligned"`` stands for."""
        self._hub.update_info("epoch", 0 if phase == "warmup" else self.head.initial_epoch)

    def preprocess(
        self, images: list[np.ndarray], boxes: list[Tensor], classes: list[Tensor]
    ) -> tuple[Tensor, list]:
        """Normalize and pad a batch as MMDetection does.

        Args:
            images: (H, W, 3) uint8, RGB.
            boxes: GT boxes (M, 4) of each.
            classes: GT classes (M,) of each.

        Returns:
            The batch (N, 3, H, W), and its data samples.
        """
        from mmdet.structures import DetDataSample
        from mmengine.structures import InstanceData

        samples = []
        for image, gt_boxes, gt_classes in zip(images, boxes, classes, strict=True):
            sample = DetDataSample(metainfo={"img_shape": image.shape[:2], "scale_factor": (1, 1)})
            sample.gt_instances = InstanceData(bboxes=gt_boxes, labels=gt_classes)
            sample.ignored_instances = InstanceData(bboxes=gt_boxes[:0], labels=gt_classes[:0])
            samples.append(sample)
        # MMDetection reads BGR and converts.
        inputs = [torch.from_numpy(image[..., ::-1].transpose(2, 0, 1).copy()) for image in images]
        data = self.model.data_preprocessor({"inputs": inputs, "data_samples": samples})
        return data["inputs"].to(next(self.model.parameters()).dtype), data["data_samples"]

    def losses(self, batch: Tensor, samples: list) -> dict[str, Tensor]:
        """``loss_cls`` and ``loss_box_reg``, summed over levels as our model returns them."""
        losses = self.model.loss(batch, samples)
        return {"loss_cls": sum(losses["loss_cls"]), "loss_box_reg": sum(losses["loss_bbox"])}

    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the config."""
        from mmengine.optim import build_optim_wrapper

        return build_optim_wrapper(self.model, self.cfg.optim_wrapper).optimizer
