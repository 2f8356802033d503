"""Assigners and criteria of the ablations against MMDetection's heads on random inputs."""

import pytest

from tests.helpers import STRIDES, golden, make_ground_truth, square_anchors, tensor
from tood.modeling.structures import AnchorGrid, FlatPredictions
from tood.modeling.targets import compute_targets
from tools.reference.fuzz.ablations import ABLATIONS, LOSS_NAMES, decode

SIZE = (96, 128)
SHAPES = [(12, 16), (6, 8), (3, 4), (2, 2), (1, 1)]


@pytest.fixture(scope="module")
def expected():
    return golden("ablations.npz")


@pytest.mark.parametrize("name", ABLATIONS)
def test_losses_and_gradients(name, expected):
    """Losses to 1e-5, gradients to 1e-5 of their norm; all of them have positives."""
    ablation = ABLATIONS[name]
    anchors = [
        level + ablation.offset * stride
        for level, stride in zip(square_anchors(SHAPES), STRIDES, strict=True)
    ]
    maps = {
        key: tensor(expected[f"{name}/{key}/map"]).requires_grad_()
        for key in ("cls", "reg", "centerness")
        if f"{name}/{key}/map" in expected
    }
    branch = maps.get("centerness")
    counts = [len(level) for level in anchors]
    levels = [
        level.unflatten(2, shape)
        for level, shape in zip(maps["reg"].split(counts, dim=2), SHAPES, strict=True)
    ]
    flat = FlatPredictions(
        maps["cls"].sigmoid().transpose(1, 2),
        decode(ablation, levels, anchors),
        None if branch is None else branch.sigmoid().transpose(1, 2),
    )
    ground_truth = [
        make_ground_truth(expected[f"{name}/gt_boxes{i}"], expected[f"{name}/gt_classes{i}"])
        for i in (0, 1)
    ]
    grid = AnchorGrid.from_levels(anchors, SHAPES, STRIDES)
    targets, assignments = compute_targets(
        ablation.assigner, flat, grid, [SIZE] * 2, 32, ground_truth
    )
    assert all((found.matched_idxs >= 0).sum() >= 5 for found in assignments)
    losses = {
        key: loss.total
        / loss.normalizer.clamp(min=1)
        * (ablation.box_weight if "box" in key else 1)
        for key, loss in ablation.criterion(flat, targets).items()
    }
    assert {
        LOSS_NAMES[key.split("/")[1]] for key in expected if key.startswith(f"{name}/loss")
    } == set(losses)
    for theirs, ours in LOSS_NAMES.items():
        if ours in losses:
            reference = expected[f"{name}/{theirs}"].item()
            assert losses[ours].item() == pytest.approx(reference, rel=1e-5)
    sum(losses.values()).backward()
    for key, leaf in maps.items():
        if f"{name}/{key}/grad" in expected:
            gradient = tensor(expected[f"{name}/{key}/grad"])
            assert (leaf.grad - gradient).norm() <= 1e-5 * gradient.norm(), key
            assert gradient.norm() > 0
