from collections.abc import Callable
from pathlib import Path

import pytest
from detectron2.config import CfgNode

from tests.helpers import CONFIGS
from tood.config.loading import load_config
from tood.data import setup_datasets
from tood.data.synthetic import write_dataset


@pytest.fixture(scope="session")
def shapes(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("shapes"), num_train=2, num_val=5, size=96)


@pytest.fixture
def make_cfg(shapes: Path) -> Callable[..., CfgNode]:
    """Builds the quickstart's config with options, evaluated on 96x96 images at 128x128."""

    def make(*opts: str) -> CfgNode:
        config = str(CONFIGS / "quickstart" / "TOOD-R18-shapes.yaml")
        data = ["DATASETS.TEST_ANNOTATIONS", str(shapes / "val.json"), "MODEL.DEVICE", "cpu"]
        data += ["DATASETS.TEST_IMAGES", str(shapes / "images"), "INPUT.MIN_SIZE_TEST", "128"]
        cfg = load_config(config, [*data, *opts])
        setup_datasets(cfg, ("TEST",))
        return cfg

    return make
