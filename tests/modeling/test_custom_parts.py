"""Heads, assigners and criteria chosen by name, including custom ones."""

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from tests.helpers import STRIDES, make_ground_truth, train_step
from tood import ASSIGNER_REGISTRY, CRITERION_REGISTRY, DENSE_HEAD_REGISTRY
from tood.errors import ConfigError
from tood.modeling.assigners import Assigner, Assignment
from tood.modeling.criteria import TaskAlignedCriterion
from tood.modeling.heads import DensePredictions
from tood.modeling.phases import Phase, build_phases, validate_phases
from tood.modeling.structures import AnchorGrid


class NearestPoint(Assigner):
    """Each ground truth gets the point nearest to its center."""

    config_node = "NEAREST"

    def __init__(self, reach: float) -> None:
        self.reach = reach

    def assign(self, inputs, gt_boxes, gt_classes):
        matched_idxs = torch.full((len(inputs.centers),), -1)
        for i, box in enumerate(gt_boxes):
            center = (box[:2] + box[2:]) / 2
            matched_idxs[(inputs.centers - center).norm(dim=1).argmin()] = i
        return Assignment(matched_idxs)


class PlainHead(nn.Module):
    def __init__(self, cfg, input_shape):
        super().__init__()
        self.cls = nn.Conv2d(input_shape[0].channels, cfg.MODEL.TOOD.NUM_CLASSES, 1)
        self.reg = nn.Conv2d(input_shape[0].channels, 4, 1)

    def forward(self, features, anchors):
        scores = [self.cls(x).sigmoid() for x in features]
        boxes = []
        for x, level, stride in zip(features, anchors, STRIDES, strict=True):
            h, w = x.shape[-2:]
            base = level.view(h, w, 4).permute(2, 0, 1)
            boxes.append(base + self.reg(x) * 0.1 * stride)
        return DensePredictions(scores, boxes)


@pytest.fixture
def custom_parts():
    ASSIGNER_REGISTRY.register(NearestPoint)
    DENSE_HEAD_REGISTRY.register(PlainHead)
    yield
    ASSIGNER_REGISTRY._obj_map.pop("NearestPoint")
    DENSE_HEAD_REGISTRY._obj_map.pop("PlainHead")


def test_custom_head_and_assigner(tiny_cfg, custom_parts, make_input):
    node = tiny_cfg.MODEL.TOOD
    node.HEAD.NAME = "PlainHead"
    node.NEAREST = CfgNode({"REACH": 2.0})
    node.ALIGNED.ASSIGNER = "NearestPoint"
    node.ALIGNED.CRITERION = "CenternessFocalCriterion"
    model = build_model(tiny_cfg)
    assert model.phases["aligned"].assigner.reach == 2.0
    losses = train_step(model, [make_input()], "aligned")
    assert all(torch.isfinite(loss) for loss in losses.values())
    model.eval()
    with torch.no_grad():
        assert "instances" in model([make_input()])[0]


@pytest.mark.parametrize("key", ["HEAD.NAME", "ALIGNED.ASSIGNER", "WARMUP.CRITERION"])
def test_unknown_names(tiny_cfg, key):
    tiny_cfg.merge_from_list([f"MODEL.TOOD.{key}", "Nobody"])
    with pytest.raises(ConfigError, match=f"'Nobody' in MODEL.TOOD.{key}. Available: "):
        build_model(tiny_cfg)


def test_config_reaches_the_parts(tiny_cfg):
    node = tiny_cfg.MODEL.TOOD
    node.ASSIGNERS.TAL.TOPK, node.ASSIGNERS.TAL.ALPHA, node.ASSIGNERS.TAL.BETA = 5, 0.5, 2.0
    node.ASSIGNERS.ATSS.TOPK = 3
    node.CRITERIA.FOCAL_LOSS.GAMMA, node.CRITERIA.TASK_ALIGNED_LOSS.GAMMA = 1.0, 1.5
    phases = build_model(tiny_cfg).phases
    tal = phases["aligned"].assigner
    assert (tal.topk, tal.alpha, tal.beta) == (5, 0.5, 2.0)
    assert phases["warmup"].assigner.topk == 3
    assert phases["warmup"].criterion.gamma == 1.0
    assert phases["aligned"].criterion.gamma == 1.5


def test_criteria_registry():
    assert {"CenternessFocalCriterion", "TaskAlignedCriterion"} <= set(CRITERION_REGISTRY._obj_map)


@pytest.mark.parametrize("criterion", ["FocalCriterion", "TaskAlignedCriterion"])
def test_centerness_without_loss_fails_when_the_model_is_built(tiny_cfg, criterion):
    node = tiny_cfg.MODEL.TOOD
    node.HEAD.NAME, node.PARALLEL_HEAD.CENTERNESS = "ParallelHead", True
    node.ALIGNED.CRITERION = criterion
    with pytest.raises(ConfigError, match=r"ALIGNED.CRITERION .*PARALLEL_HEAD.CENTERNESS False"):
        build_model(tiny_cfg)


def test_criterion_without_its_metrics_fails_when_the_model_is_built(tiny_cfg):
    tiny_cfg.MODEL.TOOD.ALIGNED.ASSIGNER = "ATSSAssigner"
    with pytest.raises(ConfigError, match="needs alignment metrics, which ATSSAssigner"):
        build_model(tiny_cfg)


def test_misspelled_key_of_a_chosen_assigner_is_refused(tiny_cfg):
    tiny_cfg.MODEL.TOOD.ASSIGNERS.TAL.TOPKK = 5
    with pytest.raises(ConfigError, match=r"TAL.TOPKK"):
        build_model(tiny_cfg)


def test_missing_config_node_is_named(tiny_cfg, custom_parts):
    tiny_cfg.MODEL.TOOD.ALIGNED.ASSIGNER = "NearestPoint"
    with pytest.raises(ConfigError, match=r"MODEL.TOOD.NEAREST, which does not exist"):
        build_model(tiny_cfg)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("ANCHOR_TYPE", "anchorfree", "head TOODHead: Unknown anchor_type 'anchorfree'. Available"),
        ("HEAD.NUM_DCN", 3, r"num_dcn \(3\) between 0 and num_convs"),
    ],
)
def test_arguments_of_the_head_are_config_errors(tiny_cfg, key, value, message):
    tiny_cfg.merge_from_list([f"MODEL.TOOD.{key}", value])
    with pytest.raises(ConfigError, match=message):
        build_model(tiny_cfg)


def test_parts_that_say_nothing_fit_every_other(tiny_cfg):
    """An assigner of your own may return alignment metrics, and a criterion train a branch."""
    silent = nn.Module()
    validate_phases({"aligned": Phase(NearestPoint(1.0), silent)}, predicts_centerness=True)
    undeclared = Phase(type("Undeclared", (), {})(), TaskAlignedCriterion())
    validate_phases({"aligned": undeclared}, predicts_centerness=False)


def test_targets_and_losses_are_computed_without_autocast():
    """u^6 and probabilities underflow in half precision."""
    seen = []

    class Witness(NearestPoint):
        def assign(self, inputs, gt_boxes, gt_classes):
            seen.append(torch.is_autocast_enabled("cpu"))
            return super().assign(inputs, gt_boxes, gt_classes)

    class SilentCriterion(nn.Module):
        def forward(self, predictions, targets):
            seen.append(torch.is_autocast_enabled("cpu"))
            return {}

    anchors = [torch.tensor([[0.0, 0.0, 64.0, 64.0]])]
    grid = AnchorGrid.from_levels(anchors, [(1, 1)], [8])
    maps = DensePredictions([torch.zeros(1, 5, 1, 1)], [torch.zeros(1, 4, 1, 1)])
    phase = Phase(Witness(1.0), SilentCriterion())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        phase.loss_sums(grid, maps, [make_ground_truth([[0, 0, 9, 9]], [1])], [(8, 8)], 0)
    assert seen == [False, False]


def test_negative_warmup(tiny_cfg):
    tiny_cfg.MODEL.TOOD.WARMUP.EPOCHS = -1
    with pytest.raises(ConfigError, match="EPOCHS is -1. Use 0 or more"):
        build_phases(tiny_cfg.MODEL.TOOD)


@pytest.mark.parametrize("phase", ["WARMUP", "ALIGNED"])
def test_arguments_for_another_number_of_levels(tiny_cfg, phase):
    """The message names the assigner's node."""
    tiny_cfg.MODEL.TOOD.IN_FEATURES = ["p3", "p4"]
    tiny_cfg.MODEL.TOOD[phase].ASSIGNER = "FCOSAssigner"
    with pytest.raises(ConfigError, match=r"MODEL\.TOOD\.ASSIGNERS\.FCOS: "):
        build_phases(tiny_cfg.MODEL.TOOD)
