"""Losses and criteria: finite, not negative, and 0 for a perfect prediction."""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from tests.properties.strategies import (
    any_boxes,
    floats,
    generator,
    grid_boxes,
    seeds,
    tensors,
    uniform,
)
from tood.modeling import criteria
from tood.modeling.criteria import CRITERION_REGISTRY
from tood.modeling.heads.task_alignment import align_scores
from tood.modeling.losses import (
    focal_loss,
    foveabox_box_loss,
    giou_loss,
    nan_safe_binary_cross_entropy,
    task_aligned_focal_loss,
)
from tood.modeling.structures import DensePredictions, DenseTargets, FlatPredictions

COUNT = 6
# e^20 strides of 128 pixels, the farthest side that a head decodes.
FAR = 6.3e10
# From certain to impossible; sigmoid gives exactly 0 and 1 for logits that are large enough.
probabilities = tensors(COUNT, floats(0, 1))
hard_labels = tensors(COUNT, st.sampled_from([0.0, 1.0]))
exponents = st.one_of(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0]), floats(0, 5))
logits = tensors(COUNT, floats(-1e4, 1e4))


def assert_finite_gradient(loss: Tensor, *leaves: Tensor) -> None:
    assert loss.isfinite().all()
    for gradient in torch.autograd.grad(loss.sum(), leaves):
        assert gradient.isfinite().all()


PERFECT = torch.tensor([0.0, 1.0] * (COUNT // 2))


@example(scores=PERFECT.clone(), targets=PERFECT, alpha=0.25, gamma=0.5)
@given(scores=probabilities, targets=hard_labels, alpha=floats(0, 1), gamma=exponents)
def test_focal_loss(scores, targets, alpha, gamma):
    scores.requires_grad_()
    loss = focal_loss(scores, targets, alpha, gamma)
    assert (loss >= 0).all()
    assert_finite_gradient(loss, scores)
    assert (focal_loss(targets, targets, alpha, gamma) == 0).all()


@example(scores=PERFECT.clone(), targets=PERFECT, gamma=0.5)
@given(scores=probabilities, targets=probabilities, gamma=exponents)
def test_task_aligned_focal_loss(scores, targets, gamma):
    """Its minimum, 0 for gamma > 0, is at the soft label itself."""
    at_label = targets.clone().requires_grad_()
    loss = task_aligned_focal_loss(at_label, targets, gamma)
    assert_finite_gradient(loss, at_label)
    assert gamma == 0 or (loss == 0).all()
    scores.requires_grad_()
    loss = task_aligned_focal_loss(scores, targets, gamma)
    assert (loss >= 0).all()
    assert_finite_gradient(loss, scores)


@given(scores=probabilities, targets=probabilities)
def test_binary_cross_entropy(scores, targets):
    """At most PyTorch's limit of 100, for certain scores that are wrong."""
    scores.requires_grad_()
    loss = nan_safe_binary_cross_entropy(scores, targets)
    assert (loss >= 0).all() and (loss <= 100).all()
    assert_finite_gradient(loss, scores)


@given(p=logits, m=logits, targets=probabilities)
def test_losses_of_extreme_logits(p, m, targets):
    """Through the score sqrt(P * M): finite for all logits, in [0, 1]."""
    p.requires_grad_()
    m.requires_grad_()
    scores = align_scores(p.view(1, COUNT, 1, 1), m.view(1, COUNT, 1, 1)).flatten()
    assert (scores >= 0).all() and (scores <= 1).all()
    assert_finite_gradient(task_aligned_focal_loss(scores, targets, 2.0), p, m)
    scores = align_scores(p.view(1, COUNT, 1, 1), m.view(1, COUNT, 1, 1)).flatten()
    assert_finite_gradient(focal_loss(scores, targets.round(), 0.25, 2.0), p, m)


@given(boxes=any_boxes(COUNT, FAR), gt_boxes=grid_boxes(COUNT, COUNT))
def test_giou_loss(boxes, gt_boxes):
    boxes.requires_grad_()
    loss = giou_loss(boxes, gt_boxes)
    assert (loss >= 0).all() and (loss <= 2).all()
    assert_finite_gradient(loss, boxes)
    perfect = gt_boxes.clone().requires_grad_()
    assert (giou_loss(perfect, gt_boxes) == 0).all()
    assert_finite_gradient(giou_loss(perfect, gt_boxes), perfect)


@given(
    boxes=any_boxes(COUNT, FAR),
    gt_boxes=grid_boxes(COUNT, COUNT),
    centers=tensors((COUNT, 2), floats(-32, 300)),
    stride=st.sampled_from([8, 128]),
    beta=st.one_of(st.just(0.0), floats(0, 1)),
)
def test_foveabox_box_loss(boxes, gt_boxes, centers, stride, beta):
    boxes.requires_grad_()
    strides = torch.full((COUNT, 1), float(stride))
    loss = foveabox_box_loss(centers, strides, boxes, gt_boxes, beta)
    assert (loss >= 0).all()
    assert_finite_gradient(loss, boxes)


@given(gt_boxes=grid_boxes(COUNT, COUNT, smallest=16), seed=seeds)
def test_foveabox_box_loss_of_perfect_boxes(gt_boxes, seed):
    """0 for points that are far enough inside: the targets are clamped at 1/8 stride."""
    centers = gt_boxes[:, :2] + (gt_boxes[:, 2:] - gt_boxes[:, :2]) * uniform(
        seed, COUNT, 2, low=0.25, high=0.75
    )
    strides = torch.full((COUNT, 1), 8.0)
    assert (foveabox_box_loss(centers, strides, gt_boxes, gt_boxes, 0.11) == 0).all()


def build(name: str):
    return CRITERION_REGISTRY.get(name)()


CRITERIA = [name for name in criteria.__all__ if name != "CRITERION_REGISTRY"]
NUM_CLASSES = 2


@st.composite
def batches(draw, *, perfect=False):
    """Predictions and targets of two images with COUNT points each.

    Args:
        draw: of hypothesis.
        perfect: predict the targets, whose soft labels are 1.
    """
    seed = draw(seeds)
    classes = tensors_of_classes(draw)
    gt_boxes = draw(grid_boxes(2 * COUNT, 2 * COUNT, smallest=16)).view(2, COUNT, 4)
    positive = (classes >= 0) & (classes < NUM_CLASSES)
    gt_boxes = torch.where(positive[..., None], gt_boxes, 0.0)
    soft_labels = torch.where(positive, uniform(seed, 2, COUNT), 0.0)
    # Points in the middle of the boxes of the first image.
    centers = (gt_boxes[0, :, :2] + gt_boxes[0, :, 2:]) / 2
    scores = draw(tensors((2, COUNT, NUM_CLASSES), floats(0, 1)))
    boxes = draw(any_boxes(2 * COUNT, FAR)).view(2, COUNT, 4)
    if perfect:
        columns = torch.arange(NUM_CLASSES)
        scores, boxes = (classes[..., None] == columns).float(), gt_boxes.clone()
        soft_labels = positive.float()
    targets = DenseTargets(classes, gt_boxes, centers, torch.full((COUNT, 1), 8.0), soft_labels)
    return scores, boxes, targets


def tensors_of_classes(draw) -> Tensor:
    """(2, COUNT) classes: positives, background (2) and ignored points (-1), or one kind alone."""
    kinds = draw(st.sampled_from([(0, 1, 2, -1), (2,), (-1,), (0,), (2, -1)]))
    picks = torch.randint(len(kinds), (2, COUNT), generator=generator(draw(seeds)))
    return torch.tensor(kinds)[picks]


def test_every_criterion_is_here():
    own = {n for n, c in CRITERION_REGISTRY if c.__module__.startswith("tood.")}
    assert own == set(CRITERIA)


@pytest.mark.parametrize("name", CRITERIA)
@given(batch=batches())
def test_criteria_are_finite(name, batch):
    """Without positives too: then the box loss is 0, and still part of the graph."""
    scores, boxes, targets = batch
    scores.requires_grad_()
    boxes.requires_grad_()
    sums = build(name)(FlatPredictions(scores, boxes), targets)
    for loss in sums.values():
        assert loss.total >= 0 and loss.normalizer >= 0 and loss.normalizer.isfinite()
    total = sum(loss.total for loss in sums.values())
    assert_finite_gradient(total, scores, boxes)
    if not ((targets.gt_classes >= 0) & (targets.gt_classes < NUM_CLASSES)).any():
        assert sums["loss_box_reg"].total == 0 and sums["loss_box_reg"].total.requires_grad


@pytest.mark.parametrize("name", CRITERIA)
@given(batch=batches())
def test_ignored_points_teach_nothing(name, batch):
    """Neither they nor the boxes of background have a gradient or change a sum."""
    scores, boxes, targets = batch
    ignored = targets.gt_classes == -1
    unused = ignored | (targets.gt_classes == NUM_CLASSES)
    others = FlatPredictions(
        torch.where(ignored[..., None], 0.5, scores), torch.where(unused[..., None], 7.0, boxes)
    )
    scores.requires_grad_()
    boxes.requires_grad_()
    sums = build(name)(FlatPredictions(scores, boxes), targets)
    for key, loss in build(name)(others, targets).items():
        assert torch.equal(loss.total, sums[key].total)
        assert torch.equal(loss.normalizer, sums[key].normalizer)
    total = sum(loss.total for loss in sums.values())
    gradients = torch.autograd.grad(total, (scores, boxes))
    assert not gradients[0][ignored].any() and not gradients[1][unused].any()


@pytest.mark.parametrize("name", CRITERIA)
@given(batch=batches(perfect=True))
def test_perfect_predictions_have_no_loss(name, batch):
    """All of them are 0 then; FoveaBox's in the first image, whose points are in their boxes."""
    scores, boxes, targets = batch
    if name == "FoveaBoxCriterion":
        scores, boxes = scores[:1], boxes[:1]
        targets = DenseTargets(
            targets.gt_classes[:1], targets.gt_boxes[:1], targets.centers, targets.strides
        )
    scores.requires_grad_()
    boxes.requires_grad_()
    sums = build(name)(FlatPredictions(scores, boxes), targets)
    assert all(loss.total == 0 for loss in sums.values())
    assert_finite_gradient(sum(loss.total for loss in sums.values()), scores, boxes)


@pytest.mark.parametrize("name", CRITERIA)
@given(batch=batches(), seed=seeds)
def test_order_of_points(name, batch, seed):
    """Sums do not depend on it, up to the order of float32 sums."""
    scores, boxes, targets = batch
    order = torch.randperm(COUNT, generator=generator(seed))
    moved = DenseTargets(
        targets.gt_classes[:, order],
        targets.gt_boxes[:, order],
        targets.centers[order],
        targets.strides[order],
        targets.norm_alignment_metrics[:, order],
    )
    expected = build(name)(FlatPredictions(scores, boxes), targets)
    found = build(name)(FlatPredictions(scores[:, order], boxes[:, order]), moved)
    for key, loss in found.items():
        torch.testing.assert_close(loss.total, expected[key].total, rtol=1e-6, atol=1e-6)


@given(scores=tensors((1, 2, 1, 3), floats(0, 1)), boxes=tensors((1, 4, 1, 3), floats(-6e4, 6e4)))
def test_half_precision_predictions(scores, boxes):
    """Heads that give float16, with its largest numbers, still get float32 losses."""
    flat = DensePredictions([scores.half()], [boxes.half()]).flatten()
    classes = torch.tensor([[0, 1, 2]])
    gt_boxes = torch.tensor([0.0, 0.0, 32.0, 32.0]).expand(1, 3, 4)
    targets = DenseTargets(
        classes, gt_boxes, torch.full((3, 2), 16.0), torch.full((3, 1), 8.0), torch.ones(1, 3)
    )
    for name in CRITERIA:
        for loss in build(name)(flat, targets).values():
            assert loss.total.dtype == torch.float32 and loss.total.isfinite()
