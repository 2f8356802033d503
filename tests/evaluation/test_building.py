"""Which evaluator a dataset gets, and where its results go."""

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import PascalVOCDetectionEvaluator

from tests.data.coco_files import coco_content, write_coco, write_images
from tests.evaluation.perfect import detect_truth
from tood.data.registration import load_dataset, register_coco
from tood.errors import ConfigError
from tood.evaluation import (
    FastCOCOEvaluator,
    build_evaluator,
    building,
    result_folder,
    validate_evaluators,
)


@pytest.fixture
def register(tmp_path):
    """Registers a dataset with an evaluator type."""
    write_images(tmp_path, coco_content())
    names = []

    def build(name, kind, **metadata):
        names.append(name)
        register_coco_instances(name, {}, write_coco(tmp_path, coco_content()), str(tmp_path))
        MetadataCatalog.get(name).__dict__.update(evaluator_type=kind, **metadata)
        return name

    yield build
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name)


@pytest.mark.parametrize("kind", ["coco", "coco_panoptic_seg", None])
def test_coco(tiny_cfg, register, kind):
    tiny_cfg.DATASETS.TEST = (register("boxes", kind),)
    validate_evaluators(tiny_cfg)
    assert isinstance(build_evaluator(tiny_cfg, "boxes"), FastCOCOEvaluator)


def test_the_config_limits_detections(tiny_cfg, register):
    tiny_cfg.TEST.DETECTIONS_PER_IMAGE = 300
    assert build_evaluator(tiny_cfg, register("boxes", "coco"))._max_dets == 300


def test_lvis(tiny_cfg, register, monkeypatch):
    """Not every class is annotated in every image of LVIS, so COCO's evaluator would be wrong."""
    tiny_cfg.DATASETS.TEST = (register("boxes", "lvis"),)
    monkeypatch.setattr(building, "find_spec", lambda name: None)
    for build in (validate_evaluators, lambda cfg: build_evaluator(cfg, "boxes")):
        with pytest.raises(ConfigError, match="boxes is evaluated as LVIS.*pip install lvis"):
            build(tiny_cfg)
    built = []
    monkeypatch.setattr(building, "find_spec", lambda name: object())
    monkeypatch.setattr(building, "FixedLVISEvaluator", lambda *args, **kwargs: built.append(args))
    build_evaluator(tiny_cfg, "boxes")
    assert built == [("boxes",)]


def test_lvis_ignores_classes_that_an_image_was_not_searched_for(tmp_path, tiny_cfg):
    """Needs lvis, which is not among the requirements: pip install lvis"""
    pytest.importorskip("lvis")
    content = coco_content(num_images=2)
    for image in content["images"]:
        image.update(neg_category_ids=[], not_exhaustive_category_ids=[])
    for category in content["categories"]:
        category.update(frequency="f")
    write_images(tmp_path, content)
    truth = register_coco(write_coco(tmp_path, content), str(tmp_path))
    del content["annotations"][1]  # class b in image 1
    DatasetCatalog.register("tiny lvis", lambda: [])
    MetadataCatalog.get("tiny lvis").set(
        json_file=write_coco(tmp_path, content), evaluator_type="lvis", thing_classes=["a", "b"]
    )
    try:
        evaluator = build_evaluator(tiny_cfg, "tiny lvis", str(tmp_path))
        evaluator.reset()
        for inputs, outputs in detect_truth(load_dataset(truth)):
            evaluator.process([inputs], [outputs])
        assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(100)
    finally:
        for name in (truth, "tiny lvis"):
            DatasetCatalog.remove(name)
            MetadataCatalog.pop(name)


def test_pascal_voc(tiny_cfg, register, tmp_path):
    register("boxes", "pascal_voc", dirname=str(tmp_path), split="val", year=2007)
    MetadataCatalog.get("boxes").thing_classes = ["a", "b"]
    assert isinstance(build_evaluator(tiny_cfg, "boxes"), PascalVOCDetectionEvaluator)


def test_keypoints_need_the_type_of_coco(tiny_cfg, register):
    tiny_cfg.MODEL.KEYPOINT_ON = True
    tiny_cfg.TEST.KEYPOINT_OKS_SIGMAS = [0.1, 0.2]
    tiny_cfg.DATASETS.TEST = (register("boxes", "coco"),)
    validate_evaluators(tiny_cfg)
    assert build_evaluator(tiny_cfg, "boxes")._kpt_oks_sigmas == [0.1, 0.2]
    MetadataCatalog.get("boxes").__dict__["evaluator_type"] = "pascal_voc"
    with pytest.raises(ConfigError, match="boxes has .* 'pascal_voc', .* not evaluate keypoints"):
        validate_evaluators(tiny_cfg)


@pytest.mark.parametrize("kind", ["cityscapes_instance", "sem_seg", "my_own"])
def test_types_that_do_not_evaluate_boxes(tiny_cfg, register, kind):
    tiny_cfg.DATASETS.TEST = (register("boxes", kind),)
    for build in (validate_evaluators, lambda cfg: build_evaluator(cfg, "boxes")):
        with pytest.raises(ConfigError, match=f"'{kind}'.*Available: coco, lvis, pascal_voc"):
            build(tiny_cfg)


def test_one_folder_per_test_set(tiny_cfg):
    tiny_cfg.OUTPUT_DIR = "out"
    tiny_cfg.DATASETS.TEST = ("a",)
    assert result_folder(tiny_cfg, "a") == "out/inference"
    names = ("coco_2017_val", "/data/x/val.json", "/data/x-val.json", "..", "set 1")
    tiny_cfg.DATASETS.TEST = names
    folders = [result_folder(tiny_cfg, name) for name in names]
    assert folders[0] == "out/inference/coco_2017_val" and len(set(folders)) == len(names)
    for folder in folders:
        assert folder.count("/") == 2 and not folder.endswith(".")
