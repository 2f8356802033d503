"""The same data in four formats: recognized, equal after reading, trained on and evaluated."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances

from tests.data.formats.builders import (
    CLASSES,
    assert_same,
    make_dataset,
    write_open_images,
    write_voc,
    write_yolo,
)
from tood.data.dataset import DetectionDataset
from tood.data.formats import DataSource, find_format, read_dataset
from tood.data.loaders import build_train_loader
from tood.data.registration import load_dataset, setup_datasets
from tood.errors import DataError
from tood.evaluation import FastCOCOEvaluator


def write_coco(root: Path, splits: dict[str, DetectionDataset]) -> Path:
    root.mkdir()
    for split, dataset in splits.items():
        content = dataset.to_coco()
        for image in content["images"]:
            image["file_name"] = Path(image["file_name"]).name
        (root / f"{split}.json").write_text(json.dumps(content))
    return root


WRITERS = {
    "coco": write_coco,
    "yolo": write_yolo,
    "voc": write_voc,
    "openimages": write_open_images,
}


@pytest.fixture
def splits(tmp_path) -> dict[str, DetectionDataset]:
    sizes = [(64, 48), (50, 70), (33, 41)]
    return {
        "train": make_dataset(tmp_path / "files", sizes, seed=1),
        "val": make_dataset(tmp_path / "files", sizes, seed=2),
    }


@pytest.fixture(params=WRITERS)
def sources(request, tmp_path, splits) -> dict[str, DataSource]:
    path = WRITERS[request.param](tmp_path / "data", splits)
    if request.param == "coco":
        folder = str(tmp_path / "files")
        return {split: DataSource(str(path / f"{split}.json"), folder, split) for split in splits}
    return {split: DataSource(str(path), split=split) for split in splits}


def test_format_is_recognized(sources, request):
    name = request.node.callspec.params["sources"]
    assert {find_format(source).name for source in sources.values()} == {name}


def test_equal_after_reading(sources, splits, request):
    has_crowds = request.node.callspec.params["sources"] != "yolo"
    for split, expected in splits.items():
        found = read_dataset(sources[split])
        assert_same(found, expected, crowds=has_crowds)
        np.testing.assert_allclose(found.areas, expected.areas, rtol=1e-9)


def test_training_and_evaluation(sources, tiny_cfg, tmp_path):
    """Ground truth as detections has AP 100, and the loader gives the boxes."""
    known = set(DatasetCatalog.list())
    tiny_cfg.MODEL.TOOD.NUM_CLASSES = 80
    for key, split in (("TRAIN", "train"), ("TEST", "val")):
        tiny_cfg.DATASETS[f"{key}_ANNOTATIONS"] = sources[split].annotations
        tiny_cfg.DATASETS[f"{key}_IMAGES"] = sources[split].images
    tiny_cfg.SOLVER.IMS_PER_BATCH = 2
    tiny_cfg.INPUT.MIN_SIZE_TRAIN = (64,)
    tiny_cfg.DATALOADER.ASPECT_RATIO_GROUPING = False
    try:
        setup_datasets(tiny_cfg)
        assert tiny_cfg.MODEL.TOOD.NUM_CLASSES == 3
        assert sorted(tiny_cfg.MODEL.TOOD.CLASS_NAMES) == sorted(CLASSES)
        (name,) = tiny_cfg.DATASETS.TEST
        results = evaluate(name, load_dataset(name), tmp_path)
        assert results["AP"] == pytest.approx(100)
        batch = next(iter(build_train_loader(tiny_cfg)))
        assert sorted(Path(image["file_name"]).name for image in batch) == ["1_0.png", "1_1.png"]
        assert all(len(image["instances"]) for image in batch)
    finally:
        for name in set(DatasetCatalog.list()) - known:
            DatasetCatalog.remove(name)
            MetadataCatalog.pop(name, None)


def evaluate(name: str, dataset: DetectionDataset, folder: Path) -> dict[str, float]:
    """Evaluate the ground truth without crowds."""
    evaluator = FastCOCOEvaluator(name, output_dir=str(folder))
    evaluator.reset()
    for index in range(len(dataset)):
        rows = np.arange(dataset.offsets[index], dataset.offsets[index + 1])
        rows = rows[~dataset.is_crowd[rows]]
        boxes = dataset.boxes[rows].copy()
        boxes[:, 2:] += boxes[:, :2]
        instances = Instances((int(dataset.heights[index]), int(dataset.widths[index])))
        instances.pred_boxes = Boxes(torch.from_numpy(boxes).float())
        instances.scores = torch.ones(len(rows))
        instances.pred_classes = torch.from_numpy(dataset.class_ids[rows].astype(np.int64))
        record = dataset.record(index)
        evaluator.process([record], [{"instances": instances}])
    return evaluator.evaluate()["bbox"]


def test_no_format(tmp_path):
    with pytest.raises(DataError, match="no known dataset format"):
        read_dataset(DataSource(str(tmp_path)))
    with pytest.raises(DataError, match="There is no"):
        read_dataset(DataSource(str(tmp_path / "none")))
