"""tood.evaluation.AlignmentEvaluator on real models, and over several processes."""

import json
import math

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluators, inference_on_dataset
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from tests.analysis.cases import GT_BOX, PARALLEL_HEAD, RETINANET, box_with_iou, make_boxes
from tests.data.coco_files import coco_content, write_coco, write_images
from tood.analysis.ground_truth import read_ground_truth
from tood.data import build_test_loader
from tood.data.registration import register_coco
from tood.errors import DataError
from tood.evaluation import AlignmentEvaluator, FastCOCOEvaluator, alignment_evaluator
from tood.modeling.structures import ImagePredictions


class CheckingEvaluator(AlignmentEvaluator):
    """Checks that every detection is one of the recorded predictions."""

    num_images = 0

    def add(self, dense, detections, gt_boxes, gt_classes):
        self.num_images += 1
        assert detections.image_size == (96, 96)  # the network saw 128x128
        for box, score, category in zip(
            detections.pred_boxes.tensor, detections.scores, detections.pred_classes, strict=True
        ):
            same_score = (dense.scores[:, category] - score).abs() < 1e-6
            assert ((dense.boxes - box).abs().amax(1) < 1e-2)[same_score].any()
        super().add(dense, detections, gt_boxes, gt_classes)


@pytest.mark.parametrize(
    "opts", [[], PARALLEL_HEAD, RETINANET], ids=["T-head", "parallel", "RetinaNet"]
)
def test_one_pass_with_coco_evaluation(shapes, make_cfg, tmp_path, opts):
    """The recorded predictions are those that the detections come from, in the image's pixels."""
    cfg = make_cfg(*opts)
    torch.manual_seed(1)
    model = build_model(cfg).eval()
    model.test_score_thresh = 0.0
    name = cfg.DATASETS.TEST[0]
    evaluator = CheckingEvaluator(name, model, str(tmp_path))
    evaluators = DatasetEvaluators([FastCOCOEvaluator(name, output_dir=None), evaluator])
    results = inference_on_dataset(model, build_test_loader(cfg, name), evaluators)
    assert set(results) == {"bbox", "alignment"}
    annotations = json.loads((shapes / "val.json").read_text())["annotations"]
    assert results["alignment"]["instances"] == len(annotations)
    saved = json.loads((tmp_path / "alignment.json").read_text())
    np.testing.assert_equal(saved, results["alignment"])
    assert evaluator.num_images == 5


def test_results_add_up_over_processes(make_cfg, monkeypatch):
    cfg = make_cfg()
    model = build_model(cfg)
    parts = []
    for percent in (80, 40):
        evaluator = AlignmentEvaluator(cfg.DATASETS.TEST[0], model)
        evaluator.reset()
        detections = Instances((100, 100), pred_boxes=Boxes(make_boxes(box_with_iou(percent))))
        detections.pred_classes = torch.tensor([0])
        boxes = make_boxes(box_with_iou(percent), box_with_iou(20))
        dense = ImagePredictions(torch.tensor([[0.4], [0.9]]), boxes)
        evaluator.add(dense, detections, GT_BOX, torch.tensor([0]))
        parts.append(evaluator)
    monkeypatch.setattr(
        alignment_evaluator.comm, "gather", lambda _: [part._sums for part in parts]
    )
    result = parts[0].evaluate()["alignment"]
    assert result == {
        "PCC": pytest.approx(-1.0), "IoU-top10": pytest.approx((0.5 + 0.3) / 2),
        "correct": 1, "redundant": 0, "error": 1, "instances": 2,
    }  # fmt: skip
    monkeypatch.setattr(alignment_evaluator.comm, "is_main_process", lambda: False)
    assert parts[1].evaluate() is None


def test_means_without_instances_are_nan(make_cfg):
    cfg = make_cfg()
    evaluator = AlignmentEvaluator(cfg.DATASETS.TEST[0], build_model(cfg))
    evaluator.reset()
    result = evaluator.evaluate()["alignment"]
    assert math.isnan(result["PCC"]) and math.isnan(result["IoU-top10"])


def test_image_of_another_dataset(make_cfg):
    cfg = make_cfg()
    evaluator = AlignmentEvaluator(cfg.DATASETS.TEST[0], build_model(cfg))
    with pytest.raises(DataError, match="99"):
        evaluator.process([{"image_id": 99}], [{}])


def test_boxes_outside_of_their_image_do_not_count(make_cfg, tmp_path):
    """As in the COCO evaluation."""
    content = coco_content()
    content["annotations"][0]["bbox"] = [90, 5, 10, 10]
    write_images(tmp_path, content)
    name = register_coco(write_coco(tmp_path, content), str(tmp_path))
    evaluator = AlignmentEvaluator(name, build_model(make_cfg()))
    found = [read_ground_truth(evaluator._dataset, index)[0] for index in range(3)]
    assert [len(boxes) for boxes in found] == [1, 2, 2]
    DatasetCatalog.remove(name)
    MetadataCatalog.pop(name)
