"""Epochs and iterations."""

import pytest
from detectron2.engine import DefaultTrainer

from tests.helpers import CONFIGS
from tood.config.loading import load_config
from tood.engine import epochs_to_iters
from tood.engine.schedule import iters_to_epochs


@pytest.mark.parametrize(
    "epochs, images, batch, expected",
    [
        (4, 117266, 16, 29317),
        (4, 117266, 2, 234532),
        (0, 100, 8, 0),
        (1, 10, 4, 3),
        (4, 8, 8, 4),
        (1.5, 10, 4, 4),
    ],
)
def test_epochs_to_iters(epochs, images, batch, expected):
    assert epochs_to_iters(epochs, images, batch) == expected


def test_iters_to_epochs():
    assert iters_to_epochs(90000, 117266, 16) == pytest.approx(12.28, abs=0.01)
    assert iters_to_epochs(epochs_to_iters(3, 40, 8), 40, 8) == 3


def test_published_configs_set_the_reference_world_size():
    cfg = load_config(str(CONFIGS / "TOOD-R50-1x.yaml"), [])
    assert cfg.SOLVER.REFERENCE_WORLD_SIZE == 8
    one = DefaultTrainer.auto_scale_workers(cfg, 1)
    assert (one.SOLVER.IMS_PER_BATCH, one.SOLVER.MAX_ITER) == (2, 720000)
    assert pytest.approx(0.00125) == one.SOLVER.BASE_LR
    assert epochs_to_iters(4, 117266, one.SOLVER.IMS_PER_BATCH) == 234532
