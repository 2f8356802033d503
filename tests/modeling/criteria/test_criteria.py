"""Criteria by hand, with degenerate predictions, and without positives."""

import math

import pytest
import torch

from tood.modeling.criteria import (
    CenternessFocalCriterion,
    FocalCriterion,
    FoveaBoxCriterion,
    QualityFocalCriterion,
    TaskAlignedCriterion,
)
from tood.modeling.structures import DenseTargets, FlatPredictions


def make_targets(gt_classes, gt_boxes, metrics=None) -> DenseTargets:
    """Targets of one image with three points, on a level of stride 1."""
    return DenseTargets(
        gt_classes=torch.tensor([gt_classes]),
        gt_boxes=torch.tensor([gt_boxes], dtype=torch.float32),
        centers=torch.tensor([[1.0, 1.0], [2.0, 2.0], [5.0, 5.0]]),
        strides=torch.ones(3, 1),
        norm_alignment_metrics=None if metrics is None else torch.tensor([metrics]),
    )


NOTHING = [0.0] * 4

CRITERIA = [
    TaskAlignedCriterion(),
    CenternessFocalCriterion(),
    FocalCriterion(),
    FoveaBoxCriterion(),
    QualityFocalCriterion(),
]


def test_what_criteria_need():
    """Of the head and of the assigner: the model is checked for it when it is built."""
    with_branch = [criterion for criterion in CRITERIA if criterion.supports_centerness]
    assert [type(criterion) for criterion in with_branch] == [CenternessFocalCriterion]
    need_metrics = [x for x in CRITERIA if getattr(x, "needs_alignment_metrics", False)]
    assert [type(criterion) for criterion in need_metrics] == [TaskAlignedCriterion]


def one_positive():
    """Scores, boxes and targets: a positive of class 1, a negative and an ignored point."""
    scores = torch.tensor([[[0.1, 0.3], [0.2, 0.4], [0.9, 0.9]]])
    pred = torch.tensor([[[0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 9, 9]]], dtype=torch.float32)
    return scores, pred, make_targets([1, 2, -1], [[0, 0, 2, 4], NOTHING, NOTHING])


@pytest.mark.parametrize("part", ["scores", "boxes", "centerness"])
@pytest.mark.parametrize("index", range(5))
def test_nan_of_a_positive_reaches_the_loss(index, part):
    """From whichever branch of the head, without stopping the program."""
    criterion = CRITERIA[index]
    branch = torch.full((1, 3, 1), 0.5) if isinstance(criterion, CenternessFocalCriterion) else None
    parts = {"scores": torch.full((1, 3, 2), 0.3), "boxes": torch.rand(1, 3, 4) + 1}
    if branch is not None:
        parts["centerness"] = branch
    if part not in parts:
        return
    parts[part][0, 0] = torch.nan
    targets = make_targets([1, 2, -1], [[0, 0, 2, 4], NOTHING, NOTHING], [0.5, 0.0, 0.0])
    sums = criterion(FlatPredictions(**parts), targets)
    assert any(loss.total.isnan() for loss in sums.values())


def test_task_aligned_criterion_by_hand():
    """One positive of class 1 with t-hat 0.5, one negative, one ignored point."""
    scores = torch.tensor([[[0.1, 0.3], [0.2, 0.4], [0.9, 0.9]]])
    pred = torch.tensor([[[0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 9, 9]]], dtype=torch.float32)
    targets = make_targets([1, 2, -1], [[0, 0, 2, 4], NOTHING, NOTHING], [0.5, 0.0, 0.0])
    cls, box_reg = TaskAlignedCriterion()(FlatPredictions(scores, pred), targets).values()

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
    targets = make_targets([1, 2, -1], [[0, 0, 2, 4], NOTHING, NOTHING])
    cls, box_reg = CenternessFocalCriterion()(FlatPredictions(scores, pred), targets).values()

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
    targets = make_targets([1, 2, -1], [[0, 0, 2, 4], NOTHING, NOTHING], [0.5, 0.0, 0.0])
    cls, box_reg = criterion(FlatPredictions(scores, pred), targets).values()
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
    targets = make_targets([2, 2, 2], [NOTHING] * 3, [0.0] * 3)
    cls, box_reg = criterion(FlatPredictions(scores, pred), targets).values()
    (cls.total + box_reg.total).backward()
    assert box_reg.total.item() == 0 and box_reg.total.dtype == torch.float32
    per_image = isinstance(criterion, FoveaBoxCriterion)
    assert cls.normalizer.item() == int(per_image) and box_reg.normalizer.item() == 0
    assert (pred.grad == 0).all()  # a zero gradient, not None: DDP waits for one


def test_centerness_branch_by_hand():
    """Binary cross entropy with the point's centerness, of positives only."""
    scores, pred, targets = one_positive()
    branch = torch.tensor([[[0.6], [0.9], [0.1]]])
    sums = CenternessFocalCriterion()(FlatPredictions(scores, pred, branch), targets)
    expected_centerness = math.sqrt(1 / 1 * 1 / 3)
    expected = -(expected_centerness * math.log(0.6) + (1 - expected_centerness) * math.log(0.4))
    assert list(sums) == ["loss_cls", "loss_box_reg", "loss_centerness"]
    assert sums["loss_centerness"].total.item() == pytest.approx(expected, rel=1e-6)
    assert sums["loss_centerness"].normalizer.item() == 1


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda criterion: type(criterion).__name__)
def test_centerness_branch_without_loss_is_refused(criterion):
    if isinstance(criterion, CenternessFocalCriterion):
        return
    scores, pred, targets = one_positive()
    with pytest.raises(ValueError, match="no loss for the head's centerness branch"):
        criterion(FlatPredictions(scores, pred, torch.rand(1, 3, 1)), targets)


def test_focal_criterion_by_hand():
    scores, pred, targets = one_positive()
    cls, box_reg = FocalCriterion()(FlatPredictions(scores, pred), targets).values()
    reference, _ = CenternessFocalCriterion()(FlatPredictions(scores, pred), targets).values()
    assert cls == reference
    assert box_reg.total.item() == pytest.approx(0.5) and box_reg.normalizer.item() == 1


def test_quality_focal_criterion_by_hand():
    """The label is the IoU, 1/2; the box weight is its highest score, 0.3."""
    scores, pred, targets = one_positive()
    cls, box_reg = QualityFocalCriterion()(FlatPredictions(scores, pred), targets).values()
    positive = (0.5 - 0.3) ** 2 * -(0.5 * math.log(0.3) + 0.5 * math.log(0.7))
    negatives = sum(s**2 * -math.log(1 - s) for s in (0.1, 0.2, 0.4))
    assert cls.total.item() == pytest.approx(positive + negatives, rel=1e-6)
    assert cls.normalizer.item() == 1
    assert box_reg.total.item() == pytest.approx(0.3 * 0.5, rel=1e-6)
    assert box_reg.normalizer.item() == pytest.approx(0.3)


def test_foveabox_criterion_by_hand():
    """Distances of (1, 1) to the sides: predicted 1, 1, 1, 1; of the label 1, 1, 1, 3."""
    scores, pred, targets = one_positive()
    cls, box_reg = FoveaBoxCriterion()(FlatPredictions(scores, pred), targets).values()

    def negative(s):
        return 0.6 * s**1.5 * -math.log(1 - s)

    positive = 0.4 * 0.7**1.5 * -math.log(0.3)
    assert cls.total.item() == pytest.approx(
        positive + negative(0.1) + negative(0.2) + negative(0.4), rel=1e-6
    )
    assert cls.normalizer.item() == 2  # a positive and an image
    assert box_reg.total.item() == pytest.approx(math.log(3) - 0.11 / 2, rel=1e-6)
    assert box_reg.normalizer.item() == 1
    far = make_targets([1, 2, -1], [[-1000, 0, 2, 2], NOTHING, NOTHING])
    _, box_reg = FoveaBoxCriterion()(FlatPredictions(scores, pred), far).values()
    assert box_reg.total.item() == pytest.approx(math.log(16 / 0.5) - 0.11 / 2, rel=1e-6)  # clamped


def test_one_class():
    """Class 0 is the only column of the scores, for background too."""
    predictions = FlatPredictions(torch.full((1, 3, 1), 0.3), torch.zeros(1, 3, 4))
    box = [0.0, 0.0, 2.0, 2.0]
    targets = make_targets([0, 1, -1], [box, NOTHING, NOTHING], metrics=[0.5, 0.0, 0.0])
    loss = TaskAlignedCriterion()(predictions, targets)["loss_cls"].total
    bce = -0.5 * math.log(0.3) - 0.5 * math.log(0.7)
    assert loss.item() == pytest.approx(0.2**2 * bce - 0.3**2 * math.log(0.7), rel=1e-5)


def test_task_aligned_criterion_needs_metrics():
    targets = make_targets([2, 2, 2], [NOTHING] * 3)
    with pytest.raises(ValueError, match="needs an assigner that returns norm_alignment_metrics"):
        TaskAlignedCriterion()(FlatPredictions(torch.rand(1, 3, 2), torch.rand(1, 3, 4)), targets)
