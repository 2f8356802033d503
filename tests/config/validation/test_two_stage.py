"""Values with which ROI heads cannot be built on TOOD's proposals, or learn nothing."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import (
    META_ARCH_REGISTRY,
    ROI_HEADS_REGISTRY,
    GeneralizedRCNN,
    build_model,
)
from detectron2.modeling.proposal_generator import build_proposal_generator

from tests.modeling.two_stage import to_two_stage
from tood.config.validation import validate_model, validate_test
from tood.errors import ConfigError
from tood.modeling import TOODProposalNetwork
from tood.modeling.roi_heads import TOODStandardROIHeads

STANDARD, CASCADE = "TOODStandardROIHeads", "TOODCascadeROIHeads"


@pytest.mark.parametrize(
    ("heads", "key", "value", "message"),
    [
        (STANDARD, "ROI_BOX_HEAD.NAME", "", "NAME ''. Available: FastRCNNConvFCHead"),
        (STANDARD, "ROI_BOX_HEAD.NAME", "ConvFCHead", "Unknown MODEL.ROI_BOX_HEAD.NAME"),
        (STANDARD, "ROI_BOX_HEAD.NUM_FC", 0, "the box head has no layers"),
        (STANDARD, "ROI_MASK_HEAD.NAME", "MaskHead", "Unknown MODEL.ROI_MASK_HEAD.NAME"),
        (STANDARD, "ROI_KEYPOINT_HEAD.NAME", "Points", "Unknown MODEL.ROI_KEYPOINT_HEAD.NAME"),
        (STANDARD, "ROI_HEADS.IN_FEATURES", [], "a non-empty list"),
        # Trains no second stage, with a loss of 0.
        (STANDARD, "ROI_HEADS.BATCH_SIZE_PER_IMAGE", 0, "an integer of at least 1"),
        (STANDARD, "ROI_HEADS.POSITIVE_FRACTION", 0.0, "above 0"),
        (STANDARD, "ROI_HEADS.SCORE_THRESH_TEST", 1.0, "nothing would be detected"),
        (STANDARD, "ROI_HEADS.NMS_THRESH_TEST", 1.5, "from 0 to 1"),
        (STANDARD, "PROPOSAL_GENERATOR.MIN_SIZE", 8, "does not remove small proposals"),
        (CASCADE, "ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", False, "one box for all classes"),
        (CASCADE, "ROI_HEADS.IOU_THRESHOLDS", [0.6], "the first stage has the IoU 0.5"),
        (CASCADE, "ROI_BOX_CASCADE_HEAD.IOUS", [0.5], "IOUS has 1 values, but BBOX_REG_WEIGHTS 3"),
    ],
)
def test_values(tiny_cfg, heads, key, value, message):
    cfg = to_two_stage(tiny_cfg, heads)
    cfg.MODEL.MASK_ON = cfg.MODEL.KEYPOINT_ON = True
    validate_model(cfg)
    node, _, name = key.partition(".")
    cfg.MODEL[node][name] = value
    with pytest.raises(ConfigError, match=message):
        validate_model(cfg)


@pytest.mark.parametrize(
    ("heads", "message"),
    [("Res5ROIHeads", "without an FPN. Use TOODStandardROIHeads"), ("RROIHeads", "needs rotated")],
)
def test_heads_of_other_proposals(tiny_cfg, heads, message):
    cfg = to_two_stage(tiny_cfg, heads)
    with pytest.raises(ConfigError, match=message):
        validate_model(cfg)


def test_parts_that_are_not_used(tiny_cfg):
    cfg = to_two_stage(tiny_cfg)
    cfg.MODEL.ROI_MASK_HEAD.NAME = cfg.MODEL.ROI_KEYPOINT_HEAD.NAME = "None of them"
    cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = False
    cfg.MODEL.ROI_HEADS.IOU_THRESHOLDS = [0.6]
    validate_model(cfg)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["p2", "p3"], r"lists \['p2'\], which the backbone .* Available: p3, p4, p5, p6, p7\."),
        (["res4"], r"lists \['res4'\]"),
        # detectron2 asserts something about pyramids.
        (["p3", "p5"], r"strides \[8, 32\]"),
        (["p7", "p6", "p5"], "the finest first"),
        # detectron2 does not notice it, and never pools from the second.
        (["p3", "p3", "p5"], r"strides \[8, 8, 32\]"),
    ],
)
def test_maps(tiny_cfg, names, message):
    """Which maps there are is known when the backbone is built."""
    cfg = to_two_stage(tiny_cfg)
    cfg.MODEL.ROI_HEADS.IN_FEATURES = names
    with pytest.raises(ConfigError, match=message):
        build_model(cfg)


@pytest.mark.parametrize("generator", ["TOODProposalNetwork", "RPN", "PrecomputedProposals"])
def test_heads_that_do_not_multiply_scores(tiny_cfg, generator):
    """Also with other proposals, where detectron2's heads would ignore the key."""
    cfg = to_two_stage(tiny_cfg, "StandardROIHeads")
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = generator
    cfg.MODEL.ROI_BOX_HEAD.MULT_PROPOSAL_SCORE = True
    with pytest.raises(ConfigError, match="StandardROIHeads does not read it"):
        validate_test(cfg)
    cfg.MODEL.ROI_HEADS.NAME = STANDARD
    validate_test(cfg)


def test_a_subclass_multiplies_scores(tiny_cfg, monkeypatch):
    class OwnHeads(TOODStandardROIHeads):
        """Heads of a user."""

    monkeypatch.setitem(ROI_HEADS_REGISTRY._obj_map, "OwnHeads", OwnHeads)
    cfg = to_two_stage(tiny_cfg, "OwnHeads")
    cfg.MODEL.ROI_BOX_HEAD.MULT_PROPOSAL_SCORE = True
    model = build_model(cfg)
    assert isinstance(model.roi_heads, OwnHeads)


class OwnArchitecture(GeneralizedRCNN):
    """Of a user, with detectron2's parts."""


@pytest.mark.parametrize("kind", [torch.nn.Module, OwnArchitecture])
def test_meta_architectures_of_users(tiny_cfg, monkeypatch, kind):
    """Those that are not detectron2's need no keys of heads: here all are detectron2's defaults."""
    monkeypatch.setitem(META_ARCH_REGISTRY._obj_map, "OwnArchitecture", kind)
    tiny_cfg.MODEL.META_ARCHITECTURE = "OwnArchitecture"
    tiny_cfg.MODEL.PROPOSAL_GENERATOR.NAME = "TOODProposalNetwork"
    if kind is OwnArchitecture:
        with pytest.raises(ConfigError, match="MODEL.ROI_HEADS.NUM_CLASSES is 80"):
            validate_model(tiny_cfg)
    else:
        validate_model(tiny_cfg)
        shapes = {f"p{i}": ShapeSpec(channels=64, stride=2**i) for i in range(3, 8)}
        assert isinstance(build_proposal_generator(tiny_cfg, shapes), TOODProposalNetwork)
