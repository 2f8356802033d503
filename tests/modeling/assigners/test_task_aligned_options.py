"""The options of the task-aligned assigner that come from later work."""

import math

import pytest
import torch

from tests.modeling.assigners.oracles import (
    NUM_CLASSES,
    SHAPES,
    SIZE,
    inside,
    iou,
    make_assigner_input,
    random_ground_truth,
    tal_oracle,
)
from tood.modeling.assigners import TaskAlignedAssigner
from tood.modeling.assigners.alignment_metric import IOU_FUNCTIONS


def align(inputs, boxes, classes, **options):
    return TaskAlignedAssigner(**options).assign(inputs, boxes, classes)


@pytest.mark.parametrize("seed", range(3))
def test_candidates_inside_gt_equals_oracle(seed):
    """With scores of 0 outside of every ground truth the rule is the plain one."""
    inputs, (boxes, classes) = make_assigner_input(False, seed), random_ground_truth(seed, 1)
    label = classes[0].item()
    for r, point in enumerate(inputs.centers.tolist()):
        if not inside(point, boxes[0].tolist()):
            inputs.scores[r, label] = 0
    expected, norm = tal_oracle(inputs.scores, inputs.boxes, inputs.centers, boxes, classes, topk=5)
    inputs = make_assigner_input(False, seed)
    found = align(inputs, boxes, classes, topk=5, candidates_inside_gt=True)
    assert found.matched_idxs.tolist() == expected
    torch.testing.assert_close(found.norm_alignment_metrics, torch.tensor(norm))
    assert (found.matched_idxs >= 0).sum() >= (align(inputs, boxes, classes, topk=5)
                                               .matched_idxs >= 0).sum()  # fmt: skip


def test_min_gt_size_lets_a_box_between_the_points_have_some():
    """3 pixels wide, 2.5 from the nearest point; as 8 pixels wide it has points inside."""
    inputs = make_assigner_input(False)
    box, label = torch.tensor([[34.5, 34.5, 37.5, 37.5]]), torch.tensor([1])
    assert (align(inputs, box, label).matched_idxs == -1).all()
    found = align(inputs, box, label, min_gt_size=16.0, candidates_inside_gt=True)
    own = inputs.centers[found.matched_idxs == 0]
    assert len(own) and ((own - 36).abs() < 8).all()


@pytest.mark.parametrize("count", [1, 3])
def test_min_positives_gives_the_nearest_points(count):
    """To whom the rule gives nothing; labels are at least 0.1 there, or the IoU."""
    inputs = make_assigner_input(False)
    boxes = torch.tensor([[34.5, 34.5, 37.5, 37.5], [8.0, 8.0, 100.0, 80.0]])
    classes = torch.tensor([1, 2])
    plain = align(inputs, boxes, classes)
    found = align(inputs, boxes, classes, min_positives=count)
    own = (found.matched_idxs == 0).nonzero().flatten()
    distance = (inputs.centers - 36).square().sum(1)
    assert sorted(own.tolist()) == sorted(distance.topk(count, largest=False).indices.tolist())
    for r in own.tolist():
        u = iou(boxes[0].tolist(), inputs.boxes[r].tolist())
        assert found.norm_alignment_metrics[r].item() == pytest.approx(max(u, 0.1), rel=1e-5)
    others = torch.ones(len(inputs.centers), dtype=torch.bool)
    others[own] = False
    assert (found.matched_idxs == plain.matched_idxs)[others].all()
    assert (found.norm_alignment_metrics == plain.norm_alignment_metrics)[others].all()


@pytest.mark.parametrize("seed", range(10))
def test_min_positives_is_a_guarantee_that_never_takes_points_away(seed):
    """In crowds of tiny boxes: all have their two; who had enough keeps what it had."""
    inputs = make_assigner_input(False, seed)
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(12, 2, generator=generator) * 40
    boxes = torch.cat([corner, corner + 4 * torch.rand(12, 2, generator=generator)], dim=1)
    boxes[0] = torch.tensor([10.0, 10.0, 110.0, 90.0])
    classes = torch.arange(12) % NUM_CLASSES
    plain, found = (align(inputs, boxes, classes, min_positives=n) for n in (0, 2))
    had = plain.matched_idxs >= 0
    assert (found.matched_idxs == plain.matched_idxs)[had].all()
    assert (found.norm_alignment_metrics == plain.norm_alignment_metrics)[had].all()
    counts = torch.stack([(found.matched_idxs == m).sum() for m in range(12)])
    before = torch.stack([(plain.matched_idxs == m).sum() for m in range(12)])
    assert (before < 2).sum() > 3 and (counts == before.clamp(min=2)).all()


def test_points_at_one_place_are_given_from_the_finest_level():
    """All levels have a point in the corner."""
    inputs = make_assigner_input(False)
    box = torch.tensor([[-1.0, -1.0, 0.0, 0.0]])
    found = align(inputs, box, torch.tensor([0]), min_positives=2)
    own = (found.matched_idxs == 0).nonzero().flatten()
    assert inputs.strides[own].tolist() == [8.0, 16.0]
    assert inputs.centers[own].tolist() == [[0, 0], [0, 0]]


def test_all_nan_predictions_reach_the_loss():
    """As long as some are finite, only those decide."""
    inputs, (boxes, classes) = make_assigner_input(False), random_ground_truth(1, 2)
    inputs.boxes[:5] = torch.nan
    assert torch.isfinite(align(inputs, boxes, classes).norm_alignment_metrics).all()
    inputs.boxes[:] = torch.nan
    assert align(inputs, boxes, classes).norm_alignment_metrics.isnan().any()


@pytest.mark.parametrize("kind", ["giou", "diou", "ciou"])
def test_other_iou_types_in_the_metric(kind):
    """t of every positive by hand; what is negative counts as 0."""
    inputs, (boxes, classes) = make_assigner_input(False), random_ground_truth(5, 4)
    found = align(inputs, boxes, classes, iou_type=kind, alpha=0.5, beta=2.0)
    positive = (found.matched_idxs >= 0).nonzero().flatten().tolist()
    assert positive
    for r in positive:
        m = found.matched_idxs[r].item()
        u = overlap_of(kind, boxes[m].tolist(), inputs.boxes[r].tolist())
        score = inputs.scores[r, classes[m]].item()
        assert found.alignment_metrics[r].item() == pytest.approx(score**0.5 * u**2, rel=1e-3)
    assert found.norm_alignment_metrics.min() >= 0 and found.norm_alignment_metrics.max() <= 1


def overlap_of(kind, a, b) -> float:
    """GIoU, DIoU and CIoU from their papers' formulas."""
    u = iou(a, b)
    width, height = (max(a[i + 2], b[i + 2]) - min(a[i], b[i]) for i in (0, 1))
    if kind == "giou":
        areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
        union = sum(areas) / (1 + u)
        return u - (width * height - union) / (width * height)
    apart = sum(((a[i] + a[i + 2]) - (b[i] + b[i + 2])) ** 2 / 4 for i in (0, 1))
    diou = u - apart / (width**2 + height**2)
    if kind == "diou":
        return diou
    angles = [math.atan((x[2] - x[0]) / (x[3] - x[1])) for x in (a, b)]
    v = 4 / math.pi**2 * (angles[0] - angles[1]) ** 2
    return diou - v * v / (1 - u + v)


def test_image_is_as_large_as_these_points():
    assert (SHAPES[0][0] * 8, SHAPES[0][1] * 8) == SIZE


def test_arguments_that_make_no_sense():
    with pytest.raises(ValueError, match="Unknown iou_type 'siou'. Available: iou"):
        TaskAlignedAssigner(iou_type="siou")
    with pytest.raises(ValueError, match="must not be negative"):
        TaskAlignedAssigner(min_gt_size=-1)


@pytest.mark.parametrize("kind", ["giou", "diou", "ciou"])
def test_inverted_predictions_are_worth_nothing(kind):
    """Two negative sides make a positive area: torchvision's GIoU of this one is 1."""
    inverted = torch.tensor([[-0.4, 28.0, -20.0, -32.0]])
    gt_boxes = torch.tensor([[-2.0, -29.0, 5.0, 47.0]])
    assert IOU_FUNCTIONS[kind](gt_boxes, inverted).item() == 0
    usual = torch.tensor([[-2.0, -29.0, 5.0, 47.0], [100.0, 100.0, 110.0, 110.0]])
    assert IOU_FUNCTIONS[kind](gt_boxes, usual)[0].tolist() == pytest.approx([1, 0], abs=1e-6)
