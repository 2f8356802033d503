"""Assigners and criteria of the ablations against MMDetection's heads on random inputs."""

import pytest
import torch

from tests.helpers import STRIDES, golden, make_ground_truth, square_anchors, tensor
from tood.modeling.assigners import ATSSAssigner, FCOSAssigner, FoveaBoxAssigner
from tood.modeling.box_ops import box_centers, distances_to_boxes
from tood.modeling.criteria import (
    CenternessFocalCriterion,
    FoveaBoxCriterion,
    QualityFocalCriterion,
)
from tood.modeling.heads.box_coding import Scale, decode_boxes
from tood.modeling.structures import AnchorGrid, FlatPredictions, flatten_levels
from tood.modeling.targets import compute_targets

SIZE = (96, 128)
SHAPES = [(12, 16), (6, 8), (3, 4), (2, 2), (1, 1)]
NAMES = {"loss_cls": "loss_cls", "loss_bbox": "loss_box_reg", "loss_centerness": "loss_centerness"}
ATSS = ATSSAssigner()

# Box coding, offset of the points in their cells, assigner, criterion, weight of the box loss.
CASES = {
    "ATSS": ("anchor_based", 0.0, ATSS, CenternessFocalCriterion(), 2.0),
    "FCOS": ("anchor_free_linear", 0.5, FCOSAssigner(), CenternessFocalCriterion(), 1.0),
    "FoveaBox": ("anchor_free", 0.5, FoveaBoxAssigner(), FoveaBoxCriterion(), 1.0),
    "QFL": ("distances", 0.0, ATSS, QualityFocalCriterion(), 2.0),
}


@pytest.fixture(scope="module")
def expected():
    return golden("ablations.npz")


def decode(name, regression, anchors):
    """Boxes (N, R, 4) in pixels, decoded like the head of the case."""
    kind = CASES[name][0]
    levels = zip(regression.split([len(level) for level in anchors], dim=2), anchors, SHAPES,
                 STRIDES, strict=True)  # fmt: skip
    boxes = []
    for level, own, shape, stride in levels:
        if kind == "distances":
            points = box_centers(own) / stride
            boxes.append(distances_to_boxes(points, level.transpose(1, 2)) * stride)
            continue
        scale = Scale()
        if name == "FoveaBox":  # its distances are in units of two strides
            scale.scale.data.fill_(2.0)
        level = decode_boxes(level.unflatten(2, shape), own, scale, stride, kind)
        boxes.append(flatten_levels([level]) * stride)
    return torch.cat(boxes, dim=1)


@pytest.mark.parametrize("name", CASES)
def test_losses_and_gradients(name, expected):
    """Losses to 1e-5, gradients to 1e-5 of their norm; all of them have positives."""
    _, offset, assigner, criterion, box_weight = CASES[name]
    anchors = [
        level + offset * stride
        for level, stride in zip(square_anchors(SHAPES), STRIDES, strict=True)
    ]
    maps = {
        key: tensor(expected[f"{name}/{key}/map"]).requires_grad_()
        for key in ("cls", "reg", "centerness")
        if f"{name}/{key}/map" in expected
    }
    branch = maps.get("centerness")
    flat = FlatPredictions(
        maps["cls"].sigmoid().transpose(1, 2),
        decode(name, maps["reg"], anchors),
        None if branch is None else branch.sigmoid().transpose(1, 2),
    )
    ground_truth = [
        make_ground_truth(expected[f"{name}/gt_boxes{i}"], expected[f"{name}/gt_classes{i}"])
        for i in (0, 1)
    ]
    grid = AnchorGrid.from_levels(anchors, SHAPES, STRIDES)
    targets, assignments = compute_targets(assigner, flat, grid, [SIZE] * 2, 32, ground_truth)
    assert all((found.matched_idxs >= 0).sum() >= 5 for found in assignments)
    losses = {
        key: loss.total / loss.normalizer.clamp(min=1) * (box_weight if "box" in key else 1)
        for key, loss in criterion(flat, targets).items()
    }
    assert {NAMES[key.split("/")[1]] for key in expected if key.startswith(f"{name}/loss")} == set(
        losses
    )
    for theirs, ours in NAMES.items():
        if ours in losses:
            reference = expected[f"{name}/{theirs}"].item()
            assert losses[ours].item() == pytest.approx(reference, rel=1e-5)
    sum(losses.values()).backward()
    for key, leaf in maps.items():
        if f"{name}/{key}/grad" in expected:
            gradient = tensor(expected[f"{name}/{key}/grad"])
            assert (leaf.grad - gradient).norm() <= 1e-5 * gradient.norm(), key
            assert gradient.norm() > 0
