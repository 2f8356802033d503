"""Two-stage models that are built in a moment."""

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from tood.modeling import TOOD, TOODProposalNetwork


def to_two_stage(cfg: CfgNode, roi_heads: str = "TOODStandardROIHeads") -> CfgNode:
    """Make a narrow config of TOOD one of Faster R-CNN or Cascade R-CNN on its proposals."""
    model = cfg.MODEL
    model.META_ARCHITECTURE = "GeneralizedRCNN"
    model.PROPOSAL_GENERATOR.NAME = "TOODProposalNetwork"
    model.ROI_HEADS.NAME = roi_heads
    model.ROI_HEADS.NUM_CLASSES = model.TOOD.NUM_CLASSES
    model.ROI_HEADS.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]
    model.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 16
    box = model.ROI_BOX_HEAD
    box.NAME, box.NUM_FC, box.FC_DIM, box.POOLER_RESOLUTION = "FastRCNNConvFCHead", 1, 16, 3
    box.CLS_AGNOSTIC_BBOX_REG = "Cascade" in roi_heads
    mask = model.ROI_MASK_HEAD
    mask.NAME, mask.NUM_CONV, mask.CONV_DIM = "MaskRCNNConvUpsampleHead", 1, 8
    mask.POOLER_RESOLUTION = 4
    model.ROI_KEYPOINT_HEAD.CONV_DIMS = [8]
    return cfg


def copy_first_stage(source: TOOD, target: nn.Module) -> TOODProposalNetwork:
    """Give a two-stage model a detector's weights."""
    target.backbone.load_state_dict(source.backbone.state_dict())
    target.proposal_generator.head.load_state_dict(source.head.state_dict())
    return target.proposal_generator


def build_both(cfg: CfgNode) -> tuple[TOOD, nn.Module]:
    """A detector, and a two-stage model with its weights in the first stage."""
    one_stage = build_model(cfg)
    two_stage = build_model(to_two_stage(cfg))
    copy_first_stage(one_stage, two_stage)
    return one_stage, two_stage
