"""The recipe of the published models: every number of the reference's configs."""

import pytest
from detectron2.solver import build_lr_scheduler
from helpers import CONFIGS
from torch import nn, optim

from tood.config import load_config


@pytest.fixture(scope="module")
def cfg():
    return load_config(str(CONFIGS / "TOOD-R50-1x.yaml"), [])


def test_input(cfg):
    """RGB with torchvision's statistics; 1333x800."""
    assert cfg.INPUT.FORMAT == "RGB"
    assert cfg.MODEL.PIXEL_MEAN == [123.675, 116.280, 103.530]
    assert cfg.MODEL.PIXEL_STD == [58.395, 57.120, 57.375]
    assert cfg.INPUT.MIN_SIZE_TRAIN == (800,) and cfg.INPUT.MAX_SIZE_TRAIN == 1333
    assert cfg.INPUT.MIN_SIZE_TEST == 800 and cfg.INPUT.MAX_SIZE_TEST == 1333
    assert cfg.INPUT.RANDOM_FLIP == "horizontal"
    assert cfg.MODEL.WEIGHTS == "detectron2://ImageNetPretrained/torchvision/R-50.pkl"


def test_backbone(cfg):
    assert cfg.MODEL.META_ARCHITECTURE == "TOOD"
    assert cfg.MODEL.RESNETS.STRIDE_IN_1X1 is False
    assert cfg.MODEL.RESNETS.NORM == "FrozenStatsBN"
    assert cfg.MODEL.BACKBONE.FREEZE_AT == 2
    assert cfg.MODEL.ANCHOR_GENERATOR.OFFSET == 0.0
    assert cfg.MODEL.ANCHOR_GENERATOR.SIZES == [[64], [128], [256], [512], [1024]]


def test_head_and_assigners(cfg):
    node = cfg.MODEL.TOOD
    assert (node.NUM_CLASSES, node.WARMUP_EPOCHS, node.ANCHOR_TYPE) == (80, 4, "anchor_free")
    assert (node.HEAD.NAME, node.HEAD.NUM_CONVS, node.HEAD.CHANNELS) == ("TOODHead", 6, 256)
    assert (node.HEAD.NORM, node.HEAD.NUM_DCN, node.HEAD.PRIOR_PROB) == ("GN", 0, 0.01)
    assert node.WARMUP.ASSIGNER == "ATSSAssigner" and node.ATSS.TOPK == 9
    assert node.ALIGNED.ASSIGNER == "TaskAlignedAssigner"
    assert (node.TAL.TOPK, node.TAL.ALPHA, node.TAL.BETA) == (13, 1.0, 6.0)
    assert (node.FOCAL_LOSS.ALPHA, node.FOCAL_LOSS.GAMMA) == (0.25, 2.0)
    assert node.TASK_ALIGNED_LOSS.GAMMA == 2.0
    assert (node.LOSS_WEIGHTS.LOSS_CLS, node.LOSS_WEIGHTS.LOSS_BOX_REG) == (1.0, 2.0)


def test_inference(cfg):
    node = cfg.MODEL.TOOD
    assert (node.SCORE_THRESH_TEST, node.TOPK_CANDIDATES_TEST) == (0.05, 1000)
    assert (node.NMS_THRESH_TEST, cfg.TEST.DETECTIONS_PER_IMAGE) == (0.6, 100)


def test_solver(cfg):
    solver = cfg.SOLVER
    assert (solver.IMS_PER_BATCH, solver.REFERENCE_WORLD_SIZE) == (16, 8)
    assert (solver.BASE_LR, solver.MOMENTUM) == (0.01, 0.9)
    assert solver.WEIGHT_DECAY == solver.WEIGHT_DECAY_NORM == 1e-4
    assert solver.CLIP_GRADIENTS.ENABLED is False
    assert (solver.MAX_ITER, solver.STEPS) == (90000, (60000, 82500))  # epochs 8 and 11 of 12


def test_learning_rate(cfg):
    """500 iterations of warm-up from 0.001 of it, then 0.01, 0.001, 0.0001."""
    optimizer = optim.SGD(nn.Linear(1, 1).parameters(), lr=cfg.SOLVER.BASE_LR)
    scheduler = build_lr_scheduler(cfg, optimizer)
    rates = {}
    for iteration in range(82501):
        if iteration in (0, 250, 500, 59999, 60000, 82499, 82500):
            rates[iteration] = optimizer.param_groups[0]["lr"]
        optimizer.step()
        scheduler.step()
    expected = {0: 1e-5, 250: 0.01 * (0.001 * 0.5 + 0.5), 500: 0.01, 59999: 0.01}
    expected |= {60000: 0.001, 82499: 0.001, 82500: 0.0001}
    assert rates == pytest.approx(expected)
