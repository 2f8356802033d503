"""MMDetection 3.3.0's TOOD as a peer to compare with, without mmcv's compiled code.

``pip install -e ".[mmdet]"`` installs mmdet, mmengine and mmcv-lite. mmcv's operators that TOOD
calls are torchvision's here, which are the same functions.
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

from tood.checkpoint.convert import convert
from tood.checkpoint.key_mapping import to_tood_keys
from tood.errors import ConfigError
from tools.reference.recipe import random_projection, recipe_tensor  # noqa: F401  (the tools share it)

# Our config -> the file that MMDetection 3.x has for the same model.
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
    """Stands in for mmcv's compiled module: every name is there, none can be called."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_: object, **__: object) -> None:
            raise RuntimeError(f"mmcv's compiled operator {name} is not here")

        return missing


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    if offset:
        raise ValueError("torchvision's suppression has no offset of one pixel")
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
    # Under autocast the arguments differ in type; torchvision's operator wants one.
    x, offset = x.to(weight.dtype), offset.to(weight.dtype)
    mask = None if mask is None else mask.to(weight.dtype)
    return torchvision.ops.deform_conv2d(x, offset, weight, bias, stride, padding, dilation, mask)


def _deform_conv2d(x: Tensor, offset: Tensor, weight: Tensor, *geometry: int) -> Tensor:
    return _modulated_deform_conv2d(x, offset, None, weight, None, *geometry)


def import_mmdet() -> ModuleType:
    """Import mmdet with torchvision's operators in the places of mmcv's.

    Raises:
        ConfigError: it is not installed.
    """
    if importlib.util.find_spec("mmdet") is None or importlib.util.find_spec("mmcv") is None:
        raise ConfigError('MMDetection is not installed: pip install -e ".[mmdet]"')
    if importlib.util.find_spec("mmcv._ext") is None:
        extension = _NoExtension("mmcv._ext")
        extension.__spec__ = ModuleSpec("mmcv._ext", None)
        sys.modules["mmcv._ext"] = extension
    import mmdet
    from mmcv.ops import modulated_deform_conv
    from mmdet.models.dense_heads import tood_head
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    sys.modules["mmcv.ops.nms"].ext_module.nms = _nms  # mmcv.ops.nms is the function in it
    modulated_deform_conv.modulated_deform_conv2d = _modulated_deform_conv2d
    tood_head.deform_conv2d = _deform_conv2d
    return mmdet


def mmdet_weights(path: str | None, model: nn.Module) -> dict[str, Tensor]:
    """Weights with MMDetection's names: a file's, or the recipe's for this model."""
    if path is not None:
        return convert(path, "mmdet")
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    return {key: torch.from_numpy(recipe_tensor(key, s)) for key, s in shapes.items()}


def peer_of(name: str, model: nn.Module, path: str | None = None) -> "MMDetTOOD":
    """MMDetection's model of a config; it and ours get the same weights.

    Args:
        name: of the config.
        model: ours.
        path: of the weights; None for the recipe's.
    """
    peer = MMDetTOOD(name)
    weights = mmdet_weights(path, peer.model)
    peer.load(weights)
    model.load_state_dict(to_tood_keys(weights, "mmdet")[0])
    return peer


@contextlib.contextmanager
def precision(dtype: torch.dtype) -> Iterator[None]:
    """Run everything in this type, also what asks for ``torch.float`` or ``Tensor.float()``."""
    original = torch.Tensor.float
    torch.set_default_dtype(dtype)
    torch.float = dtype
    torch.Tensor.float = lambda self, *_, **__: self.to(dtype)
    try:
        yield
    finally:
        torch.Tensor.float = original
        torch.float = torch.float32
        torch.set_default_dtype(torch.float32)


class MMDetTOOD:
    """MMDetection's model of one of our configs.

    Args:
        name: of our config, without ".yaml"; a key of :data:`MMDET_CONFIGS`.
    """

    def __init__(self, name: str) -> None:
        mmdet = import_mmdet()
        from mmengine import Config, MessageHub
        from mmengine.registry import MODELS

        if name not in MMDET_CONFIGS:
            raise ConfigError(f"{name} is none of the published models: {list(MMDET_CONFIGS)}")
        folder = Path(mmdet.__file__).parent / ".mim" / "configs" / "tood"
        self.cfg = Config.fromfile(str(folder / MMDET_CONFIGS[name]))
        self.cfg.model.backbone.init_cfg = None
        self.model: nn.Module = MODELS.build(self.cfg.model)
        self._hub = MessageHub.get_instance("tood_peer")

    @property
    def head(self) -> nn.Module:
        """Its head."""
        return self.model.bbox_head

    def load(self, weights: dict[str, Tensor]) -> None:
        """Load weights with MMDetection's names; every key must fit."""
        self.model.load_state_dict(weights, strict=True)

    def to(self, dtype: torch.dtype) -> None:
        """Convert the model, and the anchors that it makes."""
        self.model.to(dtype)
        generator = self.head.prior_generator
        generator.grid_priors = functools.partial(
            type(generator).grid_priors, generator, dtype=dtype
        )

    def set_phase(self, phase: str) -> None:
        """The epoch that our ``"warmup"`` or ``"aligned"`` stands for."""
        self._hub.update_info("epoch", 0 if phase == "warmup" else self.head.initial_epoch)

    def preprocess(
        self, images: list[np.ndarray], boxes: list[Tensor] | None = None, classes: Any = None
    ) -> tuple[Tensor, list]:
        """Normalize and pad a batch, as MMDetection does.

        Args:
            images: BGR, (H, W, 3), uint8.
            boxes: ground truth of each, (M, 4).
            classes: (M,) of each.

        Returns:
            The batch (N, 3, H, W), and its data samples.
        """
        from mmdet.structures import DetDataSample
        from mmengine.structures import InstanceData

        samples = []
        for i, image in enumerate(images):
            sample = DetDataSample(metainfo={"img_shape": image.shape[:2], "scale_factor": (1, 1)})
            if boxes is not None:
                sample.gt_instances = InstanceData(bboxes=boxes[i], labels=classes[i])
                sample.ignored_instances = InstanceData(bboxes=boxes[i][:0], labels=classes[i][:0])
            samples.append(sample)
        inputs = [torch.from_numpy(image.transpose(2, 0, 1).copy()) for image in images]
        data = self.model.data_preprocessor({"inputs": inputs, "data_samples": samples})
        return data["inputs"].to(next(self.model.parameters()).dtype), data["data_samples"]

    def normalize_losses(self, batch: Tensor, samples: list) -> dict[str, Tensor]:
        """``loss_cls`` and ``loss_box_reg`` as our model returns them."""
        losses = self.model.loss(batch, samples)
        return {"loss_cls": sum(losses["loss_cls"]), "loss_box_reg": sum(losses["loss_bbox"])}

    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the config."""
        from mmengine.optim import build_optim_wrapper

        return build_optim_wrapper(self.model, self.cfg.optim_wrapper).optimizer
