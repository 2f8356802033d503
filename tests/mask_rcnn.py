"""A narrow Mask R-CNN of detectron2, for what this project does with masks."""

from detectron2.config import CfgNode

from tests.conftest import make_tiny_cfg
from tests.helpers import ROOT
from tood.config.imports import import_custom


def make_mask_rcnn_cfg() -> CfgNode:
    """5 classes and images of at most 96 pixels, on the CPU; built in a moment."""
    import_custom(str(ROOT / "tests/tiny_backbone.py"))
    cfg = make_tiny_cfg()
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    cfg.MODEL.BACKBONE.NAME = "build_tiny_backbone"
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "RPN"
    cfg.MODEL.RPN.IN_FEATURES = cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p3", "p4", "p5"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32], [64]]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[0.5, 1.0, 2.0]]
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 5
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.ROI_BOX_HEAD.NAME, cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = "FastRCNNConvFCHead", 3
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC, cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 1, 32
    cfg.MODEL.ROI_MASK_HEAD.NAME, cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION = (
        "MaskRCNNConvUpsampleHead",
        7,
    )
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV, cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 1, 16
    cfg.MODEL.TOOD.CLASS_NAMES = ["ant", "bee", "cat", "dog", "elk"]
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = (64,), 64, 96
    return cfg
