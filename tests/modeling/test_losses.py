"""Geometry and losses: hand-computed numbers, degenerate input, gradients."""

import math

import pytest
import torch

from tood.errors import ConfigError
from tood.modeling.box_ops import (
    box_iou,
    centerness,
    deltas_to_boxes,
    distances_to_boxes,
    points_inside_boxes,
)
from tood.modeling.criteria.focal import CenternessFocalCriterion, FocalCriterion
from tood.modeling.criteria.foveabox import FoveaBoxCriterion
from tood.modeling.criteria.quality_focal import QualityFocalCriterion
from tood.modeling.criteria.task_aligned import TaskAlignedCriterion
from tood.modeling.losses import focal_loss, foveabox_box_loss, giou_loss, task_aligned_focal_loss
from tood.modeling.structures import DenseTargets, FlatPredictions


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float32)


def test_iou_by_hand():
    a = boxes([0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [5, 5, 5, 5], [10, 10, 0, 0])
    b = boxes([5, 0, 15, 10], [0, 0, 10, 10], [20, 0, 30, 10], [0, 0, 10, 10], [0, 0, 10, 10])
    # 50 of 150 pixels; all; none; a point; an inverted box.
    torch.testing.assert_close(box_iou(a, b), torch.tensor([1 / 3, 1, 0, 0, 0]))
    assert box_iou(a[:, None], b[None]).shape == (5, 5)


def test_iou_is_never_above_one():
    """A soft label above 1 would stop the loss; of nearly equal boxes, rounding decides."""
    g = torch.Generator().manual_seed(0)
    a = torch.rand(20000, 4, generator=g) * 1000
    a[:, 2:] = a[:, :2] + torch.rand(20000, 2, generator=g) * 100
    b = a + torch.randint(-2, 3, a.shape, generator=g) * torch.finfo(torch.float32).eps * a
    assert box_iou(a, b).max() <= 1


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


def test_centerness_by_hand():
    box = boxes([0, 0, 10, 20])
    points = torch.tensor([[5.0, 10.0], [2.0, 10.0], [2.0, 5.0], [0.0, 10.0], [0.0, 0.0], [-1, 3]])
    expected = torch.tensor([1, math.sqrt(2 / 8), math.sqrt(2 / 8 * 5 / 15), 0, 0, 0])
    torch.testing.assert_close(centerness(points, box), expected)
    zero = centerness(torch.tensor([[3.0, 3.0]]), boxes([3, 3, 3, 3]))
    assert zero.item() == 0  # and not 0/0


def test_inside_is_strict():
    points = torch.tensor([[5.0, 5.0], [0.01, 5.0], [0.02, 5.0], [10.0, 5.0]])
    inside = points_inside_boxes(points, boxes([0, 0, 10, 10]))
    assert inside.tolist() == [True, False, True, False]


def test_decoding_by_hand():
    point = torch.tensor([[4.0, 6.0]])
    assert distances_to_boxes(point, boxes([1, 2, 3, 4])).tolist() == [[3, 4, 7, 10]]
    # Anchor of center (4, 4) and side 8; half a side to the right, twice as high.
    deltas = boxes([5.0, 0.0, 0.0, 5 * math.log(2)])
    torch.testing.assert_close(deltas_to_boxes(boxes([0, 0, 8, 8]), deltas), boxes([4, -4, 12, 12]))
    huge = deltas_to_boxes(boxes([0, 0, 8, 8]), boxes([0, 0, 1e6, 0]))
    assert huge[0, 2] - huge[0, 0] == pytest.approx(8 * 1000 / 16)


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


def test_a_score_that_is_no_number_reaches_the_loss():
    """And does not stop the program: training notices the loss."""
    scores = torch.tensor([0.3, float("nan")], requires_grad=True)
    for loss in (
        focal_loss(scores, torch.zeros(2), 0.25, 2.0),
        task_aligned_focal_loss(scores, torch.zeros(2), 2.0),
    ):
        assert loss[0].isfinite() and loss[1].isnan()


@pytest.mark.parametrize("part", ["scores", "boxes", "centerness"])
@pytest.mark.parametrize("index", range(5))
def test_a_positive_that_is_no_number_makes_a_loss_that_is_none(index, part):
    """Whatever the head's branch that it comes from; and the program goes on to notice it."""
    criterion = CRITERIA[index]
    branch = torch.full((1, 3, 1), 0.5) if isinstance(criterion, CenternessFocalCriterion) else None
    parts = {"scores": torch.full((1, 3, 2), 0.3), "boxes": torch.rand(1, 3, 4) + 1}
    if branch is not None:
        parts["centerness"] = branch
    if part not in parts:
        return
    parts[part][0, 0] = torch.nan
    labels = make_labels([1, 2, -1], [[0, 0, 2, 4], NOTHING, NOTHING], [0.5, 0.0, 0.0])
    sums = criterion(FlatPredictions(**parts), labels)
    assert any(loss.total.isnan() for loss in sums.values())


def test_log_distances_find_the_way_back():
    """A side across the point: the gradient leads it back, and the loss has no jump."""
    point, label = torch.tensor([[2.0, 2.0]]), boxes([0, 0, 4, 4])
    lost = boxes([2.5, 0, 4, 4]).requires_grad_()
    foveabox_box_loss(point, lost, label, 0.11).sum().backward()
    assert lost.grad[0, 0] > 0 and torch.isfinite(lost.grad).all()
    left = 2 - 2 * torch.tensor([1 / 64 - 1e-6, 1 / 64 + 1e-6])
    around = [boxes([x.item(), 0, 4, 4]) for x in left]
    below, above = (foveabox_box_loss(point, box, label, 0.11).item() for box in around)
    assert below == pytest.approx(above, abs=1e-3)


def make_labels(gt_classes, gt_boxes, metrics=None) -> DenseTargets:
    points = torch.tensor([[1.0, 1.0], [2.0, 2.0], [5.0, 5.0]])
    return DenseTargets(
        torch.tensor([gt_classes]),
        torch.tensor([gt_boxes], dtype=torch.float32),
        points,
        None if metrics is None else torch.tensor([metrics]),
    )


NOTHING = [0.0] * 4

CRITERIA = [
    TaskAlignedCriterion(),
    CenternessFocalCriterion(),
    FocalCriterion(),
    FoveaBoxCriterion(),
    QualityFocalCriterion(),
]


def test_task_aligned_criterion_by_hand():
    """One positive of class 1 with t-hat 0.5, one negative, one ignored point."""
    scores = torch.tensor([[[0.1, 0.3], [0.2, 0.4], [0.9, 0.9]]])
    pred = torch.tensor([[[0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 9, 9]]], dtype=torch.float32)
    labels = make_labels([1, 2, -1], [[0, 0, 2, 4], NOTHING, NOTHING], [0.5, 0.0, 0.0])
    cls, box_reg = TaskAlignedCriterion()(FlatPredictions(scores, pred), labels).values()

    def negative(s):
        return s**2 * -math.log(1 - s)

    positive = (0.5 - 0.3) ** 2 * -(0.5 * math.log(0.3) + 0.5 * math.log(0.7))
    assert cls.total.item() == pytest.approx(
        positive + negative(0.1) + negative(0.2) + negative(0.4), rel=1e-6
    )
    assert box_reg.total.item() == pytest.approx(0.5 * 0.5, rel=1e-6)  # 1 - IoU = 1/2, weight 1/2
    assert cls.normalizer.item() == box_reg.normalizer.item() == 0.5


def test_centerness_focal_criterion_by_hand():
    scores = torch.tensor([[[0.1, 0.3], [0.2, 0.4], [0.9, 0.9]]])
    pred = torch.tensor([[[0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 9, 9]]], dtype=torch.float32)
    labels = make_labels([1, 2, -1], [[0, 0, 2, 4], NOTHING, NOTHING])
    cls, box_reg = CenternessFocalCriterion()(FlatPredictions(scores, pred), labels).values()

    def negative(s):
        return 0.75 * s**2 * -math.log(1 - s)

    positive = 0.25 * 0.7**2 * -math.log(0.3)
    assert cls.total.item() == pytest.approx(
        positive + negative(0.1) + negative(0.2) + negative(0.4), rel=1e-6
    )
    weight = math.sqrt(1 / 1 * 1 / 3)  # the point (1, 1) in the box of 2 x 4
    assert box_reg.total.item() == pytest.approx(0.5 * weight, rel=1e-6)
    assert box_reg.normalizer.item() == pytest.approx(weight, rel=1e-6)
    assert cls.normalizer.item() == 1


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda criterion: type(criterion).__name__)
def test_bad_predictions_without_a_label_stay_out(criterion):
    """An infinite box in a cell without ground truth reaches neither the loss nor a gradient."""
    scores = torch.full((1, 3, 2), 0.3, requires_grad=True)
    pred = torch.tensor([[[0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 9, 9]]], dtype=torch.float32)
    pred[0, 1] = float("inf")
    pred[0, 2] = float("nan")
    pred.requires_grad_()
    labels = make_labels([1, 2, -1], [[0, 0, 2, 4], NOTHING, NOTHING], [0.5, 0.0, 0.0])
    cls, box_reg = criterion(FlatPredictions(scores, pred), labels).values()
    (cls.total + box_reg.total).backward()
    assert torch.isfinite(cls.total) and torch.isfinite(box_reg.total)
    assert torch.isfinite(pred.grad).all() and torch.isfinite(scores.grad).all()
    assert (pred.grad[0, 0] != 0).any()
    assert (pred.grad[0, 1:] == 0).all()
    assert (scores.grad[0, 2] == 0).all()  # ignored


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda criterion: type(criterion).__name__)
def test_no_positive_at_all(criterion):
    scores = torch.full((1, 3, 2), 0.3, requires_grad=True)
    pred = torch.rand(1, 3, 4, requires_grad=True)
    labels = make_labels([2, 2, 2], [NOTHING] * 3, [0.0] * 3)
    cls, box_reg = criterion(FlatPredictions(scores, pred), labels).values()
    (cls.total + box_reg.total).backward()
    assert box_reg.total.item() == 0 and box_reg.total.dtype == torch.float32
    per_image = isinstance(criterion, FoveaBoxCriterion)
    assert cls.normalizer.item() == int(per_image) and box_reg.normalizer.item() == 0
    assert (pred.grad == 0).all()  # a gradient of 0, and not none: DDP waits for one


def one_positive():
    """Scores, boxes and labels of a positive of class 1, a negative and an ignored point."""
    scores = torch.tensor([[[0.1, 0.3], [0.2, 0.4], [0.9, 0.9]]])
    pred = torch.tensor([[[0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 9, 9]]], dtype=torch.float32)
    return scores, pred, make_labels([1, 2, -1], [[0, 0, 2, 4], NOTHING, NOTHING])


def test_centerness_branch_by_hand():
    """Binary cross entropy with the point's centerness, of positives only."""
    scores, pred, labels = one_positive()
    branch = torch.tensor([[[0.6], [0.9], [0.1]]])
    sums = CenternessFocalCriterion()(FlatPredictions(scores, pred, branch), labels)
    target = math.sqrt(1 / 1 * 1 / 3)
    expected = -(target * math.log(0.6) + (1 - target) * math.log(0.4))
    assert list(sums) == ["loss_cls", "loss_box_reg", "loss_centerness"]
    assert sums["loss_centerness"].total.item() == pytest.approx(expected, rel=1e-6)
    assert sums["loss_centerness"].normalizer.item() == 1


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda criterion: type(criterion).__name__)
def test_a_branch_that_would_never_train_is_refused(criterion):
    if isinstance(criterion, CenternessFocalCriterion):
        return
    scores, pred, labels = one_positive()
    with pytest.raises(ConfigError, match="PARALLEL_HEAD.CENTERNESS False"):
        criterion(FlatPredictions(scores, pred, torch.rand(1, 3, 1)), labels)


def test_focal_criterion_by_hand():
    scores, pred, labels = one_positive()
    cls, box_reg = FocalCriterion()(FlatPredictions(scores, pred), labels).values()
    reference, _ = CenternessFocalCriterion()(FlatPredictions(scores, pred), labels).values()
    assert cls == reference
    assert box_reg.total.item() == pytest.approx(0.5) and box_reg.normalizer.item() == 1


def test_quality_focal_criterion_by_hand():
    """The label is the IoU, 1/2; the box's weight its highest score, 0.3."""
    scores, pred, labels = one_positive()
    cls, box_reg = QualityFocalCriterion()(FlatPredictions(scores, pred), labels).values()
    positive = (0.5 - 0.3) ** 2 * -(0.5 * math.log(0.3) + 0.5 * math.log(0.7))
    negatives = sum(s**2 * -math.log(1 - s) for s in (0.1, 0.2, 0.4))
    assert cls.total.item() == pytest.approx(positive + negatives, rel=1e-6)
    assert cls.normalizer.item() == 1
    assert box_reg.total.item() == pytest.approx(0.3 * 0.5, rel=1e-6)
    assert box_reg.normalizer.item() == pytest.approx(0.3)


def test_foveabox_criterion_by_hand():
    """Distances of (1, 1) to the sides: predicted 1, 1, 1, 1; of the label 1, 1, 1, 3."""
    scores, pred, labels = one_positive()
    cls, box_reg = FoveaBoxCriterion()(FlatPredictions(scores, pred), labels).values()

    def negative(s):
        return 0.6 * s**1.5 * -math.log(1 - s)

    positive = 0.4 * 0.7**1.5 * -math.log(0.3)
    assert cls.total.item() == pytest.approx(
        positive + negative(0.1) + negative(0.2) + negative(0.4), rel=1e-6
    )
    assert cls.normalizer.item() == 2  # a positive and an image
    assert box_reg.total.item() == pytest.approx(math.log(3) - 0.11 / 2, rel=1e-6)
    assert box_reg.normalizer.item() == 1
    far = make_labels([1, 2, -1], [[-1000, 0, 2, 2], NOTHING, NOTHING])
    _, box_reg = FoveaBoxCriterion()(FlatPredictions(scores, pred), far).values()
    assert box_reg.total.item() == pytest.approx(math.log(16 / 0.5) - 0.11 / 2, rel=1e-6)  # cut


def test_task_aligned_criterion_needs_metrics():
    labels = make_labels([2, 2, 2], [NOTHING] * 3)
    with pytest.raises(ValueError, match="needs an assigner that returns norm_alignment_metrics"):
        TaskAlignedCriterion()(FlatPredictions(torch.rand(1, 3, 2), torch.rand(1, 3, 4)), labels)
