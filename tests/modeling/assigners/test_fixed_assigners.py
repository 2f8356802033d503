"""The rules of FCOS, FoveaBox and RetinaNet against slow oracles; the options of TAL."""

import math

import pytest
import torch
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, pairwise_iou

from tests.helpers import STRIDES, square_anchors
from tests.modeling.assigners.test_assigners import (
    SHAPES,
    SIZE,
    inside,
    iou,
    random_boxes,
    tal_oracle,
)
from tood.modeling.assigners import (
    AssignerInput,
    FCOSAssigner,
    FoveaBoxAssigner,
    MaxIoUAssigner,
    TaskAlignedAssigner,
)
from tood.modeling.box_ops import box_centers

NUM_CLASSES = 4
COUNTS = [rows * columns for rows, columns in SHAPES]


def make_samples(half_cell: bool, seed: int = 0) -> AssignerInput:
    """The points of one image, in the corners or in the middle of their cells."""
    generator = torch.Generator().manual_seed(seed)
    strides = torch.cat([torch.full((n,), float(s)) for n, s in zip(COUNTS, STRIDES, strict=True)])
    anchors = torch.cat(square_anchors(SHAPES)) + half_cell * strides[:, None] / 2
    points = box_centers(anchors)
    reach = strides[:, None] * 3 * torch.rand(len(points), 2, generator=generator)
    return AssignerInput(
        torch.rand(len(points), NUM_CLASSES, generator=generator),
        torch.cat([points - reach, points + reach], dim=1),
        anchors,
        points,
        strides,
        COUNTS,
    )


def ground_truth(seed: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return random_boxes(count, generator), torch.randint(NUM_CLASSES, (count,), generator=generator)


def smallest(claims: list[list[int]], gt_boxes: torch.Tensor) -> list[int]:
    """Of the ground truths that claim a point the one of least area, the first of equals."""
    area = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in gt_boxes.tolist()]
    return [min(own, key=lambda m: (area[m], m), default=-1) for own in claims]


def level_of(samples: AssignerInput, r: int) -> int:
    return STRIDES.index(int(samples.strides[r]))


def fcos_oracle(samples, gt_boxes, radius) -> list[int]:
    limits = [-1, 64, 128, 256, 512, math.inf]
    claims = []
    for r, (x, y) in enumerate(samples.points.tolist()):
        level, own = level_of(samples, r), []
        for m, (x1, y1, x2, y2) in enumerate(gt_boxes.tolist()):
            sides = (x - x1, y - y1, x2 - x, y2 - y)
            reach = radius * STRIDES[level] if radius else math.inf
            middle = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2)) < reach
            if min(sides) > 0 and middle and limits[level] <= max(sides) <= limits[level + 1]:
                own.append(m)
        claims.append(own)
    return smallest(claims, gt_boxes)


def fovea_oracle(samples, gt_boxes, sigma) -> list[int]:
    ranges = [(1, 64), (32, 128), (64, 256), (128, 512), (256, 2048)]
    claims = []
    for r, (x, y) in enumerate(samples.points.tolist()):
        own = []
        for m, (x1, y1, x2, y2) in enumerate(gt_boxes.tolist()):
            low, high = ranges[level_of(samples, r)]
            near_x = abs(x - (x1 + x2) / 2) <= sigma * (x2 - x1) / 2
            near_y = abs(y - (y1 + y2) / 2) <= sigma * (y2 - y1) / 2
            if low <= math.sqrt((x2 - x1) * (y2 - y1)) <= high and near_x and near_y:
                own.append(m)
        claims.append(own)
    return smallest(claims, gt_boxes)


def assert_classes_follow(assignment, gt_classes):
    expected = [NUM_CLASSES if m < 0 else gt_classes[m].item() for m in assignment.matched_idxs]
    assert assignment.gt_classes.tolist() == expected
    assert assignment.alignment_metrics is assignment.norm_alignment_metrics is None


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("radius", [0.0, 1.5])
def test_fcos_equals_oracle(seed, radius):
    samples, (boxes, classes) = make_samples(True), ground_truth(seed, 12)
    assignment = FCOSAssigner(radius, chunk_size=5).assign(samples, boxes, classes)
    assert assignment.matched_idxs.tolist() == fcos_oracle(samples, boxes, radius)
    assert (assignment.matched_idxs >= 0).any()
    assert_classes_follow(assignment, classes)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("sigma", [0.4, 0.8])
def test_foveabox_equals_oracle(seed, sigma):
    samples, (boxes, classes) = make_samples(True), ground_truth(seed, 12)
    assignment = FoveaBoxAssigner(sigma, chunk_size=5).assign(samples, boxes, classes)
    assert assignment.matched_idxs.tolist() == fovea_oracle(samples, boxes, sigma)
    assert (assignment.matched_idxs >= 0).any()
    assert_classes_follow(assignment, classes)


@pytest.mark.parametrize("seed", range(6))
def test_iou_rule_by_hand_and_by_detectron2(seed):
    """The thresholds, and the best anchors of each ground truth."""
    samples, (boxes, classes) = make_samples(False), ground_truth(seed, 6)
    assignment = MaxIoUAssigner().assign(samples, boxes, classes)
    ious = [[iou(box, anchor) for anchor in samples.anchors.tolist()] for box in boxes.tolist()]
    for r, (matched, label) in enumerate(
        zip(assignment.matched_idxs.tolist(), assignment.gt_classes.tolist(), strict=True)
    ):
        own = [row[r] for row in ious]
        is_best = any(row[r] == pytest.approx(max(row), rel=1e-5) for row in ious)
        if max(own) >= 0.5 or is_best:
            assert own[matched] == pytest.approx(max(own)) and label == classes[matched]
        else:
            assert matched == -1 and label == (NUM_CLASSES if max(own) < 0.4 else -1)
    matcher = Matcher([0.4, 0.5], [0, -1, 1], allow_low_quality_matches=True)
    _, kinds = matcher(pairwise_iou(Boxes(boxes), Boxes(samples.anchors)))
    assert ((assignment.matched_idxs >= 0) == (kinds == 1)).all()


@pytest.mark.parametrize("useless", [[1e5, 1e5, 1e5 + 10, 1e5 + 10], [10.0, 10.0, 10.0, 10.0]])
def test_iou_rule_gives_nothing_to_a_box_that_overlaps_no_anchor(useless):
    """Every anchor would be its best otherwise, alone and beside another box."""
    samples = make_samples(False)
    assignment = MaxIoUAssigner().assign(samples, torch.tensor([useless]), torch.tensor([1]))
    assert (assignment.gt_classes == NUM_CLASSES).all()
    usual = torch.tensor([[0.0, 0.0, 64.0, 64.0]])
    alone = MaxIoUAssigner().assign(samples, usual, torch.tensor([0]))
    both = torch.cat([usual, torch.tensor([useless])])
    together = MaxIoUAssigner().assign(samples, both, torch.tensor([0, 1]))
    assert (alone.matched_idxs >= 0).any()
    assert together.matched_idxs.tolist() == alone.matched_idxs.tolist()


@pytest.mark.parametrize("assigner", [FCOSAssigner(), FoveaBoxAssigner(), MaxIoUAssigner()])
def test_no_ground_truth(assigner):
    empty = torch.zeros(0, dtype=torch.int64)
    assignment = assigner.assign(make_samples(True), torch.zeros(0, 4), empty)
    assert (assignment.matched_idxs == -1).all() and assignment.matched_idxs.dtype == torch.int64
    assert (assignment.gt_classes == NUM_CLASSES).all()


@pytest.mark.parametrize("rule", [FCOSAssigner, FoveaBoxAssigner])
def test_chunks_have_no_influence(rule):
    samples, (boxes, classes) = make_samples(True), ground_truth(3, 40)
    boxes[20:] = boxes[:20]  # equal areas: the first wins
    whole = rule(chunk_size=1000).assign(samples, boxes, classes).matched_idxs
    for size in (1, 7):
        part = rule(chunk_size=size).assign(samples, boxes, classes).matched_idxs
        assert part.tolist() == whole.tolist()
    assert whole.max() < 20


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: FCOSAssigner(sizes_of_interest=[64]), "SIZES_OF_INTEREST has 1 limits, and 5"),
        (lambda: FoveaBoxAssigner(scale_ranges=[(1, 2)]), "SCALE_RANGES has 1 pairs for 5 levels"),
        (lambda: MaxIoUAssigner(0.6, 0.5), "must be in order"),
        (lambda: TaskAlignedAssigner(iou_type="siou"), "iou_type is 'siou'"),
        (lambda: TaskAlignedAssigner(min_gt_size=-1), "must not be negative"),
    ],
)
def test_numbers_that_do_not_fit(build, message):
    with pytest.raises(ValueError, match=message):
        build().assign(make_samples(True), *ground_truth(0, 2))


# ---- options of task-aligned assignment ----


def align(samples, boxes, classes, **options):
    return TaskAlignedAssigner(**options).assign(samples, boxes, classes)


@pytest.mark.parametrize("seed", range(3))
def test_inside_first_equals_oracle(seed):
    """With scores of 0 outside of every ground truth the rule is the plain one."""
    samples, (boxes, classes) = make_samples(False, seed), ground_truth(seed, 1)
    label = classes[0].item()
    for r, point in enumerate(samples.points.tolist()):
        if not inside(point, boxes[0].tolist()):
            samples.pred_scores[r, label] = 0
    expected, norm = tal_oracle(
        samples.pred_scores, samples.pred_boxes, samples.points, boxes, classes, topk=5
    )
    samples = make_samples(False, seed)
    found = align(samples, boxes, classes, topk=5, candidates_inside_gt=True)
    assert found.matched_idxs.tolist() == expected
    torch.testing.assert_close(found.norm_alignment_metrics, torch.tensor(norm))
    assert (found.matched_idxs >= 0).sum() >= (align(samples, boxes, classes, topk=5)
                                               .matched_idxs >= 0).sum()  # fmt: skip


def test_min_size_lets_a_box_between_the_points_have_some():
    """3 pixels wide, 2.5 from the nearest point; as 8 pixels wide it has points inside."""
    samples = make_samples(False)
    box, label = torch.tensor([[34.5, 34.5, 37.5, 37.5]]), torch.tensor([1])
    assert (align(samples, box, label).matched_idxs == -1).all()
    found = align(samples, box, label, min_gt_size=16.0, candidates_inside_gt=True)
    own = samples.points[found.matched_idxs == 0]
    assert len(own) and ((own - 36).abs() < 8).all()


@pytest.mark.parametrize("count", [1, 3])
def test_min_positives_gives_the_nearest_points(count):
    """To whom the rule gives nothing; labels are at least 0.1 there, or the IoU."""
    samples = make_samples(False)
    boxes = torch.tensor([[34.5, 34.5, 37.5, 37.5], [8.0, 8.0, 100.0, 80.0]])
    classes = torch.tensor([1, 2])
    plain = align(samples, boxes, classes)
    found = align(samples, boxes, classes, min_positives=count)
    own = (found.matched_idxs == 0).nonzero().flatten()
    distance = (samples.points - 36).square().sum(1)
    assert sorted(own.tolist()) == sorted(distance.topk(count, largest=False).indices.tolist())
    assert (found.gt_classes[own] == 1).all()
    for r in own.tolist():
        u = iou(boxes[0].tolist(), samples.pred_boxes[r].tolist())
        assert found.norm_alignment_metrics[r].item() == pytest.approx(max(u, 0.1), rel=1e-5)
    others = torch.ones(len(samples.points), dtype=torch.bool)
    others[own] = False
    assert (found.matched_idxs == plain.matched_idxs)[others].all()
    assert (found.norm_alignment_metrics == plain.norm_alignment_metrics)[others].all()


@pytest.mark.parametrize("seed", range(10))
def test_min_positives_is_a_guarantee_that_takes_from_nobody(seed):
    """In crowds of tiny boxes: all have their two; who had enough keeps what it had."""
    samples = make_samples(False, seed)
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(12, 2, generator=generator) * 40
    boxes = torch.cat([corner, corner + 4 * torch.rand(12, 2, generator=generator)], dim=1)
    boxes[0] = torch.tensor([10.0, 10.0, 110.0, 90.0])
    classes = torch.arange(12) % NUM_CLASSES
    plain, found = (align(samples, boxes, classes, min_positives=n) for n in (0, 2))
    had = plain.matched_idxs >= 0
    assert (found.matched_idxs == plain.matched_idxs)[had].all()
    assert (found.norm_alignment_metrics == plain.norm_alignment_metrics)[had].all()
    counts = torch.stack([(found.matched_idxs == m).sum() for m in range(12)])
    before = torch.stack([(plain.matched_idxs == m).sum() for m in range(12)])
    assert (before < 2).sum() > 3 and (counts == before.clamp(min=2)).all()


def test_points_at_one_place_are_given_from_the_finest_level():
    """All levels have a point in the corner."""
    samples = make_samples(False)
    box = torch.tensor([[-1.0, -1.0, 0.0, 0.0]])
    found = align(samples, box, torch.tensor([0]), min_positives=2)
    own = (found.matched_idxs == 0).nonzero().flatten()
    assert samples.strides[own].tolist() == [8.0, 16.0]
    assert samples.points[own].tolist() == [[0, 0], [0, 0]]


def test_candidates_that_are_all_no_numbers_reach_the_loss():
    """As long as some are numbers, those alone decide."""
    samples, (boxes, classes) = make_samples(False), ground_truth(1, 2)
    samples.pred_boxes[:5] = torch.nan
    assert torch.isfinite(align(samples, boxes, classes).norm_alignment_metrics).all()
    samples.pred_boxes[:] = torch.nan
    assert align(samples, boxes, classes).norm_alignment_metrics.isnan().any()


@pytest.mark.parametrize("kind", ["giou", "diou", "ciou"])
def test_other_overlaps_in_the_metric(kind):
    """t of every positive by hand; what is negative counts as 0."""
    samples, (boxes, classes) = make_samples(False), ground_truth(5, 4)
    found = align(samples, boxes, classes, iou_type=kind, alpha=0.5, beta=2.0)
    positive = (found.matched_idxs >= 0).nonzero().flatten().tolist()
    assert positive
    for r in positive:
        m = found.matched_idxs[r].item()
        u = overlap_of(kind, boxes[m].tolist(), samples.pred_boxes[r].tolist())
        score = samples.pred_scores[r, classes[m]].item()
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
