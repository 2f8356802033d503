"""Loading configs: sources, order, class names in the catalog, and detectron2's own merging."""

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances
from detectron2.utils.visualizer import Visualizer

from tests.helpers import CONFIGS
from tood import add_tood_config
from tood.config import load_config
from tood.data import setup_datasets
from tood.data.synthetic import write_dataset
from tood.errors import ConfigError

ALL = sorted(path for path in CONFIGS.rglob("*.yaml"))


def leaves(node: CfgNode, parent: str = "") -> dict:
    found = {}
    for name, value in node.items():
        if isinstance(value, CfgNode):
            found |= leaves(value, f"{parent}{name}.")
        else:
            found[parent + name] = value
    return found


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_same_result_as_detectron2(path):
    """A config in its plain form means the same to ``cfg.merge_from_file``."""
    cfg = get_cfg()
    add_tood_config(cfg)
    cfg.merge_from_file(str(path))
    loaded = load_config(path)
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    assert leaves(loaded) == leaves(cfg)
    assert type(loaded) is type(cfg) and not loaded.is_frozen()


def test_names_and_paths():
    by_name = load_config("TOOD-R101-DCN-2x")
    assert by_name == load_config(str(CONFIGS / "TOOD-R101-DCN-2x.yaml"))
    assert by_name.MODEL.TOOD.HEAD.NUM_DCN == 2
    assert load_config("ablations/ATSS-Parallel").MODEL.TOOD.HEAD.NAME == "ParallelHead"
    assert load_config("quickstart/TOOD-R18-shapes").MODEL.RESNETS.DEPTH == 18


def test_options_come_last(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("_BASE_: TOOD-R50-2x\nSOLVER: {MAX_ITER: 7}\nTEST: {EVAL_PERIOD: 3}\n")
    cfg = load_config(path, ["SOLVER.MAX_ITER", "9", "SOLVER.STEPS", "(5, 8)", "SEED", 3])
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.SEED) == (9, (5, 8), 3)
    assert cfg.TEST.EVAL_PERIOD == 3 and cfg.INPUT.MIN_SIZE_TRAIN == (480, 800)


def test_device_is_resolved(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert load_config("TOOD-R50-1x", ["MODEL.DEVICE", "cuda:1"]).MODEL.DEVICE == "cpu"
    with pytest.raises(ConfigError, match="Unknown device 'gpu'"):
        load_config("TOOD-R50-1x", ["MODEL.DEVICE", "gpu"])


def test_config_with_nodes_of_its_own(tmp_path):
    start = get_cfg()
    add_tood_config(start)
    start.MODEL.TOOD.ASSIGNERS.OWN = CfgNode({"TOPK": 9, "RADIUS": 1.5})
    start.freeze()
    path = tmp_path / "a.yaml"
    path.write_text("_BASE_: TOOD-R50-1x\nMODEL: {TOOD: {ASSIGNERS: {OWN: {RADIUS: 2.5}}}}\n")
    option = "MODEL.TOOD.ASSIGNERS.OWN.TOPK"
    cfg = load_config(path, [option, "5"], cfg=start)
    assert dict(cfg.MODEL.TOOD.ASSIGNERS.OWN) == {"TOPK": 5, "RADIUS": 2.5}
    assert not cfg.is_frozen()
    assert dict(start.MODEL.TOOD.ASSIGNERS.OWN) == {"TOPK": 9, "RADIUS": 1.5}
    with pytest.raises(ConfigError, match="Unknown config key"):
        load_config("TOOD-R50-1x", [option, "5"])


# ---- class names in detectron2's catalog -------------------------------------------------------


@pytest.fixture
def datasets():
    """Registers nothing; removes what a test put under these names."""
    names = ("catalog_test_a", "catalog_test_b")
    yield names
    for name in names:
        MetadataCatalog.pop(name, None)


def load_with_classes(datasets, classes: list[str]) -> CfgNode:
    opts = ["MODEL.TOOD.CLASS_NAMES", classes, "DATASETS.TEST", datasets]
    return load_config("TOOD-R50-1x", opts)


def test_class_names_reach_the_catalog(datasets):
    cfg = load_with_classes(datasets, ["cell", "plate"])
    for name in datasets:
        assert MetadataCatalog.get(name).thing_classes == ["cell", "plate"]
    cfg.MODEL.TOOD.CLASS_NAMES.append("other")  # the catalog has a copy
    assert MetadataCatalog.get(datasets[0]).thing_classes == ["cell", "plate"]


def test_class_names_of_a_dataset_stay(datasets):
    MetadataCatalog.get(datasets[0]).thing_classes = ["its", "own"]
    load_with_classes(datasets, ["cell", "plate"])
    assert MetadataCatalog.get(datasets[0]).thing_classes == ["its", "own"]
    assert MetadataCatalog.get(datasets[1]).thing_classes == ["cell", "plate"]
    load_with_classes(("coco_2017_val",), ["cell", "plate"])
    assert len(MetadataCatalog.get("coco_2017_val").thing_classes) == 80


def test_class_names_of_training_sets(datasets):
    """An unregistered one gets names; a registered one has its own as soon as it is loaded."""
    unregistered, registered = datasets
    DatasetCatalog.register(registered, list)
    try:
        opts = ["MODEL.TOOD.CLASS_NAMES", ["cell", "plate"], "DATASETS.TRAIN", datasets]
        load_config("TOOD-R50-1x", opts)
    finally:
        DatasetCatalog.remove(registered)
    assert MetadataCatalog.get(unregistered).thing_classes == ["cell", "plate"]
    assert MetadataCatalog.get(registered).get("thing_classes") is None


def test_visualizer_shows_class_names(datasets):
    """What detectron2's tutorial draws detections with."""
    cfg = load_with_classes(datasets[:1], ["cell", "plate"])
    visualizer = Visualizer(np.zeros((64, 64, 3)), MetadataCatalog.get(cfg.DATASETS.TEST[0]))
    instances = Instances((64, 64), pred_boxes=Boxes(torch.tensor([[8.0, 8.0, 40.0, 40.0]])))
    instances.scores, instances.pred_classes = torch.tensor([0.5]), torch.tensor([1])
    drawn = visualizer.draw_instance_predictions(instances)
    assert [text.get_text() for text in drawn.ax.texts] == ["plate 50%"]


def test_no_class_names_leave_the_catalog_alone(datasets):
    load_with_classes(datasets, [])
    assert MetadataCatalog.get(datasets[0]).get("thing_classes") is None


def test_class_names_that_a_dataset_contradicts(tmp_path):
    """A saved config whose annotation file has other classes by now: one sentence."""
    data = write_dataset(tmp_path / "data", num_train=1, num_val=1, size=64)
    annotations = str((data / "val.json").resolve())
    opts = ["MODEL.TOOD.NUM_CLASSES", 5, "MODEL.TOOD.CLASS_NAMES", list("abcde")]
    opts += ["DATASETS.TEST", (annotations,), "DATASETS.TEST_ANNOTATIONS", annotations]
    cfg = load_config("TOOD-R50-1x", [*opts, "DATASETS.TEST_IMAGES", str(data / "images")])
    with pytest.raises(ConfigError, match=r"MODEL\.TOOD\.CLASS_NAMES"):
        setup_datasets(cfg, ("TEST",))


def test_broken_file_does_not_import_custom_code(tmp_path):
    """An error in the options comes before any import."""
    marker = tmp_path / "imported"
    (tmp_path / "own.py").write_text(f"open({str(marker)!r}, 'w')\n")
    opts = ["MODEL.TOOD.CUSTOM_IMPORTS", [str(tmp_path / "own.py")], "NO.SUCH.KEY", 3]
    with pytest.raises(ConfigError, match=r"NO\.SUCH\.KEY"):
        load_config("TOOD-R50-1x", opts)
    assert not marker.exists()
    load_config("TOOD-R50-1x", opts[:2])
    assert marker.exists()
