"""The model; importing this registers its parts in detectron2's registries and our own."""

from .backbone import build_tood_resnet_fpn_backbone
from .dense_detector import DenseDetectorCore, find_dense_core
from .heads import DENSE_HEAD_REGISTRY, ParallelHead, TOODHead
from .meta_arch import TOOD
from .proposal_network import TOODProposalNetwork
from .roi_heads import TOODCascadeROIHeads, TOODStandardROIHeads
from .timm_backbone import build_timm_fpn_backbone
from .views import size_divisor

__all__ = [
    "DENSE_HEAD_REGISTRY",
    "TOOD",
    "DenseDetectorCore",
    "ParallelHead",
    "TOODCascadeROIHeads",
    "TOODHead",
    "TOODProposalNetwork",
    "TOODStandardROIHeads",
    "build_timm_fpn_backbone",
    "build_tood_resnet_fpn_backbone",
    "find_dense_core",
    "size_divisor",
]
