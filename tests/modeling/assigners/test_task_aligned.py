"""The task-aligned assigner against a slow oracle of its equations, and in corner cases."""

import pytest
import torch

from tests.modeling.assigners.oracles import (
    COUNTS,
    assign_anchors,
    iou,
    random_scene,
    same,
    tal_oracle,
)
from tood.modeling.assigners import ASSIGNER_REGISTRY, ATSSAssigner, TaskAlignedAssigner
from tood.modeling.assignment_stats import AssignmentStatistics


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("alpha, beta, topk", [(1.0, 6.0, 13), (0.5, 2.0, 4), (1.5, 4.5, 30)])
def test_task_aligned_equals_oracle(seed, alpha, beta, topk):
    scores, boxes, points, gt_boxes, gt_classes, _ = random_scene(seed, 7)
    assignment = TaskAlignedAssigner(topk, alpha, beta)(scores, boxes, points, gt_boxes, gt_classes)
    matched, normalized = tal_oracle(scores, boxes, points, gt_boxes, gt_classes, topk, alpha, beta)
    assert assignment.matched_idxs.tolist() == matched
    assert max(matched) >= 0
    torch.testing.assert_close(
        assignment.norm_alignment_metrics, torch.tensor(normalized), rtol=1e-4, atol=1e-7
    )


def test_the_largest_soft_label_is_the_largest_iou():
    scores, boxes, points, gt_boxes, gt_classes, _ = random_scene(3, 5)
    boxes[:] = gt_boxes[0]  # a metric far above eps
    assignment = TaskAlignedAssigner(topk=1000)(scores, boxes, points, gt_boxes, gt_classes)
    own = assignment.matched_idxs == 0
    assert assignment.norm_alignment_metrics[own].max().item() == pytest.approx(1.0, abs=1e-5)
    assert assignment.norm_alignment_metrics.min() >= 0
    assert assignment.norm_alignment_metrics.max() <= 1


def test_eps_matters_where_the_metric_is_as_small():
    """s = 0.01, u = 0.1: t = 1e-8 next to eps = 1e-7, so the label is 0.1 / 11 instead of 0.1."""
    point = torch.tensor([[5.0, 5.0]])
    gt = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    box = torch.tensor([[0.0, 0.0, 10.0, 1.0]])
    arguments = (torch.tensor([[0.01]]), box, point, gt, torch.tensor([0]))
    assert TaskAlignedAssigner()(*arguments).norm_alignment_metrics.item() == pytest.approx(
        0.1 / 11, rel=1e-3
    )
    assert TaskAlignedAssigner(eps=0.0)(*arguments).norm_alignment_metrics.item() == pytest.approx(
        0.1, rel=1e-3
    )


@pytest.mark.parametrize("chunk_size", [1, 2, 64])
def test_chunk_size_does_not_change_the_result(chunk_size):
    scores, boxes, points, gt_boxes, gt_classes, _ = random_scene(0, 23)
    arguments = (scores, boxes, points, gt_boxes, gt_classes)
    same(TaskAlignedAssigner(chunk_size=chunk_size)(*arguments), TaskAlignedAssigner()(*arguments))


@pytest.mark.parametrize("num_points", [0, 1, 5])
@pytest.mark.parametrize("num_gts", [0, 1, 3])
def test_fewer_points_than_topk(num_points, num_gts):
    scores, boxes, points, gt_boxes, gt_classes, _ = random_scene(0, 3)
    assignment = TaskAlignedAssigner()(
        scores[:num_points],
        boxes[:num_points],
        points[:num_points],
        gt_boxes[:num_gts],
        gt_classes[:num_gts],
    )
    assert assignment.matched_idxs.shape == (num_points,)
    assert assignment.matched_idxs.dtype == torch.int64
    if num_gts == 0:
        assert (assignment.matched_idxs == -1).all()


def test_no_ground_truth_gives_the_same_dtypes():
    scores, boxes, points, gt_boxes, gt_classes, _ = random_scene(0, 3)
    normal = TaskAlignedAssigner()(scores, boxes, points, gt_boxes, gt_classes)
    empty = TaskAlignedAssigner()(scores, boxes, points, gt_boxes[:0], gt_classes[:0])
    for name in ("matched_idxs", "alignment_metrics", "norm_alignment_metrics"):
        assert getattr(normal, name).dtype == getattr(empty, name).dtype
        assert getattr(normal, name).shape == getattr(empty, name).shape
    assert (empty.norm_alignment_metrics == 0).all()


def test_topk_comes_before_the_inside_test():
    """Candidates outside of the ground truth are lost, not replaced."""
    gt = torch.tensor([[10.0, 10.0, 30.0, 30.0]])
    points = torch.tensor([[0.0, 0.0], [20.0, 20.0]])
    boxes = torch.tensor([[10.0, 10.0, 30.0, 30.0], [10.0, 10.0, 30.0, 29.0]])
    scores = torch.tensor([[0.9], [0.9]])
    assignment = TaskAlignedAssigner(topk=1)(scores, boxes, points, gt, torch.tensor([0]))
    assert assignment.matched_idxs.tolist() == [-1, -1]
    assignment = TaskAlignedAssigner(topk=2)(scores, boxes, points, gt, torch.tensor([0]))
    assert assignment.matched_idxs.tolist() == [-1, 0]


def test_a_point_goes_only_to_a_ground_truth_that_claims_it():
    """The second ground truth overlaps more, but its one candidate is the other point."""
    gts = torch.tensor([[0.0, 0.0, 20.0, 20.0], [0.0, 0.0, 20.0, 22.0]])
    points = torch.tensor([[10.0, 10.0], [11.0, 10.0]])
    boxes = torch.tensor([[0.0, 0.0, 20.0, 21.5], [0.0, 0.0, 20.0, 22.0]])
    scores = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    assignment = TaskAlignedAssigner(topk=1)(scores, boxes, points, gts, torch.tensor([0, 1]))
    assert iou(boxes[0].tolist(), gts[1].tolist()) > iou(boxes[0].tolist(), gts[0].tolist())
    assert assignment.matched_idxs.tolist() == [0, 1]


def test_conflict_goes_to_the_highest_iou_not_the_highest_metric():
    gts = torch.tensor([[0.0, 0.0, 20.0, 20.0], [0.0, 0.0, 20.0, 22.0]])
    points = torch.tensor([[10.0, 10.0]])
    boxes = torch.tensor([[0.0, 0.0, 20.0, 21.9]])
    scores = torch.tensor([[0.99, 0.01]])
    assignment = TaskAlignedAssigner()(scores, boxes, points, gts, torch.tensor([0, 1]))
    assert assignment.matched_idxs.tolist() == [1]
    # The first one lost its only point: no target, and no NaN from its empty maximum.
    assert torch.isfinite(assignment.norm_alignment_metrics).all()


@pytest.mark.parametrize("score, width", [(0.0, 10.0), (0.9, 0.0)])
def test_no_alignment_no_positive(score, width):
    """A candidate inside its ground truth with t = 0: its score, or its IoU, is 0."""
    point, gt = torch.tensor([[5.0, 5.0]]), torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    box = torch.tensor([[0.0, 0.0, width, 10.0]])
    arguments = (torch.tensor([[score]]), box, point, gt, torch.tensor([0]))
    assert TaskAlignedAssigner()(*arguments).matched_idxs.tolist() == [-1]


@pytest.mark.parametrize("distance, expected", [(0.0, -1), (0.01, -1), (0.0100001, 0), (0.02, 0)])
def test_inside_means_more_than_a_hundredth_of_a_pixel(distance, expected):
    gt = torch.tensor([[0.0, 0.0, 8.0, 8.0]])
    point = torch.tensor([[distance, 4.0]])
    assignment = TaskAlignedAssigner()(
        torch.tensor([[0.5]]), gt.clone(), point, gt, torch.tensor([0])
    )
    assert assignment.matched_idxs.tolist() == [expected]


def test_ground_truth_between_the_points_gets_nothing():
    """The faithful default: 5x5 pixels between points that are 8 apart."""
    scores, boxes, points, *_ = random_scene(0, 1)
    gt = torch.tensor([[17.0, 17.0, 22.0, 22.0]])
    assignment = TaskAlignedAssigner()(scores, boxes, points, gt, torch.tensor([0]))
    assert (assignment.matched_idxs == -1).all()
    statistics = AssignmentStatistics()
    statistics.update(assignment.matched_idxs, torch.tensor([25.0]))
    assert statistics.compute_and_reset()["gt_without_pos_frac_small"] == 1.0


def test_one_level_alone():
    """Nothing depends on another level's stride."""
    scores, boxes, points, gt_boxes, gt_classes, _ = random_scene(0, 6)
    count = COUNTS[0]
    one = (scores[:count], boxes[:count], points[:count], gt_boxes, gt_classes)
    assert TaskAlignedAssigner()(*one).matched_idxs.tolist() == tal_oracle(*one)[0]


def test_zero_iou_is_not_a_tie():
    """A point whose box overlaps nothing goes to nobody, inside of two ground truths or not."""
    gts = torch.tensor([[0.0, 0.0, 20.0, 20.0], [0.0, 0.0, 22.0, 22.0]])
    box = torch.tensor([[100.0, 100.0, 110.0, 110.0]])
    assignment = TaskAlignedAssigner()(
        torch.tensor([[0.9]]), box, torch.tensor([[10.0, 10.0]]), gts, torch.tensor([0, 0])
    )
    assert assignment.matched_idxs.tolist() == [-1]


@pytest.mark.parametrize("labels", [(1, 1), (1, 2)])
def test_two_identical_ground_truths(labels):
    """Deterministic: the first takes every point that both claim with the same IoU."""
    scores, boxes, points, gt_boxes, _, _ = random_scene(1, 1)
    scores[:] = 0.5
    assignment = TaskAlignedAssigner()(
        scores, boxes, points, gt_boxes.repeat(2, 1), torch.tensor(labels)
    )
    assert set(assignment.matched_idxs.tolist()) == {-1, 0}
    assert torch.isfinite(assignment.norm_alignment_metrics).all()


def test_degenerate_input_stays_in_range():
    """Empty, inverted, huge and NaN predictions: targets within [0, 1]."""
    scores, boxes, points, gt_boxes, gt_classes, _ = random_scene(2, 6)
    boxes[::5, 2:] = boxes[::5, :2]
    boxes[1::5] = boxes[1::5, [2, 3, 0, 1]]
    boxes[2::25] = float("nan")
    boxes[3::25] = float("inf")
    boxes[4::25] *= 1e18
    gt_boxes[0, 2:] = gt_boxes[0, :2]  # a ground truth without area
    gt_boxes[1] = gt_boxes[1, [2, 3, 0, 1]]  # and an inverted one
    assignment = TaskAlignedAssigner()(scores, boxes, points, gt_boxes, gt_classes)
    metrics = assignment.norm_alignment_metrics
    assert torch.isfinite(metrics).all() and metrics.min() >= 0 and metrics.max() <= 1
    assert not {0, 1} & set(assignment.matched_idxs.tolist())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_computed_in_float32(dtype):
    """u^6 of 0.1 is 1e-6, times a score of 0.01 is 0 in float16: it must not be lost."""
    point, gt = torch.tensor([[5.0, 5.0]]), torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    box = torch.tensor([[0.0, 0.0, 10.0, 1.0]])
    arguments = (torch.tensor([[0.01]]), box, point, gt)
    half = TaskAlignedAssigner()(*(x.to(dtype) for x in arguments), torch.tensor([0]))
    assert half.matched_idxs.tolist() == [0]
    assert half.norm_alignment_metrics.dtype == torch.float32
    full = TaskAlignedAssigner()(*(x.to(dtype).float() for x in arguments), torch.tensor([0]))
    same(half, full)


def test_no_gradient_is_kept():
    scores, boxes, points, gt_boxes, gt_classes, _ = random_scene(0, 3)
    assignment = TaskAlignedAssigner()(
        scores.requires_grad_(), boxes.requires_grad_(), points, gt_boxes, gt_classes
    )
    assert not assignment.norm_alignment_metrics.requires_grad


def test_one_class_and_class_zero():
    scores, boxes, points, gt_boxes, _, _ = random_scene(0, 3, num_classes=1)
    assignment = TaskAlignedAssigner()(scores, boxes, points, gt_boxes, torch.zeros(3).long())
    assert (assignment.matched_idxs >= 0).any()


@pytest.mark.parametrize("name", ["task-aligned", "ATSS"])
def test_thousands_of_ground_truths_in_bounded_memory(name):
    """5000 ground truths, 22400 points: the temporaries stay those of one chunk."""
    g = torch.Generator().manual_seed(0)
    r, m = 22400, 5000
    points = torch.rand(r, 2, generator=g) * 1000
    boxes = torch.cat([points - 8, points + 8], dim=1)
    centers = torch.rand(m, 2, generator=g) * 1000
    gt_boxes = torch.cat([centers - 8, centers + 8], dim=1)
    scores, classes = torch.rand(r, 3, generator=g), torch.randint(0, 3, (m,), generator=g)
    largest = 0

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                largest = max(largest, out.numel() * out.element_size())
            return out

    with Watch():
        if name == "ATSS":
            assignment = assign_anchors(ATSSAssigner(), boxes, [r // 2, r // 2], gt_boxes, classes)
        else:
            assignment = TaskAlignedAssigner()(scores, boxes, points, gt_boxes, classes)
    assert largest <= 16 * r * 8  # of a chunk of 16, in at most 8 bytes each
    assert (assignment.matched_idxs >= 0).sum() > m


@pytest.mark.parametrize(
    "change, message",
    [
        ({"gt_boxes": torch.zeros(2, 5)}, r"gt_boxes must have the shape \(M, 4\)"),
        ({"gt_classes": torch.zeros(3).long()}, "gt_classes must have the shape"),
        ({"gt_classes": torch.tensor([0, 9])}, "outside of"),
        ({"points": torch.zeros(3, 2)}, "must have the shapes"),
    ],
)
def test_shapes_that_do_not_fit(change, message):
    scores, boxes, points, gt_boxes, gt_classes, _ = random_scene(0, 2)
    arguments = {
        "scores": scores,
        "boxes": boxes,
        "points": points,
        "gt_boxes": gt_boxes,
        "gt_classes": gt_classes,
    }
    with pytest.raises(ValueError, match=message):
        TaskAlignedAssigner()(**{**arguments, **change})


def test_constructor_arguments_that_make_no_sense():
    for arguments in ({"topk": 0}, {"alpha": -1.0}, {"chunk_size": 0}):
        with pytest.raises(ValueError, match="must"):
            TaskAlignedAssigner(**arguments)


def test_registered():
    assert ASSIGNER_REGISTRY.get("TaskAlignedAssigner") is TaskAlignedAssigner
