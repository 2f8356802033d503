"""AP equals the evaluator's; calibration, thresholds and confusions by hand."""

import json

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from tests.data.builders import make_dataset
from tests.report.builders import detect, random_scene, write_results
from tood.data.catalog import keep_dataset
from tood.errors import DataError
from tood.evaluation import FastCOCOEvaluator, coco_evaluator
from tood.report.calibration import best_points, calibrate
from tood.report.coco import METRICS, compute_coco, effective_limit
from tood.report.confusion import (
    confusion_matrix,
    largest_confusions,
    most_confused_classes,
    reduce_matrix,
)
from tood.report.content import EvaluatedSet
from tood.report.detections import read_detections
from tood.report.matching import match_detections


@pytest.fixture
def register():
    """Registers a dataset in detectron2's catalogs, for a test."""
    from detectron2.data import DatasetCatalog, MetadataCatalog

    def add(dataset) -> str:
        DatasetCatalog.register("report_test", dataset.dicts)
        MetadataCatalog.get("report_test").thing_classes = list(dataset.class_names)
        keep_dataset("report_test", dataset)
        return "report_test"

    yield add
    DatasetCatalog.remove("report_test")
    MetadataCatalog.remove("report_test")


def evaluate(name, dataset, rows, folder, limit) -> dict[str, float]:
    """Evaluate float32 boxes, as a model's, and write them."""
    evaluator = FastCOCOEvaluator(name, output_dir=str(folder), max_dets_per_image=limit)
    evaluator.reset()
    for image in range(len(dataset)):
        part = rows.select(rows.image_index == image)
        found = Instances((480, 640))
        boxes = torch.from_numpy(part.boxes).float()
        boxes[:, 2:] += boxes[:, :2]
        found.pred_boxes, found.scores = Boxes(boxes), torch.from_numpy(part.scores).float()
        found.pred_classes = torch.from_numpy(part.class_ids)
        evaluator.process([{"image_id": dataset.image_ids[image]}], [{"instances": found}])
    return evaluator.evaluate()["bbox"]


@pytest.mark.parametrize(
    ("scene", "limit"),
    [
        pytest.param({"num_images": 40, "crowds": 0.2}, 100, id="crowds"),
        pytest.param({"num_images": 40, "ties": True}, -1, id="equal scores, all detections"),
        pytest.param({"num_images": 40, "num_classes": 1}, 100, id="one class"),
        pytest.param({"num_images": 2, "num_classes": 9}, 300, id="classes without GT boxes"),
    ],
)
def test_ap_is_the_evaluators(register, tmp_path, scene, limit):
    dataset, rows = random_scene(1, **scene)
    results = evaluate(register(dataset), dataset, rows, tmp_path, limit)
    read = read_detections(tmp_path / "coco_instances_results.json", dataset)
    evaluated = EvaluatedSet("x", dataset, read, limit)
    for name in METRICS:
        assert evaluated.coco.overall[name] == pytest.approx(results[name], abs=1e-12, nan_ok=True)
    assert evaluated.errors.ap50 == pytest.approx(results["AP50"], abs=1e-10)
    for index, name in enumerate(dataset.class_names):
        if len(dataset.class_names) > 1:
            ap = evaluated.coco.by_class[index, 0]
            assert ap == pytest.approx(results[f"AP-{name}"], abs=1e-12, nan_ok=True)
    for index, name in enumerate(METRICS):
        known = evaluated.coco.by_class[~np.isnan(evaluated.coco.by_class[:, index]), index]
        mean = known.mean() if len(known) else np.nan
        assert mean == pytest.approx(results[name], abs=1e-10, nan_ok=True)
    assert 0 < results["AP"] < 100


def test_without_faster_coco_eval(monkeypatch):
    dataset, rows = random_scene(5, crowds=0.2)
    expected = compute_coco(dataset, rows, 100)
    monkeypatch.setattr(coco_evaluator, "COCOeval_faster", None)
    slow = compute_coco(dataset, rows, 100)
    assert slow.overall == pytest.approx(expected.overall, abs=1e-10, nan_ok=True)
    np.testing.assert_allclose(slow.by_class, expected.by_class, atol=1e-10)
    np.testing.assert_allclose(slow.curves, expected.curves, atol=1e-10)


def test_without_detections():
    dataset, rows = random_scene(0)
    numbers = compute_coco(dataset, rows.select(slice(0, 0)), 100)
    assert np.isnan(list(numbers.overall.values())).all() and np.isnan(numbers.by_class).all()
    assert effective_limit(-1, rows.select(slice(0, 0))) == 100


def test_calibration_by_hand():
    """Two detections at 0.9 of which one is right; four at 0.3 that are all wrong."""
    dataset = make_dataset([(0, 0, 0, 0, 10, 10)])
    rows = detect(
        (0, 0, 0.9, 0, 0, 10, 10),
        (0, 0, 0.9, 200, 0, 10, 10),
        *((0, 0, 0.3, 200, 50 * index, 10, 10) for index in range(4)),
    )
    calibration = calibrate(rows, match_detections(dataset, rows))
    assert calibration.counts.tolist() == [0, 0, 0, 4, 0, 0, 0, 0, 0, 2]
    assert calibration.precisions[[3, 9]].tolist() == [0.0, 0.5]
    assert calibration.mean_scores[[3, 9]] == pytest.approx([0.3, 0.9])
    assert np.isnan(calibration.precisions[0])
    assert calibration.error == pytest.approx((4 * 0.3 + 2 * 0.4) / 6)
    empty = rows.select(slice(0, 0))
    assert np.isnan(calibrate(empty, match_detections(dataset, empty)).error)


def test_best_threshold_by_hand():
    dataset = make_dataset([(0, 0, 0, 0, 10, 10), (0, 0, 50, 0, 10, 10), (0, 1, 90, 0, 10, 10)])
    rows = detect(
        (0, 0, 0.9, 0, 0, 10, 10),
        (0, 0, 0.6, 50, 0, 10, 10),
        (0, 0, 0.6, 300, 0, 10, 10),  # equal: no threshold is between them
        (0, 0, 0.2, 300, 90, 10, 10),
        (0, 2, 0.1, 300, 90, 10, 10),
    )
    overall, by_class = best_points(dataset, rows, match_detections(dataset, rows))
    assert by_class[0].threshold == overall.threshold == 0.6
    assert (by_class[0].precision, by_class[0].recall) == (pytest.approx(2 / 3), 1)
    assert by_class[0].f1 == pytest.approx(4 / 5)
    assert overall.recall == pytest.approx(2 / 3)
    assert np.isnan(by_class[1].threshold) and np.isnan(by_class[2].f1)


def test_confusion_by_hand():
    boxes = [(0, 0, 0, 0, 10, 10), (0, 1, 50, 0, 10, 10), (0, 2, 90, 0, 10, 10)]
    dataset = make_dataset([*boxes, (0, 0, 200, 0, 99, 99)], is_crowd=[False] * 3 + [True])
    rows = detect(
        (0, 0, 0.9, 0, 0, 10, 10),  # right
        (0, 0, 0.8, 50, 0, 10, 10),  # a 1 taken for a 0
        (0, 2, 0.7, 50, 0, 10, 10),  # the same object again: background
        (0, 0, 0.6, 0, 0, 10, 9),  # a duplicate: background
        (0, 0, 0.6, 210, 5, 10, 10),  # in the crowd: nowhere
        (0, 2, 0.2, 90, 0, 10, 10),  # below the threshold: missed
    )
    matches = match_detections(dataset, rows)
    matrix = confusion_matrix(dataset, rows, matches, 0.5)
    assert matrix.tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [1, 0, 1, 0]]
    assert largest_confusions(matrix, 5) == [(1, 0, 1)]
    assert most_confused_classes(matrix, 2).tolist() == [0, 1]
    nothing = confusion_matrix(dataset, rows, matches, float("nan"))
    assert nothing[:, 3].tolist() == [1, 1, 1, 0] and nothing[:, :3].sum() == 0


def test_other_classes_are_joined():
    matrix = np.arange(16).reshape(4, 4)
    expected = [[5, 4 + 6, 7], [1 + 9, 0 + 2 + 8 + 10, 3 + 11], [13, 12 + 14, 15]]
    assert reduce_matrix(matrix, np.array([1])).tolist() == expected
    assert (reduce_matrix(matrix, np.arange(3)) == matrix).all()


@pytest.mark.parametrize("seed", range(3))
def test_sums_of_the_confusion_matrix(seed):
    """Every GT box is in its row once, and every detection in its column."""
    dataset, rows = random_scene(seed, crowds=0.1)
    matches = match_detections(dataset, rows)
    matrix = confusion_matrix(dataset, rows, matches, 0.4)
    objects = np.bincount(dataset.class_ids[~dataset.is_crowd], minlength=5)
    chosen = (rows.scores >= 0.4) & (matches.status != 2)
    assert matrix[:-1].sum(axis=1).tolist() == objects.tolist()
    assert (
        matrix[:, :-1].sum(axis=0).tolist()
        == np.bincount(rows.class_ids[chosen], minlength=5).tolist()
    )


def test_detections_are_read_as_written(tmp_path):
    dataset, rows = random_scene(2)
    read = read_detections(write_results(tmp_path / "r.json", dataset, rows), dataset)
    for field in ("image_index", "class_ids", "scores", "boxes"):
        assert (getattr(read, field) == getattr(rows, field)).all()
    (tmp_path / "none.json").write_text("[]")
    assert len(read_detections(tmp_path / "none.json", dataset)) == 0


GOOD = {"image_id": 0, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no JSON file"),
        ("{}", "not in COCO's result format"),
        (json.dumps([GOOD, 3]), "entry 1: 3 is no detection"),
        (json.dumps([{**GOOD, "bbox": [1, 2, 3]}]), r"entry 0: bbox is \[1, 2, 3\]"),
        (json.dumps([{**GOOD, "bbox": None}]), "entry 0: bbox is None"),
        (json.dumps([GOOD, {**GOOD, "score": "high"}]), "entry 1: score is high, not a number"),
        (json.dumps([{k: v for k, v in GOOD.items() if k != "image_id"}]), "image_id is None"),
        (json.dumps([{**GOOD, "image_id": [0]}]), r"image_id is \[0\]"),
        (json.dumps([{**GOOD, "score": float("nan")}]), "entry 0: score and bbox must be finite"),
        (json.dumps([{**GOOD, "bbox": [0, 0, -1, 1]}]), "width and height not negative"),
        (json.dumps([GOOD, {**GOOD, "image_id": 77}]), "image_id.*for example 77 in entry 1"),
        (json.dumps([GOOD, {**GOOD, "category_id": 9}]), "1 detections have a category_id"),
    ],
)
def test_wrong_files(tmp_path, content, message):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_detections(tmp_path / "r.json", make_dataset([]))


def test_missing_and_large_files(tmp_path):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_detections(tmp_path / "r.json", make_dataset([]))
    dataset, rows = random_scene(0)
    path = write_results(tmp_path / "r.json", dataset, rows)
    with pytest.raises(DataError, match="is larger than"):
        read_detections(path, dataset, max_bytes=1)
