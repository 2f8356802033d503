"""Evaluation of exported files whose images have to be resized in a way of their own."""

import dataclasses
import json

import numpy as np
import torch
from detectron2.modeling import build_model

from tests.conftest import make_tiny_cfg
from tests.export.helpers import make_confident
from tests.inference.network_backend import NetworkBackend
from tests.inference.own_truth import write_own_truth
from tood.data import setup_datasets
from tood.engine import Trainer
from tood.export.metadata import build_info
from tood.export.options import ExportOptions
from tood.export.wrapper import DetectionNetwork
from tood.inference import Detector, ExportedModel
from tood_runtime.detector import RuntimeDetector


def test_files_of_a_fixed_size_are_evaluated_as_they_are_run(tmp_path, monkeypatch):
    """The loader resizes as the runtime does: portrait images fit into a landscape file."""
    cfg = make_tiny_cfg()
    cfg.MODEL.TOOD.SCORE_THRESH_TEST = 0.02
    cfg.MODEL.TOOD.CLASS_NAMES = ["a", "b", "c", "d", "e"]
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 64, 96
    model = make_confident(build_model(cfg).eval())
    write_own_truth(tmp_path, Detector(model, cfg), [(90, 120), (130, 64)])
    info = build_info(model, cfg, ExportOptions(), name="tiny")
    backend = NetworkBackend(
        DetectionNetwork(model), dataclasses.replace(info, batch=2, height=64, width=96)
    )
    monkeypatch.setattr(ExportedModel, "from_config", lambda cfg: ExportedModel(backend))

    cfg.DATASETS.TEST_ANNOTATIONS = str(tmp_path / "truth.json")
    cfg.DATASETS.TEST_IMAGES = str(tmp_path / "images")
    cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR = "fixed.onnx", str(tmp_path)
    setup_datasets(cfg, ("TEST",))
    results = Trainer.evaluate_checkpoint(cfg)
    assert results["bbox"]["AP"] > 10
    assert set(backend.batches) == {(2, 3, 64, 96)}

    saved = json.loads((tmp_path / "inference/coco_instances_results.json").read_text())
    runtime = RuntimeDetector(backend)
    for image_id in (1, 2):
        found = [x for x in saved if x["image_id"] == image_id]
        expected = runtime(tmp_path / f"images/{image_id}.png", score_threshold=0.02)
        assert len(found) == len(expected) > 10
        boxes = np.array([x["bbox"] for x in found])
        boxes[:, 2:] += boxes[:, :2]
        np.testing.assert_allclose(boxes, expected.xyxy, rtol=0, atol=1e-3)
        scores = torch.tensor([x["score"] for x in found])
        np.testing.assert_allclose(scores, expected.confidence, rtol=0, atol=1e-6)
