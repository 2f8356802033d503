"""The model; importing this registers it in detectron2's registries."""

from .backbone import build_tood_resnet_fpn_backbone
from .heads import DENSE_HEAD_REGISTRY, ParallelHead, TOODHead
from .meta_arch import TOOD

__all__ = [
    "DENSE_HEAD_REGISTRY",
    "TOOD",
    "ParallelHead",
    "TOODHead",
    "build_tood_resnet_fpn_backbone",
]
