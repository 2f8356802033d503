"""TIDE's errors: by hand, next to a slow reference, next to its own program, and next to COCO."""

import sys
from unittest import mock

import numpy as np
import pytest

from tests.data.builders import make_dataset
from tests.report.builders import detect, random_scene
from tood.evaluation.coco_metrics import make_coco, run_coco_evaluation
from tood.report import tide
from tood.report.matching import (
    BACKGROUND,
    BOTH,
    CLASSIFICATION,
    DUPLICATE,
    ERROR_TYPES,
    IGNORED,
    LOCALIZATION,
    MISSED,
    TRUE_POSITIVE,
    match_detections,
)
from tood.report.tide import summarize_errors

# A GT box of class 0 and one of class 1, far from each other; each is 10 x 10.
BOXES = [(0, 0, 0, 0, 10, 10), (0, 1, 100, 100, 10, 10)]


def errors_of(boxes: list, *found: tuple, **changes) -> tuple:
    dataset = make_dataset(boxes, **changes)
    matches = match_detections(dataset, detect(*found))
    return matches, summarize_errors(dataset, detect(*found), matches)


@pytest.mark.parametrize(
    ("box", "error"),
    [
        pytest.param((0, 0, 10, 10, 0), None, id="exact"),
        pytest.param((0, 0, 10, 5, 0), None, id="IoU of exactly 0.5 is a match"),
        pytest.param((0, 0, 10, 4.9, 0), LOCALIZATION, id="0.49"),
        pytest.param((0, 0, 10, 1, 0), LOCALIZATION, id="exactly 0.1"),
        pytest.param((0, 0, 10, 0.9, 0), BACKGROUND, id="0.09"),
        pytest.param((0, 0, 10, 10, 1), CLASSIFICATION, id="another class"),
        pytest.param((0, 0, 10, 5, 1), CLASSIFICATION, id="another class at exactly 0.5"),
        pytest.param((0, 0, 10, 4.9, 1), BOTH, id="another class at 0.49"),
        pytest.param((0, 0, 10, 1, 1), BACKGROUND, id="another class at exactly 0.1"),
        pytest.param((300, 300, 10, 10, 0), BACKGROUND, id="nothing there"),
    ],
)
def test_error_of_one_detection(box, error):
    matches, _ = errors_of(BOXES, (0, box[4], 0.9, *box[:4]))
    assert matches.error.tolist() == [-1 if error is None else error]
    assert (matches.status.tolist() == [TRUE_POSITIVE]) == (error is None)


def test_duplicates_and_order():
    """The second is a duplicate; others that overlap at most half are localized badly."""
    found = [(0, 0, 0.7, 0, 0, 10, 4), (0, 0, 0.9, 0, 0, 10, 8), (0, 0, 0.8, 0, 0, 10, 10)]
    matches, _ = errors_of(BOXES, *found, (0, 0, 0.6, 0, 0, 10, 5))  # sorted by score
    assert matches.error.tolist() == [-1, DUPLICATE, LOCALIZATION, LOCALIZATION]
    assert matches.gt.tolist() == [0, -1, 0, 0]


def test_equal_ious_as_in_pycocotools():
    """The last of two GT boxes is taken, so that the second detection finds the first."""
    boxes = [(0, 0, 0, 0, 10, 10), (0, 0, 4, 0, 10, 10)]
    matches, summary = errors_of(boxes, (0, 0, 0.9, 2, 0, 10, 10), (0, 0, 0.8, 0, 0, 10, 10))
    assert matches.gt.tolist() == [1, 0] and summary.ap50 == pytest.approx(100)


def test_images_without_objects():
    matches, summary = errors_of(BOXES, (1, 0, 0.9, 0, 0, 10, 10), num_images=2)
    assert matches.error.tolist() == [BACKGROUND]
    assert summary.counts[MISSED] == 2 and summary.ap50 == 0


def test_gains_by_hand():
    """Class 0 has two GT boxes, class 1 one; each number can be computed in one's head."""
    boxes = [(0, 0, 0, 0, 10, 10), (0, 0, 50, 50, 10, 10), (0, 1, 100, 100, 10, 10)]
    matches, summary = errors_of(
        boxes,
        (0, 0, 0.9, 0, 0, 10, 10),  # right
        (0, 0, 0.8, 0, 0, 10, 9),  # duplicate
        (0, 1, 0.7, 50, 50, 10, 10),  # class: it is of class 0
        (0, 1, 0.6, 300, 300, 10, 10),  # background
        (0, 1, 0.5, 100, 100, 10, 4),  # localization
    )
    assert sorted(matches.error.tolist()) == sorted(
        [-1, DUPLICATE, CLASSIFICATION, BACKGROUND, LOCALIZATION]
    )
    # Class 0: precision 1 up to a recall of 0.5, which are 51 of 101 recalls. Class 1: nothing.
    assert summary.ap50 == pytest.approx(100 * (51 / 101 + 0) / 2)
    half = 51 / 101
    fixed = {
        # 0.9 right, 0.8 duplicate, 0.7 right: precision 2/3 beyond a recall of 0.5.
        CLASSIFICATION: ((51 + 50 * 2 / 3) / 101 + 0) / 2,
        # Class 1: the third of three detections is right.
        LOCALIZATION: (half + 1 / 3) / 2,
        DUPLICATE: half / 2,  # it comes after the last true positive
        BACKGROUND: half / 2,
        BOTH: half / 2,
        # Nothing is missed: errors cover both GT boxes that were not found.
        MISSED: half / 2,
    }
    for kind, value in fixed.items():
        assert summary.gains[kind] == pytest.approx(100 * value - summary.ap50, abs=1e-12)
    assert summary.counts == {
        **dict.fromkeys((CLASSIFICATION, LOCALIZATION, DUPLICATE, BACKGROUND), 1),
        **dict.fromkeys((BOTH, MISSED), 0),
    }
    assert summary.false_positive_gain == pytest.approx(0)
    # Class 0 with one GT box is perfect; class 1 has none left, and its detections are wrong.
    assert summary.false_negative_gain == pytest.approx(50 - summary.ap50)


def test_missed_gt_boxes_by_hand():
    _, summary = errors_of(
        [(0, 0, 0, 0, 10, 10), (0, 0, 50, 50, 10, 10)], (0, 0, 0.9, 0, 0, 10, 10)
    )
    assert summary.counts[MISSED] == 1
    assert summary.gains[MISSED] == pytest.approx(100 - 100 * 51 / 101)


def test_one_correction_for_a_gt_box():
    """Two errors name the same GT box: the better score gets it, the other is left out."""
    found = [(0, 1, 0.9, 0, 0, 10, 10), (0, 1, 0.8, 0, 0, 10, 10)]
    matches, summary = errors_of([(0, 0, 0, 0, 10, 10)], *found)
    assert matches.error.tolist() == [CLASSIFICATION] * 2 and not matches.gt_missed.any()
    assert summary.gains[CLASSIFICATION] == pytest.approx(100)


def test_crowds_ignore_detections_and_are_never_missed():
    boxes = [(0, 0, 0, 0, 100, 100), (0, 0, 300, 300, 10, 10)]
    found = [(0, 0, 0.9, 5, 5, 10, 10), (0, 1, 0.8, 5, 5, 10, 10), (0, 0, 0.7, 300, 300, 10, 10)]
    matches, summary = errors_of(boxes, *found, is_crowd=[True, False])
    assert matches.status.tolist() == [IGNORED, 0, TRUE_POSITIVE]
    assert matches.error.tolist() == [-1, BACKGROUND, -1]
    assert summary.ap50 == pytest.approx(100) and summary.counts[MISSED] == 0


def test_nothing_to_evaluate():
    _, summary = errors_of([], (0, 0, 0.9, 0, 0, 10, 10))
    assert np.isnan([summary.ap50, summary.false_negative_gain, *summary.gains.values()]).all()
    _, summary = errors_of(BOXES)  # no detections
    assert summary.ap50 == 0 and summary.counts[MISSED] == 2
    assert np.isnan(summary.gains[MISSED]) and summary.gains[BACKGROUND] == 0


@pytest.mark.parametrize("ties", [False, True], ids=["distinct scores", "equal scores"])
@pytest.mark.parametrize("limit", [100, 2])
@pytest.mark.parametrize("crowds", [0.0, 0.3])
def test_ap_is_that_of_pycocotools(crowds, limit, ties):
    dataset, rows = random_scene(3, num_images=30, crowds=crowds, ties=ties)
    limited = rows.limited(limit)
    coco_eval = run_coco_evaluation(make_coco(dataset.to_coco()), rows.to_coco(), "bbox", 100)
    if limit < 100:
        coco_eval.params.maxDets = [limit]
        coco_eval.evaluate()
        coco_eval.accumulate()
    precision = coco_eval.eval["precision"][0, :, :, 0, -1]
    expected = 100 * precision[:, (precision > -1).all(axis=0)].mean()
    got = summarize_errors(dataset, limited, match_detections(dataset, limited))
    assert got.ap50 == pytest.approx(expected, abs=1e-10) and 5 < expected < 95


# ---- A slow reference: one detection at a time, after the paper's section 2 ---------------------


def reference(dataset, rows) -> tuple[dict[int, int], dict[int, float]]:
    """Counts and gains, with loops and lists; no crowds."""
    points, fixes, truth = [], [], [list(box) for box in dataset.boxes]
    image_of, class_of = dataset.image_index.tolist(), dataset.class_ids.tolist()
    owner = {}  # GT box: detection
    order = sorted(range(len(rows)), key=lambda i: -rows.scores[i])
    for i in order:
        mine = [
            (iou(rows.boxes[i], truth[g]), g)
            for g in range(len(truth))
            if (image_of[g], class_of[g]) == (rows.image_index[i], rows.class_ids[i])
            and g not in owner
        ]
        if mine and max(mine)[0] >= 0.5:
            owner[max(mine)[1]] = i
    takers: dict[int, int] = {}
    for i in order:
        if i in owner.values():
            points.append((rows.scores[i], int(rows.class_ids[i]), True))
            continue
        near = [
            (iou(rows.boxes[i], truth[g]), g, class_of[g] == rows.class_ids[i])
            for g in range(len(truth))
            if image_of[g] == rows.image_index[i]
        ]
        same = [(u, g) for u, g, is_same in near if is_same]
        other = [(u, g) for u, g, is_same in near if not is_same]
        point = (rows.scores[i], int(rows.class_ids[i]), False)
        kind, target = BOTH, None
        if same and 0.1 <= max(same)[0] <= 0.5:
            kind, target = LOCALIZATION, max(same)[1]
        elif other and max(other)[0] >= 0.5:
            kind, target = CLASSIFICATION, max(other)[1]
        elif any(u >= 0.5 and g in owner for u, g in same):
            kind = DUPLICATE
        elif not near or max(u for u, _, _ in near) <= 0.1:
            kind = BACKGROUND
        fixed = None
        if target is not None and target not in owner and target not in takers:
            takers[target] = i
            fixed = (rows.scores[i], class_of[target], True)
        fixes.append((kind, point, fixed))
    counts = {kind: sum(fix[0] == kind for fix in fixes) for kind in ERROR_TYPES}
    lost = [g for g in range(len(truth)) if g not in owner and g not in takers]
    counts[MISSED] = len(lost)
    num_gt = {k: class_of.count(k) for k in set(class_of)}
    before = mean_ap(points + [point for _, point, _ in fixes], num_gt)
    gains = {}
    for kind in ERROR_TYPES:
        changed = [fixed if k == kind else point for k, point, fixed in fixes]
        left = dict(num_gt)
        for g in lost if kind == MISSED else ():
            left[class_of[g]] -= 1
        gains[kind] = max(0.0, mean_ap(points + [p for p in changed if p], left) - before)
    return counts, gains


def iou(a, b) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def mean_ap(points, num_gt) -> float:
    values = []
    for k, count in num_gt.items():
        hits = [hit for _, label, hit in sorted(points, reverse=True) if label == k]
        if not count:
            values += [0.0] if hits else []
            continue
        sums = [sum(hits[: i + 1]) for i in range(len(hits))]
        curve = [(n / count, n / (i + 1)) for i, n in enumerate(sums)]
        values.append(
            np.mean(
                [max((p for r, p in curve if r >= recall), default=0) for recall in tide._RECALLS]
            )
        )
    return 100 * float(np.mean(values))


@pytest.mark.parametrize("seed", range(4))
def test_as_the_slow_reference(seed):
    dataset, rows = random_scene(seed)
    summary = summarize_errors(dataset, rows, match_detections(dataset, rows))
    counts, gains = reference(dataset, rows)
    assert summary.counts == counts and min(counts.values()) > 0
    assert summary.gains == pytest.approx(gains, abs=1e-9)


def test_as_the_papers_program(monkeypatch):
    """pip install --no-deps tidecv. What it draws with is replaced, and not needed."""
    for name in ("seaborn", "appdirs", "tidecv.plotting"):
        monkeypatch.setitem(sys.modules, name, mock.MagicMock())
    package = pytest.importorskip("tidecv")
    # Its recalls differ from COCO's in the last bit, which matters where a recall is hit exactly.
    monkeypatch.setattr(tide, "_RECALLS", np.array([x / 100 for x in range(101)]))
    short = {"Cls": CLASSIFICATION, "Loc": LOCALIZATION, "Both": BOTH, "Dupe": DUPLICATE}
    short |= {"Bkg": BACKGROUND, "Miss": MISSED}
    for seed in range(10):
        dataset, rows = random_scene(seed)
        summary = summarize_errors(dataset, rows, match_detections(dataset, rows))
        truth, found = package.Data("truth", max_dets=10**6), package.Data("found")
        for index in range(len(dataset)):
            truth.add_image(index, str(index))
        for image, label, box in zip(
            dataset.image_index, dataset.class_ids, dataset.boxes, strict=True
        ):
            truth.add_ground_truth(int(image), int(label), box.tolist())
        for image, label, score, box in zip(
            rows.image_index, rows.class_ids, rows.scores, rows.boxes, strict=True
        ):
            found.add_detection(int(image), int(label), float(score), box.tolist())
        program = package.TIDE()
        run = program.evaluate(truth, found)
        counts = {short[x.short_name]: n for x, n in run.count_errors().items()}
        (main,) = program.get_main_errors().values()
        (special,) = program.get_special_errors().values()
        assert summary.counts == counts
        assert summary.ap50 == pytest.approx(run.ap, abs=1e-9)
        assert summary.gains == pytest.approx({short[x]: v for x, v in main.items()}, abs=1e-9)
        assert summary.false_positive_gain == pytest.approx(special["FalsePos"], abs=1e-9)
        assert summary.false_negative_gain == pytest.approx(special["FalseNeg"], abs=1e-9)
