"""What is evaluated: the normalized dataset, with the ids of its file in the results."""

import json
import logging

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator

from tests.data.coco_files import coco_content, write_coco, write_images
from tests.evaluation.perfect import assert_perfect, detect_truth, evaluate_perfect
from tood.data.catalog import ReadOptions, set_read_options
from tood.data.registration import load_dataset, register_coco
from tood.errors import CheckpointError, ConfigError, DataError
from tood.evaluation import FastCOCOEvaluator, coco_evaluator


@pytest.fixture
def register(tmp_path):
    """Registers a content; returns the name."""
    names = []

    def build(content) -> str:
        folder = tmp_path / str(len(names))
        folder.mkdir()
        write_images(folder, content)
        names.append(register_coco(write_coco(folder, content), str(folder)))
        return names[-1]

    yield build
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name)


def many_objects(count: int):
    """One image with a grid of objects of one class."""
    content = coco_content(num_images=2)
    content["annotations"] = [
        {"id": i, "image_id": 2, "category_id": 1, "bbox": [i % 25 * 3, i // 25 * 4, 2, 3]}
        for i in range(count)
    ]
    return content


@pytest.mark.parametrize("fast", [True, False], ids=["faster-coco-eval", "pycocotools"])
@pytest.mark.parametrize("limit, found", [(None, 100), (130, 120), (-1, 120), (50, 100)])
def test_more_objects_than_coco_counts(register, monkeypatch, caplog, limit, found, fast):
    if not fast:
        monkeypatch.setattr(coco_evaluator, "COCOeval_faster", None)
    name = register(many_objects(120))
    results = evaluate_perfect(name, max_dets_per_image=limit)
    # Recall 100/120 has precision 1 at the recall thresholds 0, 0.01, ..., 0.83.
    expected = 100 if found == 120 else 100 * 84 / 101
    assert results["AP"] == pytest.approx(expected)
    assert ("1 images of" in caplog.text and "2.png with 120" in caplog.text) == (found == 100)


def test_results_have_the_ids_of_the_file(register, tmp_path):
    content = coco_content()
    for entry in (*content["images"], *content["categories"]):
        entry["id"] = f"id {entry['id']}"
    for entry in content["annotations"]:
        entry["image_id"], entry["category_id"] = (
            f"id {entry[key]}" for key in ("image_id", "category_id")
        )
    name = register(content)
    assert evaluate_perfect(name, output_dir=tmp_path)["AP"] == pytest.approx(100)
    results = json.loads((tmp_path / "coco_instances_results.json").read_text())
    assert [(r["image_id"], r["category_id"]) for r in results[:3]] == [
        ("id 1", "id 1"), ("id 1", "id 2"), ("id 2", "id 1"),
    ]  # fmt: skip
    assert results[0]["bbox"] == [4, 6, 22, 30]
    saved = torch.load(tmp_path / "instances_predictions.pth", weights_only=False)
    assert [prediction["image_id"] for prediction in saved] == ["id 1", "id 2", "id 3"]


def test_files_that_cannot_be_written_cost_no_ap(register, tmp_path, caplog):
    content = coco_content()
    name = register(content)
    blocked = tmp_path / "file" / "inference"
    blocked.parent.touch()
    assert evaluate_perfect(name, output_dir=blocked)["AP"] == pytest.approx(100)
    assert f"{blocked.parent} is a file" in caplog.text
    (tmp_path / "results" / "coco_instances_results.json").mkdir(parents=True)
    assert evaluate_perfect(name, output_dir=tmp_path / "results")["AP"] == pytest.approx(100)
    assert "coco_instances_results.json cannot be written" in caplog.text
    del content["annotations"]  # then the results are all there is
    evaluator = FastCOCOEvaluator(register(content), output_dir=blocked)
    evaluator.reset()
    for inputs, outputs in detect_truth(load_dataset(name)):
        evaluator.process([inputs], [outputs])
    with pytest.raises(CheckpointError, match="is a file"):
        evaluator.evaluate()


def test_a_dataset_that_changed_is_not_evaluated_against_the_old_one(register, tmp_path):
    """Own functions used to be converted to a JSON file in the folder once."""
    dataset = load_dataset(register(coco_content()))
    for shift in (0, 15):
        records = dataset.dicts()
        for record in records:
            for annotation in record["annotations"]:
                annotation["bbox"][0] += shift
        DatasetCatalog.register("own function", lambda records=records: records)
        try:
            assert evaluate_perfect("own function", output_dir=tmp_path)["AP"] == pytest.approx(100)
        finally:
            DatasetCatalog.remove("own function")
            MetadataCatalog.pop("own function")


def test_only_results_where_annotations_are_unknown(register, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    content = coco_content()
    truth = load_dataset(register(content))
    del content["annotations"]
    evaluator = FastCOCOEvaluator(register(content), output_dir=tmp_path)
    evaluator.reset()
    for inputs, outputs in detect_truth(truth):
        evaluator.process([inputs], [outputs])
    assert evaluator.evaluate() == {}
    assert len(json.loads((tmp_path / "coco_instances_results.json").read_text())) == 6
    assert "only results are written" in caplog.text


@pytest.mark.parametrize("crowd", [False, True])
def test_nothing_to_evaluate_against(register, crowd):
    content = coco_content()
    for entry in content["annotations"]:
        entry.update(iscrowd=1)
    content["annotations"] = content["annotations"] if crowd else []
    with pytest.raises(DataError, match="crowds" if crowd else "nothing can be evaluated"):
        FastCOCOEvaluator(register(content))


def test_crowds_and_classes_without_boxes(register):
    content = coco_content(classes=("a", "b", "never"))
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] != 3]
    content["annotations"][0]["iscrowd"] = 1
    name = register(content)
    results = evaluate_perfect(name)
    assert_perfect(results, load_dataset(name))
    assert np.isnan(results["AP-never"])


@pytest.mark.parametrize("clipped", [False, True])
def test_boxes_outside_of_their_image_are_ignored(register, caplog, clipped):
    """Detections are clipped to the image, so no detector could find them."""
    content = coco_content()
    content["annotations"][0]["bbox"] = [90, 5, 10, 10]
    name = register(content)
    found = detect_truth(load_dataset(name))
    if clipped:
        found[0][1]["instances"] = found[0][1]["instances"][1:]
    evaluator = FastCOCOEvaluator(name)
    evaluator.reset()
    for inputs, outputs in found:
        evaluator.process([inputs], [outputs])
    assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(100)
    assert "ignores boxes outside of their image: 1, for example [90.0, 5.0" in caplog.text


def test_all_boxes_outside_of_their_images(register):
    content = coco_content()
    for entry in content["annotations"]:
        entry["bbox"][0] += 1000
    with pytest.raises(DataError, match="lie outside of their images"):
        FastCOCOEvaluator(register(content))


def test_very_large_boxes(register):
    """COCO's largest object has 1e10 pixels; larger ones would silently not count."""
    content = coco_content()
    for entry in content["images"]:
        entry.update(width=400_000, height=400_000)
    for entry in content["annotations"]:
        entry.update(bbox=[1000, 1000, 300_000, 300_000], area=9e10)
    results = evaluate_perfect(register(content))
    assert results["AP"] == results["APl"] == pytest.approx(100)


def test_class_that_the_dataset_does_not_have(register):
    name = register(coco_content())
    evaluator = FastCOCOEvaluator(name)
    evaluator.reset()
    for inputs, outputs in detect_truth(load_dataset(name)):
        outputs["instances"].pred_classes += 1
        evaluator.process([inputs], [outputs])
    with pytest.raises(ConfigError, match="predicts class 2, but .* has 2 classes"):
        evaluator.evaluate()


def test_an_image_that_was_evaluated_twice_counts_once(register):
    """A sampler repeats images so that each process has the same number."""
    name = register(coco_content())
    evaluator = FastCOCOEvaluator(name)
    evaluator.reset()
    for inputs, outputs in [*detect_truth(load_dataset(name)), *detect_truth(load_dataset(name))]:
        evaluator.process([inputs], [outputs])
    assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(100)


@pytest.fixture
def with_masks():
    set_read_options(ReadOptions(with_masks=True))
    yield
    set_read_options(ReadOptions())


def test_masks(register, tmp_path, with_masks):
    """AP of masks as detectron2 computes it from the file."""
    content = coco_content()
    for entry in content["annotations"]:
        x, y, width, height = entry["bbox"]
        entry["segmentation"] = [[x, y, x + width, y, x + width, y + height]]
        entry["area"] /= 2
    name = "masks_of_a_test"
    write_images(tmp_path, content)
    register_coco_instances(name, {}, write_coco(tmp_path, content), str(tmp_path))
    try:
        load_dataset(name)
        found = []
        for inputs, outputs in detect_truth(load_dataset(name)):
            instances = outputs["instances"]
            boxes = instances.pred_boxes.tensor.int().tolist()
            instances.pred_masks = torch.zeros(len(boxes), 64, 80, dtype=torch.bool)
            for mask, (x1, y1, x2, y2) in zip(instances.pred_masks, boxes, strict=True):
                mask[y1 : (y1 + y2) // 2, x1:x2] = True
            found.append((inputs, outputs))
        results = []
        for evaluator in (
            FastCOCOEvaluator(name),
            COCOEvaluator(name, output_dir=str(tmp_path), use_fast_impl=False),
        ):
            evaluator.reset()
            for inputs, outputs in found:
                evaluator.process([inputs], [outputs])
            results.append(evaluator.evaluate())
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name)
    assert results[0].keys() == {"bbox", "segm"}
    for task in ("bbox", "segm"):
        assert results[0][task] == pytest.approx(results[1][task], nan_ok=True)
    assert results[0]["bbox"]["AP"] == pytest.approx(100)
