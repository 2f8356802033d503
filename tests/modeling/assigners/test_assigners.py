"""The assigners against slow oracles written from the equations, and in every corner."""

import math

import pytest
import torch

from tests.helpers import square_anchors
from tood.modeling.assigners import (
    ASSIGNER_REGISTRY,
    AssignmentStatistics,
    ATSSAssigner,
    TaskAlignedAssigner,
)

SHAPES = [(12, 16), (6, 8), (3, 4), (2, 2), (1, 1)]
SIZE = (96.0, 128.0)


def iou(a, b) -> float:
    """IoU of two boxes, in plain Python."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area = [max(0.0, x[2] - x[0]) * max(0.0, x[3] - x[1]) for x in (a, b)]
    return width * height / max(sum(area) - width * height, 1e-6)


def inside(point, box) -> bool:
    x, y = point
    return min(x - box[0], y - box[1], box[2] - x, box[3] - y) > 0.01


def winners(claims: dict[int, list[tuple[float, int]]], num_points: int) -> list[int]:
    """For each point the claiming ground truth of highest IoU, the first of equals, or -1."""
    matched = [-1] * num_points
    for point, claim in claims.items():
        best = max(u for u, _ in claim)
        matched[point] = min(gt for u, gt in claim if u == best)
    return matched


def tal_oracle(scores, boxes, points, gt_boxes, gt_classes, topk=13, alpha=1.0, beta=6.0):
    """Section 3.2 of the paper with the reference's rules, one ground truth at a time."""
    claims, t, u = {}, {}, {}
    for m, (gt, label) in enumerate(zip(gt_boxes.tolist(), gt_classes.tolist(), strict=True)):
        for r, box in enumerate(boxes.tolist()):
            u[m, r] = iou(gt, box)
            t[m, r] = scores[r, label].item() ** alpha * u[m, r] ** beta
        ranked = sorted(range(len(boxes)), key=lambda r, m=m: -t[m, r])[:topk]
        for r in ranked:
            if t[m, r] > 0 and inside(points[r].tolist(), gt):
                claims.setdefault(r, []).append((u[m, r], m))
    matched = winners(claims, len(boxes))
    normalized = [0.0] * len(boxes)
    for m in range(len(gt_boxes)):
        own = [r for r, gt in enumerate(matched) if gt == m]
        for r in own:
            largest_t = max(t[m, q] for q in own)
            largest_u = max(u[m, q] for q in own)
            normalized[r] = t[m, r] / (largest_t + 1e-7) * largest_u
    return matched, normalized


def atss_oracle(anchors, counts, gt_boxes, topk=9):
    """Algorithm 1 of the ATSS paper, one ground truth at a time."""
    claims = {}
    centers = ((anchors[:, :2] + anchors[:, 2:]) / 2).tolist()
    for m, gt in enumerate(gt_boxes.tolist()):
        middle = ((gt[0] + gt[2]) / 2, (gt[1] + gt[3]) / 2)
        candidates, start = [], 0
        for count in counts:
            level = range(start, start + count)
            candidates += sorted(level, key=lambda r: math.dist(centers[r], middle))[:topk]
            start += count
        ious = [iou(anchors[r].tolist(), gt) for r in candidates]
        mean = sum(ious) / len(ious)
        threshold = mean + math.sqrt(sum((u - mean) ** 2 for u in ious) / (len(ious) - 1))
        for r, u in zip(candidates, ious, strict=True):
            if u >= threshold and inside(centers[r], gt):
                claims.setdefault(r, []).append((u, m))
    return winners(claims, len(anchors))


def random_boxes(n: int, generator: torch.Generator) -> torch.Tensor:
    size = torch.tensor([SIZE[1], SIZE[0]])
    center = torch.rand(n, 2, generator=generator) * size
    half = torch.rand(n, 2, generator=generator) * 30 + 3
    return torch.cat([center - half, center + half], dim=1)


def random_scene(seed: int, num_gts: int, num_classes: int = 4):
    """Points of five levels with random predictions, and random ground truth."""
    g = torch.Generator().manual_seed(seed)
    anchors = torch.cat(square_anchors(SHAPES))
    points = (anchors[:, :2] + anchors[:, 2:]) / 2
    gt_boxes = random_boxes(num_gts, g)
    half = torch.rand(len(points), 2, generator=g) * 30 + 3
    jitter = torch.randn(len(points), 2, generator=g) * 4
    pred_boxes = torch.cat([points + jitter - half, points + jitter + half], dim=1)
    scores = torch.rand(len(points), num_classes, generator=g)
    classes = torch.randint(0, num_classes, (num_gts,), generator=g)
    return scores, pred_boxes, points, gt_boxes, classes, anchors


def same(a, b) -> None:
    """Two assignments are equal, bit by bit."""
    assert torch.equal(a.matched_idxs, b.matched_idxs)
    assert torch.equal(a.gt_classes, b.gt_classes)
    for x, y in (
        (a.alignment_metrics, b.alignment_metrics),
        (a.norm_alignment_metrics, b.norm_alignment_metrics),
    ):
        assert (x is None and y is None) or torch.equal(x, y)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("alpha, beta, topk", [(1.0, 6.0, 13), (0.5, 2.0, 4), (1.5, 4.5, 30)])
def test_task_aligned_equals_oracle(seed, alpha, beta, topk):
    scores, boxes, points, gt_boxes, gt_classes, _ = random_scene(seed, 7)
    assignment = TaskAlignedAssigner(topk, alpha, beta)(scores, boxes, points, gt_boxes, gt_classes)
    matched, normalized = tal_oracle(scores, boxes, points, gt_boxes, gt_classes, topk, alpha, beta)
    assert assignment.matched_idxs.tolist() == matched
    assert max(matched) >= 0
    expected = [4 if m < 0 else gt_classes[m].item() for m in matched]
    assert assignment.gt_classes.tolist() == expected
    torch.testing.assert_close(
        assignment.norm_alignment_metrics, torch.tensor(normalized), rtol=1e-4, atol=1e-7
    )


@pytest.mark.parametrize("seed", range(4))
def test_atss_equals_oracle(seed):
    *_, gt_boxes, gt_classes, anchors = random_scene(seed, 6)
    counts = [h * w for h, w in SHAPES]
    assignment = ATSSAssigner(num_classes=4)(anchors, counts, gt_boxes, gt_classes)
    assert assignment.matched_idxs.tolist() == atss_oracle(anchors, counts, gt_boxes)
    assert (assignment.matched_idxs >= 0).any()
    assert assignment.norm_alignment_metrics is None


def test_the_largest_soft_label_is_the_largest_iou():
    scores, boxes, points, gt_boxes, gt_classes, _ = random_scene(3, 5)
    boxes[:] = gt_boxes[0]  # a metric far above eps
    assignment = TaskAlignedAssigner(topk=1000)(scores, boxes, points, gt_boxes, gt_classes)
    own = assignment.matched_idxs == 0
    assert assignment.norm_alignment_metrics[own].max().item() == pytest.approx(1.0, abs=1e-5)
    assert assignment.norm_alignment_metrics.min() >= 0
    assert assignment.norm_alignment_metrics.max() <= 1


def test_eps_matters_where_the_metric_is_as_small():
    """s = 0.01, u = 0.1: t = 1e-8 beside eps = 1e-7, so the label is 0.1 / 11 instead of 0.1."""
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
def test_chunk_has_no_influence(chunk_size):
    scores, boxes, points, gt_boxes, gt_classes, anchors = random_scene(0, 23)
    arguments = (scores, boxes, points, gt_boxes, gt_classes)
    same(TaskAlignedAssigner(chunk_size=chunk_size)(*arguments), TaskAlignedAssigner()(*arguments))
    arguments = (anchors, [h * w for h, w in SHAPES], gt_boxes, gt_classes)
    same(ATSSAssigner(chunk_size=chunk_size)(*arguments), ATSSAssigner()(*arguments))


@pytest.mark.parametrize("num_points", [0, 1, 5])
@pytest.mark.parametrize("num_gts", [0, 1, 3])
def test_fewer_points_than_topk(num_points, num_gts):
    scores, boxes, points, gt_boxes, gt_classes, anchors = random_scene(0, 3)
    gt_boxes, gt_classes = gt_boxes[:num_gts], gt_classes[:num_gts]
    for assignment in (
        TaskAlignedAssigner()(
            scores[:num_points], boxes[:num_points], points[:num_points], gt_boxes, gt_classes
        ),
        ATSSAssigner(num_classes=4)(anchors[:num_points], [num_points], gt_boxes, gt_classes),
    ):
        assert assignment.matched_idxs.shape == (num_points,)
        assert assignment.matched_idxs.dtype == assignment.gt_classes.dtype == torch.int64
        if num_gts == 0:
            assert (assignment.matched_idxs == -1).all()
            assert (assignment.gt_classes == 4).all()


def test_no_ground_truth_gives_the_same_dtypes():
    scores, boxes, points, gt_boxes, gt_classes, _ = random_scene(0, 3)
    normal = TaskAlignedAssigner()(scores, boxes, points, gt_boxes, gt_classes)
    empty = TaskAlignedAssigner()(scores, boxes, points, gt_boxes[:0], gt_classes[:0])
    for name in ("matched_idxs", "gt_classes", "alignment_metrics", "norm_alignment_metrics"):
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
    assert assignment.gt_classes.tolist() == [1]
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
    """Nothing is relative to another level's stride."""
    *_, gt_boxes, gt_classes, anchors = random_scene(0, 6)
    count = SHAPES[0][0] * SHAPES[0][1]
    assignment = ATSSAssigner(num_classes=4)(anchors[:count], [count], gt_boxes, gt_classes)
    assert assignment.matched_idxs.tolist() == atss_oracle(anchors[:count], [count], gt_boxes)
    scores, boxes, points, *_ = random_scene(0, 6)
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
    scores, boxes, points, gt_boxes, _, anchors = random_scene(1, 1)
    atss = ATSSAssigner()(
        anchors, [h * w for h, w in SHAPES], gt_boxes.repeat(2, 1), torch.tensor(labels)
    )
    assert set(atss.matched_idxs.tolist()) == {-1, 0}
    scores[:] = 0.5
    assignment = TaskAlignedAssigner()(
        scores, boxes, points, gt_boxes.repeat(2, 1), torch.tensor(labels)
    )
    assert set(assignment.matched_idxs.tolist()) == {-1, 0}
    assert torch.isfinite(assignment.norm_alignment_metrics).all()


def test_degenerate_input_stays_in_range():
    """Zero-sized, inverted, huge and unreadable predictions: targets within [0, 1]."""
    scores, boxes, points, gt_boxes, gt_classes, anchors = random_scene(2, 6)
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
    matched = ATSSAssigner()(
        anchors, [h * w for h, w in SHAPES], gt_boxes, gt_classes
    ).matched_idxs.tolist()
    assert not {0, 1} & set(matched)


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
    positive = assignment.matched_idxs >= 0
    assert positive.any()
    assert (assignment.gt_classes[positive] == 0).all()
    assert (assignment.gt_classes[~positive] == 1).all()


def test_atss_spread_is_unbiased():
    """Of two candidates none reaches mean + |u1 - u2| / sqrt(2); the biased one gives + / 2."""
    anchors = torch.tensor([[0.0, 0.0, 64.0, 64.0], [0.0, 0.0, 64.0, 80.0]])
    gt = torch.tensor([[0.0, 0.0, 64.0, 66.0]])
    assignment = ATSSAssigner()(anchors, [2], gt, torch.tensor([0]))
    assert assignment.matched_idxs.tolist() == [-1, -1]


@pytest.mark.parametrize("counts", [[4], [1, 1, 1, 1], [1]])
def test_atss_with_levels_smaller_than_topk(counts):
    """One candidate in all has no standard deviation; the threshold must not be NaN."""
    anchors = torch.tensor([[0.0, 0.0, 64.0, 64.0]]).repeat(sum(counts), 1)
    anchors += torch.arange(sum(counts))[:, None] * 3.0
    gt = torch.tensor([[0.0, 0.0, 64.0, 64.0]])
    assignment = ATSSAssigner()(anchors, counts, gt, torch.tensor([7]))
    assert assignment.matched_idxs[0] == 0
    assert assignment.gt_classes[0] == 7


def test_point_on_the_edge_of_a_ground_truth():
    """ATSS at an anchor whose center lies on the edge and in a corner: no positive, no error."""
    anchors = torch.cat(square_anchors(SHAPES))
    gt = torch.tensor([[8.0, 8.0, 16.0, 16.0]])
    assignment = ATSSAssigner()(anchors, [h * w for h, w in SHAPES], gt, torch.tensor([0]))
    assert (assignment.matched_idxs == -1).all()


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
            assignment = ATSSAssigner()(boxes, [r // 2, r // 2], gt_boxes, classes)
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
        ({"points": torch.zeros(3, 2)}, "must be"),
    ],
)
def test_shapes_that_do_not_fit(change, message):
    scores, boxes, points, gt_boxes, gt_classes, _ = random_scene(0, 2)
    arguments = {
        "pred_scores": scores,
        "pred_boxes": boxes,
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
    with pytest.raises(ValueError, match="sum of num_anchors_per_level"):
        ATSSAssigner()(torch.zeros(3, 4), [2], torch.zeros(1, 4), torch.zeros(1).long())


def test_statistics_by_hand():
    statistics = AssignmentStatistics()
    assert statistics.compute_and_reset() == {}
    # Three ground truths: small with 2 positives, small with none, large with 1.
    statistics.update(torch.tensor([0, -1, 0, 2]), torch.tensor([32.0**2 - 1, 10.0, 96.0**2]))
    statistics.update(torch.tensor([-1, -1]), torch.zeros(0))
    means = statistics.compute_and_reset()
    assert means["pos_per_gt"] == 1.0
    assert means["pos_per_gt_small"] == 1.0
    assert means["gt_without_pos_frac_small"] == 0.5
    assert means["pos_per_gt_large"] == 1.0
    assert means["gt_without_pos_frac"] == pytest.approx(1 / 3)
    assert "pos_per_gt_medium" not in means
    assert statistics.compute_and_reset() == {}


def test_registry():
    assert ASSIGNER_REGISTRY.get("TaskAlignedAssigner") is TaskAlignedAssigner
    assert ASSIGNER_REGISTRY.get("ATSSAssigner") is ATSSAssigner
