"""Candidates and NMS against oracles that compare every pair, in plain Python."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from tests.properties.strategies import GRID, generator, grid_boxes, seeds
from tood.export import postprocessing as export
from tood.modeling.postprocessing import finalize, postprocess_single_image, select_candidates
from tood.modeling.structures import ImageDetections
from tood_runtime.nms import Candidates
from tood_runtime.nms import nms as nms_in_numpy
from tood_runtime.postprocessing import finalize as finalize_in_numpy
from tood_runtime.prediction import PredictionSettings

# Dyadic ones, with which float32 and float64 agree on every IoU of boxes on the grid.
thresholds = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
sizes = st.tuples(st.integers(1, 128), st.integers(1, 128))


def iou(a: list[float], b: list[float]) -> float:
    """In float32 as torchvision's: exact up to the quotient for boxes on the grid."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inter = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    return float(np.float32(inter) / np.float32(union))


def oracle_nms(boxes, scores, classes, threshold: float) -> list[int]:
    """Indices that are kept, best first; of equal scores the first comes first."""
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        rivals = [j for j in kept if classes[j] == classes[i]]
        if all(iou(boxes[i], boxes[j]) <= threshold for j in rivals):
            kept.append(i)
    return kept


def oracle_finalize(boxes, scores, classes, threshold, limit, size) -> list[tuple]:
    """(box, score, class) of each detection, best first."""
    rows = []
    for (x1, y1, x2, y2), score, label in zip(boxes, scores, classes, strict=True):
        if size is not None:
            x1, x2 = (min(max(x, 0), size[1]) for x in (x1, x2))
            y1, y2 = (min(max(y, 0), size[0]) for y in (y1, y2))
        if x2 > x1 and y2 > y1:
            rows.append(([x1, y1, x2, y2], score, label))
    kept = oracle_nms(*zip(*rows, strict=True), threshold) if rows else []
    return [rows[i] for i in kept][: None if limit < 0 else limit]


def as_rows(found) -> list[tuple]:
    return list(
        zip(found.boxes.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True)
    )


@st.composite
def candidates(draw, distinct=True, max_count=12, low=-32, high=96):
    """Boxes with scores, in no order, and classes; many overlap, some are equal."""
    boxes = draw(grid_boxes(0, max_count, low, high, 1 / 8, 96))
    seed, copies = draw(seeds), draw(st.integers(0, 3))
    g = generator(seed)
    if len(boxes):  # copies that are moved a little, which NMS is there for
        copied = boxes[torch.randint(len(boxes), (copies * 2,), generator=g)]
        boxes = torch.cat([boxes, copied + torch.randint(-8, 9, copied.shape, generator=g) * GRID])
        boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2] + GRID)
    count = len(boxes)
    if distinct:
        scores = (torch.randperm(count, generator=g) + 1) / (count + 1)
    else:
        scores = torch.randint(1, 4, (count,), generator=g) / 4
    num_classes = draw(st.integers(1, 4))
    classes = torch.randint(num_classes, (count,), generator=g)
    return ImageDetections(boxes, scores, classes)


def detections(*rows: tuple) -> ImageDetections:
    """From rows of (x1, y1, x2, y2, score, class)."""
    table = torch.tensor(rows, dtype=torch.float32)
    return ImageDetections(table[:, :4], table[:, 4], table[:, 5].long())


@given(found=candidates(), threshold=thresholds, limit=st.integers(-1, 12), size=sizes)
def test_detections_equal_the_oracle_s(found, threshold, limit, size):
    options = {"nms_thresh": threshold, "max_detections": limit}
    expected = oracle_finalize(*(x.tolist() for x in found), threshold, limit, size)
    assert as_rows(finalize(found, image_size=size, **options)) == expected


# torchvision's batched_nms moves the second box onto the first one.
@example(
    found=detections((0, 0, 0.125, 0.125, 0.25, 0), (-3.375, -3.25, -2.75, 2.25, 0.75, 1)),
    threshold=0.0,
)
@given(found=candidates(), threshold=thresholds)
def test_detections_without_clipping_equal_the_oracle_s(found, threshold):
    """Also where boxes of different classes reach far beyond the corner of the image."""
    expected = oracle_finalize(*(x.tolist() for x in found), threshold, -1, None)
    found = finalize(found, nms_thresh=threshold, max_detections=-1, image_size=None)
    assert as_rows(found) == expected


@given(found=candidates(), threshold=thresholds, limit=st.integers(1, 12), size=sizes)
def test_numpy_equals_the_oracle(found, threshold, limit, size):
    arrays = Candidates(*(x.numpy() for x in found))
    expected = oracle_finalize(*(x.tolist() for x in found), threshold, limit, size)
    found = finalize_in_numpy(
        arrays,
        PredictionSettings(0.0),
        nms_threshold=threshold,
        max_detections=limit,
        image_size=size,
        original_size=size,
    )
    assert as_rows(found) == expected


@given(found=candidates(), threshold=thresholds, limit=st.integers(1, 12), size=sizes)
def test_exported_form_equals_the_oracle(found, threshold, limit, size):
    """Padded to a fixed number of rows, and several images at once."""
    expected = oracle_finalize(*(x.tolist() for x in found), threshold, limit, size)
    padded = [
        torch.nn.functional.pad(
            x, (0, 0) * (x.ndim - 1) + (0, 3), value=-1.0 if x is found.scores else 0
        )
        for x in found
    ]
    batch = export.BatchDetections(*(torch.stack([x, x]) for x in padded))
    image_sizes = torch.tensor([size, size])
    result = export.finalize(
        [batch],
        image_sizes,
        image_sizes,
        nms_thresh=threshold,
        max_detections=limit,
        num_classes=4,
        nms_form="portable",
    )
    for image in range(2):
        valid = result.scores[image] > 0
        rows = ImageDetections(*(x[image][valid] for x in result))
        assert as_rows(rows) == expected


@given(found=candidates(distinct=False), threshold=st.floats(0, 1), size=sizes)
def test_equal_scores_keep_their_order(found, threshold, size):
    """In PyTorch and NumPy, for any threshold: both compare the float32 quotient."""
    rows = [x.tolist() for x in found]
    kept = nms_in_numpy(*(x.numpy() for x in found), threshold)
    assert kept.tolist() == oracle_nms(*rows, threshold)
    expected = oracle_finalize(*rows, threshold, -1, size)
    assert (
        as_rows(finalize(found, nms_thresh=threshold, max_detections=-1, image_size=size))
        == expected
    )


@given(found=candidates(distinct=False), threshold=thresholds, size=sizes)
def test_idempotent(found, threshold, size):
    """Detections are their own detections."""
    options = {"nms_thresh": threshold, "max_detections": -1, "image_size": size}
    once = finalize(found, **options)
    assert as_rows(finalize(once, **options)) == as_rows(once)


@given(found=candidates(), threshold=thresholds, size=sizes, seed=seeds)
def test_order_of_candidates(found, threshold, size, seed):
    order = torch.randperm(len(found.scores), generator=generator(seed))
    shuffled = ImageDetections(*(x[order] for x in found))
    options = {"nms_thresh": threshold, "max_detections": -1, "image_size": size}
    assert as_rows(finalize(shuffled, **options)) == as_rows(finalize(found, **options))


@dataclass
class Level:
    """Predictions of one level."""

    scores: Tensor
    boxes: Tensor
    centerness: Tensor | None


@st.composite
def levels(draw, distinct=True):
    num_classes, seed = draw(st.integers(1, 3)), draw(seeds)
    counts = draw(st.lists(st.integers(0, 8), min_size=1, max_size=3))
    with_centerness = draw(st.booleans())
    g = generator(seed)
    total = sum(counts)
    if distinct:
        scores = (torch.randperm(total * num_classes, generator=g) + 1) / (total * num_classes + 1)
    else:
        scores = torch.randint(0, 5, (total * num_classes,), generator=g) / 4
    # Powers of two: products with them are exact, so that they tie where the oracle's do.
    centerness = 2.0 ** -torch.randint(0, 3, (total, 1), generator=g)
    corners = torch.randint(-64, 256, (total, 2), generator=g) * GRID
    boxes = torch.cat([corners, corners + torch.randint(0, 256, (total, 2), generator=g) * GRID], 1)
    parts = (
        scores.view(total, num_classes).split(counts),
        boxes.split(counts),
        centerness.split(counts),
    )
    return [Level(s, b, c if with_centerness else None) for s, b, c in zip(*parts, strict=True)]


def oracle_candidates(level: Level, threshold: float, topk: int) -> list[tuple]:
    """(ranking score, box, class), best first; all that tie with the last one are in it."""
    pairs = []
    for r, row in enumerate(level.scores.tolist()):
        factor = 1.0 if level.centerness is None else level.centerness[r].item()
        for k, score in enumerate(row):
            if score > np.float32(threshold):
                pairs.append((score * factor, level.boxes[r].tolist(), k))
    pairs.sort(key=lambda x: -x[0])
    worst = pairs[topk - 1][0] if len(pairs) > topk else 0.0
    return [x for x in pairs if x[0] >= worst]


@pytest.mark.parametrize("distinct", [True, False])
@given(data=st.data(), threshold=st.sampled_from([0.0, 0.25, 0.5, 0.9]), topk=st.integers(1, 30))
def test_candidates_of_a_level(distinct, data, threshold, topk):
    """Above the threshold, at most top-k, best first; of ties at the end, any."""
    level = data.draw(levels(distinct))[0]
    expected = oracle_candidates(level, threshold, topk)
    found = select_candidates(level.scores, level.boxes, threshold, topk, level.centerness)
    count = min(topk, len(expected))
    assert found.scores.tolist() == [x[0] for x in expected[:count]]
    rows = [(s, b, k) for b, s, k in as_rows(found)]
    for row in rows:
        assert rows.count(row) <= expected.count(row)


@given(data=st.data(), threshold=thresholds, topk=st.integers(1, 12), size=sizes)
def test_whole_postprocessing(data, threshold, topk, size):
    """Candidates per level, then NMS over all levels, against both oracles in a row."""
    scene = data.draw(levels())
    if scene[0].centerness is not None:  # products may tie, and top-k chooses among ties freely
        scene = [Level(x.scores, x.boxes, None) for x in scene]
    rows = [x for level in scene for x in oracle_candidates(level, 0.25, topk)]
    expected = oracle_finalize(*([x[i] for x in rows] for i in (1, 0, 2)), threshold, 5, size)
    found = postprocess_single_image(
        [x.scores for x in scene],
        [x.boxes for x in scene],
        score_thresh=0.25,
        topk_candidates=topk,
        nms_thresh=threshold,
        max_detections=5,
        image_size=size,
    )
    assert as_rows(found) == expected


@given(data=st.data(), classes=st.sets(st.integers(0, 2)), topk=st.integers(1, 12))
def test_candidates_of_chosen_classes(data, classes, topk):
    """Those of a level that has only these classes, with the numbers of the others kept."""
    level = data.draw(levels())[0]
    chosen = sorted(x for x in classes if x < level.scores.shape[1])
    masked = torch.zeros_like(level.scores)
    masked[:, chosen] = level.scores[:, chosen]
    expected = select_candidates(masked, level.boxes, 0.0, topk)
    found = select_candidates(level.scores, level.boxes, 0.0, topk, class_ids=chosen)
    assert as_rows(found) == as_rows(expected)
