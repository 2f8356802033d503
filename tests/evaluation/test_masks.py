"""AP of masks: hand-computed, by pycocotools, and of a Mask R-CNN on the synthetic shapes."""

import json
import math

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import Boxes, Instances
from pycocotools import mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.data.coco_files import HEIGHT, WIDTH, coco_content, write_coco, write_images
from tests.evaluation.perfect import detect_truth
from tests.mask_rcnn import make_mask_rcnn_cfg
from tood.data import setup_datasets
from tood.data.catalog import ReadOptions, set_read_options
from tood.data.registration import load_dataset
from tood.data.synthetic import write_dataset
from tood.engine import Trainer
from tood.errors import ConfigError, DataError
from tood.evaluation import FastCOCOEvaluator


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("shapes"), num_train=6, num_val=3, size=64)


@pytest.fixture
def set_up(tmp_path):
    """Registers a file as training and test set of a Mask R-CNN; returns the config."""

    def build(train, test, images, mask_format="polygon"):
        cfg = make_mask_rcnn_cfg()
        for split, path in (("TRAIN", train), ("TEST", test)):
            cfg.DATASETS[f"{split}_ANNOTATIONS"] = str(path)
            cfg.DATASETS[f"{split}_IMAGES"] = str(images)
        cfg.INPUT.MASK_FORMAT = mask_format
        cfg.OUTPUT_DIR = str(tmp_path / "output")
        setup_datasets(cfg)
        return cfg

    yield build
    set_read_options(ReadOptions())


def rectangles(mode="polygon") -> dict:
    """An image with an object of 20x10 pixels and one of 40x30, of different classes."""
    content = coco_content(num_images=1)
    for entry, box in zip(content["annotations"], ([4, 6, 20, 10], [30, 20, 40, 30]), strict=True):
        x, y, width, height = box
        mask = [[x, y, x + width, y, x + width, y + height, x, y + height]]
        if mode == "rle":
            mask = mask_util.frPyObjects(mask, HEIGHT, WIDTH)[0]
            mask["counts"] = mask["counts"].decode()
        entry |= {"bbox": box, "area": width * height, "segmentation": mask}
    return content


def truth_with_masks(dataset, shift=0):
    """The ground truth as detections; masks are shifted to the right, boxes are not."""
    found = detect_truth(dataset)
    for index, (_, outputs) in enumerate(found):
        instances = outputs["instances"]
        height, width = instances.image_size
        masks = np.zeros((len(instances), height, width), bool)
        rows = np.flatnonzero((dataset.image_index == index) & ~dataset.is_crowd)
        for mask, row in zip(masks, rows, strict=True):
            segmentation = dataset.segmentations[row]
            if isinstance(segmentation, list):
                polygons = mask_util.frPyObjects(segmentation, height, width)
                segmentation = mask_util.merge(polygons)
            mask[:, shift:] = mask_util.decode(segmentation)[:, : width - shift]
        instances.pred_masks = torch.from_numpy(masks)
    return found


def evaluate(name, found, **options):
    evaluator = FastCOCOEvaluator(name, **options)
    evaluator.reset()
    for inputs, outputs in found:
        evaluator.process([inputs], [outputs])
    return evaluator.evaluate()


@pytest.mark.parametrize("mode", ["polygon", "rle"])
@pytest.mark.parametrize(
    "shift, expected", [(0, 100), (1, 100 * (0.9 + 1.0) / 2), (3, 100 * (0.5 + 0.8) / 2)]
)
def test_shifted_masks(set_up, tmp_path, mode, shift, expected):
    """The IoU is (width - shift) / (width + shift); the thresholds are 0.5, 0.55, ..., 0.95.

    Shifted by 1, 19/21 = 0.905 is enough for 9 of the 10 thresholds, and 39/41 = 0.951 for all.
    Shifted by 3, 17/23 = 0.739 is enough for 5 of them, and 37/43 = 0.860 for 8.
    """
    content = rectangles(mode)
    write_images(tmp_path, content)
    path = write_coco(tmp_path, content)
    cfg = set_up(path, path, tmp_path, "bitmask" if mode == "rle" else "polygon")
    (name,) = cfg.DATASETS.TEST
    results = evaluate(name, truth_with_masks(load_dataset(name), shift))
    assert results["bbox"]["AP"] == pytest.approx(100)
    assert results["segm"]["AP"] == pytest.approx(expected)


def test_results_file_has_the_ap_that_pycocotools_computes(set_up, shapes, tmp_path):
    """The file with polygons of the synthetic shapes is the oracle's ground truth."""
    cfg = set_up(shapes / "train.json", shapes / "val.json", shapes / "images")
    (name,) = cfg.DATASETS.TEST
    found = truth_with_masks(load_dataset(name), shift=1)
    results = evaluate(name, found, output_dir=tmp_path)
    truth = COCO(str(shapes / "val.json"))
    entries = json.loads((tmp_path / "coco_instances_results.json").read_text())
    oracle = COCOeval(truth, truth.loadRes(entries), "segm")
    oracle.evaluate()
    oracle.accumulate()
    oracle.summarize()
    assert 20 < results["segm"]["AP"] < 99 < results["bbox"]["AP"]
    assert results["segm"]["AP"] == pytest.approx(100 * oracle.stats[0])
    perfect = evaluate(name, truth_with_masks(load_dataset(name)))
    assert perfect["segm"]["AP"] == pytest.approx(100) == perfect["bbox"]["AP"]


def test_a_model_that_finds_nothing_has_no_ap_of_masks(set_up, shapes):
    """Rather than none that is called so: who looks for the best checkpoint needs the key."""
    cfg = set_up(shapes / "train.json", shapes / "val.json", shapes / "images")
    (name,) = cfg.DATASETS.TEST
    nothing = Instances((64, 64), pred_boxes=Boxes(torch.zeros(0, 4)), scores=torch.zeros(0))
    nothing.pred_classes, nothing.pred_masks = torch.zeros(0).long(), torch.zeros(0, 64, 64) > 0
    images = load_dataset(name).image_ids
    results = evaluate(name, [({"image_id": i}, {"instances": nothing}) for i in images])
    assert results.keys() == {"bbox", "segm"} and math.isnan(results["segm"]["AP"])


def test_masks_of_a_model_need_masks_in_the_data(set_up, shapes):
    cfg = set_up(shapes / "train.json", shapes / "val.json", shapes / "images")
    (name,) = cfg.DATASETS.TEST
    found = truth_with_masks(load_dataset(name))
    cfg.MODEL.MASK_ON = False
    setup_datasets(cfg)
    with pytest.raises(ConfigError, match=r"No masks of .*val\.json were read.*MODEL.MASK_ON True"):
        evaluate(name, found)


def test_objects_without_masks_are_not_left_out_of_the_ap(set_up, tmp_path):
    """Also of datasets that were read without the checks of setup_datasets."""
    content = rectangles()
    write_images(tmp_path, content)
    path = write_coco(tmp_path, content)
    (name,) = set_up(path, path, tmp_path).DATASETS.TEST
    found = truth_with_masks(load_dataset(name))
    content["annotations"][1]["segmentation"] = []
    write_coco(tmp_path, content)
    register_coco_instances("one_mask", {}, path, str(tmp_path))
    try:
        with pytest.raises(DataError, match="1 of the 2 objects of .* have no mask .*annotation 2"):
            evaluate("one_mask", found)
    finally:
        DatasetCatalog.remove("one_mask")
        MetadataCatalog.pop("one_mask")


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_mask_rcnn_trains_and_is_evaluated(set_up, shapes, tmp_path, mask_format):
    cfg = set_up(shapes / "train.json", shapes / "val.json", shapes / "images", mask_format)
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS = 2, 3, ()
    cfg.TEST.EVAL_PERIOD = 3
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    with open(tmp_path / "output" / "metrics.json") as file:
        rows = [json.loads(row) for row in file]
    assert any(0 < row.get("loss_mask", 0) < 2 for row in rows)
    assert 0 <= rows[-1]["segm/AP"] <= 100 and 0 <= rows[-1]["bbox/AP"] <= 100
