"""Slow oracles of the assigners, written from the equations, and random scenes to compare on."""

import math

import torch

from tests.helpers import STRIDES, square_anchors
from tood.modeling.assigners import Assigner, AssignerInput, Assignment

SHAPES = [(12, 16), (6, 8), (3, 4), (2, 2), (1, 1)]
SIZE = (96.0, 128.0)
COUNTS = [h * w for h, w in SHAPES]
NUM_CLASSES = 4


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
    """Assert that two assignments are equal, bit by bit."""
    assert torch.equal(a.matched_idxs, b.matched_idxs)
    for x, y in (
        (a.alignment_metrics, b.alignment_metrics),
        (a.norm_alignment_metrics, b.norm_alignment_metrics),
    ):
        assert (x is None and y is None) or torch.equal(x, y)


def assign_anchors(
    assigner: Assigner,
    anchors: torch.Tensor,
    counts: list[int],
    gt_boxes: torch.Tensor,
    gt_classes: torch.Tensor,
) -> Assignment:
    """Run a rule that reads no predictions on anchors (R, 4) of levels with ``counts`` anchors."""
    inputs = AssignerInput.from_anchors(list(anchors.split(counts)), [1] * len(counts))
    return assigner.assign(inputs, gt_boxes, gt_classes)


def make_assigner_input(half_cell: bool, seed: int = 0) -> AssignerInput:
    """The points of one image, in the corners or in the middle of their cells."""
    generator = torch.Generator().manual_seed(seed)
    strides = torch.cat([torch.full((n,), float(s)) for n, s in zip(COUNTS, STRIDES, strict=True)])
    anchors = torch.cat(square_anchors(SHAPES)) + half_cell * strides[:, None] / 2
    points = (anchors[:, :2] + anchors[:, 2:]) / 2
    reach = strides[:, None] * 3 * torch.rand(len(points), 2, generator=generator)
    return AssignerInput(
        scores=torch.rand(len(points), NUM_CLASSES, generator=generator),
        boxes=torch.cat([points - reach, points + reach], dim=1),
        anchors=anchors,
        centers=points,
        strides=strides,
        num_anchors_per_level=COUNTS,
    )


def random_ground_truth(seed: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return random_boxes(count, generator), torch.randint(NUM_CLASSES, (count,), generator=generator)
