"""Training learns: four images by heart in seconds, and the quickstart in minutes."""

import json

import cv2
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, pairwise_iou

from tests.engine.parts import make_small
from tests.helpers import CONFIGS
from tood.data.synthetic import write_dataset
from tood_runtime.cli import main


@pytest.fixture
def batch(tmp_path):
    """Four images of 96 pixels with 14 shapes of 5 classes."""
    write_dataset(tmp_path, num_train=4, num_val=1, size=96)
    content = json.loads((tmp_path / "train.json").read_text())
    inputs = []
    for record in content["images"]:
        image = cv2.imread(str(tmp_path / "images" / record["file_name"]))
        found = [x for x in content["annotations"] if x["image_id"] == record["id"]]
        boxes = torch.tensor([x["bbox"] for x in found], dtype=torch.float32)
        instances = Instances(image.shape[:2])
        instances.gt_boxes = Boxes(torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1))
        instances.gt_classes = torch.tensor([x["category_id"] - 1 for x in found])
        inputs.append({"image": torch.from_numpy(image).permute(2, 0, 1), "instances": instances})
    return inputs


def count_found(model, batch):
    """Of the shapes how many are found, and how many detections are wrong."""
    found = wrong = 0
    with torch.no_grad():
        outputs = model.eval()(batch)
    for x, output in zip(batch, outputs, strict=True):
        truth, detected = x["instances"], output["instances"]
        detected = detected[detected.scores > 0.3]
        hits = pairwise_iou(truth.gt_boxes, detected.pred_boxes) > 0.5
        hits &= truth.gt_classes[:, None] == detected.pred_classes
        found += int(hits.any(dim=1).sum())
        wrong += int((~hits.any(dim=0)).sum())
    return found, wrong


def test_a_few_images_are_learned_by_heart(tiny_cfg, batch):
    """In both phases. 13 of 14 shapes are found after 80 iterations, and nothing wrong."""
    model = build_model(make_small(tiny_cfg)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.002)
    assert sum(len(x["instances"]) for x in batch) == 14
    for iteration in range(80):
        model.set_phase("warmup" if iteration < 20 else "aligned")
        optimizer.zero_grad()
        sum(model(batch).values()).backward()
        optimizer.step()
    found, wrong = count_found(model, batch)
    assert found >= 11 and wrong <= 3


@pytest.mark.slow
def test_quickstart_learns_what_it_did(tmp_path):
    """The whole of it, longer than all other tests; its config has the band of AP."""
    write_dataset(tmp_path / "data")
    options = ["OUTPUT_DIR", str(tmp_path / "run"), "TEST.EVAL_PERIOD", "0", "TEST.REPORT", "False"]
    for split, name in (("TRAIN", "train"), ("TEST", "val")):
        options += [f"DATASETS.{split}_ANNOTATIONS", str(tmp_path / f"data/{name}.json")]
        options += [f"DATASETS.{split}_IMAGES", str(tmp_path / "data/images")]
    config = CONFIGS / "quickstart/TOOD-R18-shapes-expected.yaml"
    assert main(["train", str(config), "--num-gpus", "1", *options]) == 0
    assert "TEST.EXPECTED_RESULTS: bbox/AP is" in (tmp_path / "run/log.txt").read_text()
