"""Losses: hand-computed numbers, degenerate input, gradients."""

import math

import pytest
import torch

from tood.modeling.losses import focal_loss, foveabox_box_loss, giou_loss, task_aligned_focal_loss


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float32)


def test_giou_by_hand():
    pred = boxes([0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10])
    target = boxes([0, 0, 10, 10], [5, 0, 15, 10], [20, 0, 30, 10])
    # IoU 1, 1/3, 0; the enclosing boxes hold 0, 0 and 100 of 300 pixels more than the union.
    torch.testing.assert_close(giou_loss(pred, target), torch.tensor([0, 2 / 3, 1 + 1 / 3]))


def test_giou_of_degenerate_boxes():
    """Inverted, without area, identical points: in [0, 2], with finite gradients."""
    g = torch.Generator().manual_seed(0)
    pred = torch.randn(500, 4, generator=g) * 10
    pred[:50, 2:] = pred[:50, :2]
    target = torch.rand(500, 4, generator=g) * 10
    target[:, 2:] += target[:, :2]
    target[50:100, 2:] = target[50:100, :2]
    target[100:110] = pred[100:110]
    pred.requires_grad_()
    losses = giou_loss(pred, target)
    assert losses.min() >= 0 and losses.max() <= 2
    losses.sum().backward()
    assert torch.isfinite(pred.grad).all()


def test_focal_losses_by_hand():
    score, one, zero = torch.tensor(0.2), torch.tensor(1.0), torch.tensor(0.0)
    # alpha (1-p)^gamma -log p, and (1-alpha) p^gamma -log(1-p)
    assert focal_loss(score, one, 0.25, 2.0).item() == pytest.approx(
        0.25 * 0.64 * -math.log(0.2), rel=1e-6
    )
    assert focal_loss(score, zero, 0.25, 2.0).item() == pytest.approx(
        0.75 * 0.04 * -math.log(0.8), rel=1e-6
    )
    # |t - s|^gamma * BCE(s, t)
    bce = -(0.5 * math.log(0.2) + 0.5 * math.log(0.8))
    assert task_aligned_focal_loss(score, torch.tensor(0.5), 2.0).item() == pytest.approx(
        0.09 * bce, rel=1e-6
    )
    assert task_aligned_focal_loss(score, zero, 2.0).item() == pytest.approx(
        0.04 * -math.log(0.8), rel=1e-6
    )


def test_extreme_scores_give_finite_losses():
    scores = torch.tensor([0.0, 1.0, 1e-38, 1 - 1e-7], requires_grad=True)
    for target in (torch.zeros(4), torch.ones(4)):
        loss = focal_loss(scores, target, 0.25, 2.0) + task_aligned_focal_loss(scores, target, 2.0)
        assert torch.isfinite(loss).all()


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 1.5])
def test_perfect_scores_have_finite_gradients(gamma):
    """sigmoid(20) is 1 in float32, and the derivative of a root is infinite at 0."""
    targets = torch.tensor([0.0, 1.0, 0.25])
    scores = targets.clone().requires_grad_()
    loss = task_aligned_focal_loss(scores, targets, gamma)
    loss = loss + focal_loss(scores, targets.round(), 0.25, gamma)
    assert loss[:2].tolist() == [0, 0]
    loss.sum().backward()
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_smallest_errors_count(gamma):
    """Below float32's epsilon too, where the power has a derivative at 0."""
    score = torch.tensor(1e-8)
    loss = task_aligned_focal_loss(score, torch.tensor(0.0), gamma)
    assert loss.item() == pytest.approx(1e-8 ** (1 + gamma), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_nan_score_reaches_the_loss(gamma):
    """And does not stop the program: training notices the loss."""
    scores = torch.tensor([0.3, float("nan")], requires_grad=True)
    for loss in (
        focal_loss(scores, torch.zeros(2), 0.25, gamma),
        task_aligned_focal_loss(scores, torch.zeros(2), gamma),
    ):
        assert loss[0].isfinite() and loss[1].isnan()


def test_foveabox_loss_pulls_back_a_side_that_crossed_its_point():
    """A side across the point: the gradient leads it back, and the loss has no jump."""
    point, stride = torch.tensor([[2.0, 2.0]]), torch.ones(1, 1)
    label = boxes([0, 0, 4, 4])
    lost = boxes([2.5, 0, 4, 4]).requires_grad_()
    foveabox_box_loss(point, stride, lost, label, 0.11).sum().backward()
    assert lost.grad[0, 0] > 0 and torch.isfinite(lost.grad).all()
    left = 2 - 2 * torch.tensor([1 / 64 - 1e-6, 1 / 64 + 1e-6])
    around = [boxes([x.item(), 0, 4, 4]) for x in left]
    below, above = (foveabox_box_loss(point, stride, box, label, 0.11).item() for box in around)
    assert below == pytest.approx(above, abs=1e-3)


def test_foveabox_loss_by_hand():
    """Distances in two strides: targets end at 1/16 and 16, predictions at 1/64."""
    point, stride = torch.tensor([[100.0, 100.0]]), torch.ones(1, 1)
    label = boxes([36, 99.99, 102, 102])
    assert foveabox_box_loss(point, stride, boxes([68, 99.875, 102, 102]), label, 0.11) == 0
    on_the_point = boxes([100, 98, 102, 102])
    loss = foveabox_box_loss(point, stride, on_the_point, boxes([98, 98, 102, 102]), 0.11)
    assert loss.item() == pytest.approx(math.log(64) + 1 - 0.11 / 2, rel=1e-6)


def test_foveabox_loss_is_in_units_of_strides():
    """Points, boxes and strides four times as large give the same loss."""
    point, stride = torch.tensor([[2.0, 2.0]]), torch.ones(1, 1)
    pred, target = boxes([1, 0, 5, 4]), boxes([0, 0, 4, 4])
    loss = foveabox_box_loss(point, stride, pred, target, 0.11)
    assert torch.equal(
        foveabox_box_loss(*(4 * x for x in (point, stride, pred, target)), 0.11), loss
    )
