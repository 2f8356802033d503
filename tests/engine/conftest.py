from pathlib import Path

import pytest
from detectron2.config import CfgNode

from tests.engine.parts import make_small
from tests.helpers import ROOT
from tood.config.imports import import_custom
from tood.data import setup_datasets
from tood.data.synthetic import write_dataset


@pytest.fixture(scope="session")
def shapes(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("shapes"), num_train=8, num_val=2, size=64)


@pytest.fixture
def run_cfg(tiny_cfg: CfgNode, shapes: Path, tmp_path: Path) -> CfgNode:
    """8 images, batches of 2, an ATSS warm-up phase of 1 epoch: 4 iterations of 6."""
    cfg = tiny_cfg
    cfg.DATASETS.TRAIN_ANNOTATIONS, cfg.DATASETS.TEST_ANNOTATIONS = (
        str(shapes / f"{split}.json") for split in ("train", "val")
    )
    cfg.DATASETS.TRAIN_IMAGES = cfg.DATASETS.TEST_IMAGES = str(shapes / "images")
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (64,), 64
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS = 6, ()
    cfg.SOLVER.CHECKPOINT_PERIOD = 3
    cfg.TEST.EVAL_PERIOD = 0
    cfg.MODEL.TOOD.WARMUP.EPOCHS = 1
    cfg.OUTPUT_DIR = str(tmp_path)
    cfg.SEED = 1
    setup_datasets(cfg)
    return cfg


@pytest.fixture
def quick_cfg(run_cfg: CfgNode) -> CfgNode:
    """`run_cfg` with a model whose checkpoints are written in a moment."""
    import_custom(str(ROOT / "tests/tiny_backbone.py"))
    run_cfg.MODEL.BACKBONE.NAME = "build_tiny_backbone"
    run_cfg.MODEL.TOOD.HEAD.NUM_CONVS = 1
    return run_cfg


@pytest.fixture
def small_cfg(tiny_cfg: CfgNode) -> CfgNode:
    """A model of one convolution per level, with one in each branch of its head."""
    return make_small(tiny_cfg)
