"""What the assigners share: defaults, checks, chunks, and who wins a point that several claim."""

import functools
import inspect
import json

import pytest
import torch
from detectron2.config import CfgNode

from tood.modeling.assigners import ASSIGNER_REGISTRY, Assigner, TaskAlignedAssigner
from tood.modeling.assigners.base import (
    default_chunk_size,
    resolve_conflicts,
    validate_counts,
    validate_ground_truth,
)
from tood.modeling.assigners.smallest_box import SmallestBoxAssigner

RULES = [rule for _, rule in ASSIGNER_REGISTRY if rule.__module__.startswith("tood.")]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_defaults_are_those_of_the_config(rule, tiny_cfg):
    """So what a class gives when called alone is what configs train with."""
    node = functools.reduce(CfgNode.__getitem__, rule.config_node.split("."), tiny_cfg.MODEL.TOOD)
    parameters = inspect.signature(rule).parameters
    for key, value in node.items():
        default = json.loads(json.dumps(parameters[key.lower()].default))  # tuples become lists
        assert default == value, key


def test_counts():
    validate_counts(1, None)
    validate_counts(1, 1)
    for topk, chunk_size in ((0, None), (1, 0)):
        with pytest.raises(ValueError, match=f"at least 1, not {topk} and {chunk_size}"):
            validate_counts(topk, chunk_size)


def test_chunks_by_device():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [default_chunk_size(None, device) for device in (cpu, gpu)] == [16, 64]
    assert default_chunk_size(5, cpu) == default_chunk_size(5, gpu) == 5


@pytest.mark.parametrize("shape", [(4,), (2, 3), (2, 5), (2, 4, 1)])
def test_shape_of_ground_truth_boxes(shape):
    with pytest.raises(ValueError, match=r"gt_boxes must have the shape \(M, 4\), not"):
        validate_ground_truth(torch.zeros(shape), torch.zeros(2).long())


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 1), ()])
def test_shape_of_ground_truth_classes(shape):
    with pytest.raises(ValueError, match=r"shape \(M,\) = \(2,\), not \("):
        validate_ground_truth(torch.zeros(2, 4), torch.zeros(shape).long())


def resolve(*claims: tuple[float | None, ...]) -> list[int]:
    """Who wins each point, if every ground truth considers all; None: it does not claim it."""
    ious = torch.tensor([[0.9 if iou is None else iou for iou in row] for row in claims])
    keep = torch.tensor([[iou is not None for iou in row] for row in claims])
    num_points = ious.shape[1]
    idxs = torch.arange(num_points).expand(len(claims), -1)
    return resolve_conflicts(idxs, ious, keep, num_points).tolist()


def test_the_highest_of_those_that_claim_wins():
    assert resolve((0.5, None, None, 0.3), (0.6, 0.1, None, None)) == [1, 1, -1, 0]


def test_the_first_of_equals_wins():
    assert resolve((0.2, 0.0), (0.5, 0.0), (0.5, 0.0)) == [1, 0]


def test_negative_overlaps_can_win():
    """A generalized IoU is one of boxes apart; nobody's claim is worth less."""
    assert resolve((-0.5, -0.9), (-0.3, None)) == [1, 0]


def test_points_that_nobody_considers():
    idxs = torch.tensor([[3, 1]])
    matched = resolve_conflicts(idxs, torch.rand(1, 2), torch.tensor([[True, False]]), 5)
    assert matched.tolist() == [-1, -1, -1, 0, -1]


def test_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Assigner()
    with pytest.raises(TypeError, match="candidate_mask.*validate_num_levels"):
        SmallestBoxAssigner()
    assert TaskAlignedAssigner.returns_alignment_metrics
    assert not Assigner.returns_alignment_metrics
