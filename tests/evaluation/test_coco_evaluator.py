"""COCO evaluation with faster-coco-eval gives the numbers of pycocotools."""

import json
import logging

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances

from tood.data.registration import load_dataset
from tood.errors import DataError
from tood.evaluation import FastCOCOEvaluator, coco_evaluator

NUM_CLASSES = 4


def random_boxes(random, count) -> np.ndarray:
    """(count, 4) x, y, width, height, from tiny to large, on half pixels: some are equal."""
    corner, size = random.rand(count, 2) * 300, np.exp(random.uniform(1, 5.5, (count, 2)))
    return np.round(2 * np.concatenate([corner, size], axis=1)) / 2


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """60 images: with crowds, images without objects, and a class without objects."""
    random = np.random.RandomState(0)
    images = [{"id": i, "width": 640, "height": 480, "file_name": f"{i}.jpg"} for i in range(60)]
    annotations = []
    for image in images:
        for box in random_boxes(random, random.randint(0, 8)):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": int(random.randint(1, NUM_CLASSES)),  # the last has none
                    "bbox": box.tolist(),
                    "area": float(box[2] * box[3]),
                    "iscrowd": int(random.rand() < 0.05),
                }
            )
    categories = [{"id": i + 1, "name": f"class {i}"} for i in range(NUM_CLASSES)]
    contents = {"images": images, "annotations": annotations, "categories": categories}
    folder = tmp_path_factory.mktemp("coco")
    path = folder / "val.json"
    for image in images:
        (folder / image["file_name"]).touch()
    path.write_text(json.dumps({**contents, "info": {}}))
    register_coco_instances("evaluation_test", {}, str(path), str(folder))
    load_dataset("evaluation_test")  # sets the class names
    yield contents
    DatasetCatalog.remove("evaluation_test")
    MetadataCatalog.remove("evaluation_test")


def detections(dataset, seed: int) -> list[tuple[dict, dict]]:
    """Shifted ground truth and noise of any class; scores with many ties."""
    random = np.random.RandomState(seed)
    results = []
    for image in dataset["images"]:
        objects = [a for a in dataset["annotations"] if a["image_id"] == image["id"]]
        boxes = [
            np.array(a["bbox"]) + 0.1 * np.tile(a["bbox"][2:], 2) * random.randn(4)
            for a in objects * 2
        ]
        classes = [a["category_id"] - 1 for a in objects * 2]
        noise = random_boxes(random, random.randint(0, 130))
        boxes = np.array([*boxes, *noise]).reshape(-1, 4)
        classes += random.randint(0, NUM_CLASSES, len(noise)).tolist()
        instances = Instances((480, 640))
        boxes[:, 2:] += boxes[:, :2]
        instances.pred_boxes = Boxes(torch.from_numpy(boxes).float())
        scores = random.rand(len(boxes)) + (np.arange(len(boxes)) < 2 * len(objects))
        instances.scores = torch.from_numpy(np.round(scores / 2, 1)).float()
        instances.pred_classes = torch.tensor(classes, dtype=torch.int64)
        results.append(({"image_id": image["id"]}, {"instances": instances}))
    return results


def evaluate(evaluator, results) -> dict[str, float]:
    evaluator.reset()
    for inputs, outputs in results:
        evaluator.process([inputs], [outputs])
    return evaluator.evaluate()["bbox"]


@pytest.mark.parametrize("seed", range(3))
def test_same_results_as_pycocotools(dataset, tmp_path, seed):
    results = detections(dataset, seed)
    reference = COCOEvaluator("evaluation_test", output_dir=str(tmp_path), use_fast_impl=False)
    expected = evaluate(reference, results)
    ours = evaluate(FastCOCOEvaluator("evaluation_test", output_dir=str(tmp_path)), results)
    assert ours.keys() == expected.keys() and len(ours) == 6 + NUM_CLASSES
    for key, value in expected.items():
        assert ours[key] == pytest.approx(value, abs=1e-10, nan_ok=True), key
    assert 1 < expected["AP"] < 99


def test_without_faster_coco_eval(dataset, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    results = detections(dataset, 0)
    expected = evaluate(FastCOCOEvaluator("evaluation_test", output_dir=str(tmp_path)), results)
    monkeypatch.setattr(coco_evaluator, "COCOeval_faster", None)
    slow = evaluate(FastCOCOEvaluator("evaluation_test", output_dir=str(tmp_path)), results)
    assert slow == pytest.approx(expected, abs=1e-10, nan_ok=True)
    assert "Evaluating with pycocotools" in caplog.text


def test_compiled_operators_are_never_used(dataset, tmp_path):
    """Also where detectron2's ``use_fast_impl`` is asked for."""
    results = detections(dataset, 0)
    evaluator = FastCOCOEvaluator("evaluation_test", output_dir=str(tmp_path), use_fast_impl=True)
    assert evaluate(evaluator, results)["AP"] > 1


def test_no_detections(dataset, tmp_path):
    empty = Instances((480, 640))
    empty.pred_boxes, empty.scores = Boxes(torch.zeros(0, 4)), torch.zeros(0)
    empty.pred_classes = torch.zeros(0, dtype=torch.int64)
    results = [({"image_id": i}, {"instances": empty}) for i in range(60)]
    evaluator = FastCOCOEvaluator("evaluation_test", output_dir=str(tmp_path))
    assert all(np.isnan(value) for value in evaluate(evaluator, results).values())


def test_image_of_another_dataset(dataset):
    evaluator = FastCOCOEvaluator("evaluation_test")
    evaluator.reset()
    with pytest.raises(DataError, match="The image 'x' is not in"):
        evaluator.process([{"image_id": "x"}], [{}])
