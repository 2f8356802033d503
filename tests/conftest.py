import functools
import gc
import logging

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.structures import Boxes, Instances
from detectron2.utils.logger import setup_logger

from tests.helpers import CONFIGS
from tood import add_tood_config


def pytest_collection_finish():
    """Garbage collections need not look at modules and tests; they took a tenth of the time."""
    gc.freeze()


@pytest.fixture(autouse=True)
def seeded():
    torch.default_generator.manual_seed(0)
    # torch.manual_seed does this without a GPU, too, and keeps a stack trace, which takes 1 ms.
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(0)
    np.random.seed(0)


@pytest.fixture(autouse=True)
def fresh_loggers():
    """Loggers as in a new process, whatever program ran in this one before.

    The programs' handlers write to the terminal of their test, which is gone after it.
    """
    yield
    for name in ("tood", "tood_runtime", "fvcore", "detectron2"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)
        logger.propagate = True
    setup_logger.cache_clear()  # detectron2 remembers which loggers it has set up


@pytest.fixture(scope="session")
def exported_onnx(tmp_path_factory):
    """A tiny model and its end-to-end ONNX file, dynamic in batch, height and width.

    A ``tests.export.conftest.Exported``; one for all tests of a process, because a trace takes
    seconds.
    """
    from tests.export.conftest import export_tiny  # slow to import, and needed by few

    return export_tiny(tmp_path_factory.mktemp("exported") / "tiny.onnx")


@pytest.fixture
def tiny_cfg() -> CfgNode:
    """See :func:`make_tiny_cfg`."""
    return make_tiny_cfg()


def make_tiny_cfg() -> CfgNode:
    """An R18 model of few channels and 5 classes on the CPU, built in a moment."""
    return _read_tiny_cfg().clone()


@functools.cache
def _read_tiny_cfg() -> CfgNode:
    cfg = get_cfg()
    add_tood_config(cfg)
    cfg.merge_from_file(str(CONFIGS / "TOOD-R50-1x.yaml"))
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.FPN.OUT_CHANNELS = 64
    cfg.MODEL.TOOD.NUM_CLASSES = 5
    cfg.MODEL.TOOD.HEAD.CHANNELS = 64
    cfg.MODEL.TOOD.HEAD.NUM_CONVS = 2
    cfg.SOLVER.REFERENCE_WORLD_SIZE = 0
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.TEST.REPORT = False  # it takes as long as the rest
    return cfg


@pytest.fixture
def make_input():
    """Builds an input of the model: ``make_input(height, width, boxes, classes)``."""

    def build(height=96, width=128, boxes=((10.0, 12.0, 70.0, 80.0),), classes=(1,)):
        instances = Instances((height, width))
        instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
        instances.gt_classes = torch.tensor(classes, dtype=torch.int64)
        image = torch.randint(0, 256, (3, height, width)).float()
        return {"image": image, "instances": instances, "height": height, "width": width}

    return build
