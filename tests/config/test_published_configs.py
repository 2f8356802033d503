"""The published models' recipe: every value of the reference configs, and its effects."""

from collections import Counter

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.data.detection_utils import build_augmentation
from detectron2.layers import FrozenBatchNorm2d
from detectron2.solver import build_lr_scheduler, build_optimizer
from torch import nn, optim

from tests.helpers import CONFIGS, PUBLISHED, published_cfg, published_keys, published_model
from tood.config import load_config
from tood.model_zoo import MODELS

MULTI_SCALE = [name for name in PUBLISHED if name.endswith("2x")]


@pytest.fixture(scope="module", params=PUBLISHED)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def cfg(name):
    return load_config(str(CONFIGS / f"{name}.yaml"), [])


def test_input(cfg):
    """RGB images, normalized with torchvision's statistics."""
    assert cfg.INPUT.FORMAT == "RGB"
    assert cfg.MODEL.PIXEL_MEAN == [123.675, 116.280, 103.530]
    assert cfg.MODEL.PIXEL_STD == [58.395, 57.120, 57.375]
    assert cfg.INPUT.MAX_SIZE_TRAIN == 1333
    assert cfg.INPUT.MIN_SIZE_TEST == 800 and cfg.INPUT.MAX_SIZE_TEST == 1333
    assert cfg.INPUT.RANDOM_FLIP == "horizontal"


def test_training_sizes(cfg, name):
    """The shorter side is 800 in the 1x schedule, and any integer from 480 to 800 in 2x."""
    sampling = (cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING)
    assert sampling == (((480, 800), "range") if name in MULTI_SCALE else ((800,), "choice"))


def test_initial_weights(cfg, name):
    """The files that MMDetection starts from; tests/checkpoint tests that they can be loaded."""
    backbone = name.removeprefix("TOOD-").split("-")[0]
    assert (
        cfg.MODEL.WEIGHTS
        == {
            "R50": "detectron2://ImageNetPretrained/torchvision/R-50.pkl",
            "R101": "https://download.pytorch.org/models/resnet101-63fe2227.pth",
            "X101": "https://download.openmmlab.com/pretrain/third_party/"
            "resnext101_64x4d-ee2c6f71.pth",
        }[backbone]
    )


def test_backbone(cfg, name):
    assert cfg.MODEL.META_ARCHITECTURE == "TOOD"
    assert cfg.MODEL.RESNETS.STRIDE_IN_1X1 is False
    assert cfg.MODEL.RESNETS.NORM == "FrozenStatsBN"
    assert cfg.MODEL.BACKBONE.FREEZE_AT == 2
    assert cfg.MODEL.ANCHOR_GENERATOR.OFFSET == 0.0
    assert cfg.MODEL.ANCHOR_GENERATOR.SIZES == [[64], [128], [256], [512], [1024]]
    resnets = cfg.MODEL.RESNETS
    assert resnets.DEPTH == (50 if "R50" in name else 101)
    assert (resnets.NUM_GROUPS, resnets.WIDTH_PER_GROUP) == ((64, 4) if "X101" in name else (1, 64))
    deformable = [False] * 4
    if "DCN" in name:
        deformable[1 if "R101" in name else 2 :] = [True] * (3 if "R101" in name else 2)
        assert resnets.DEFORM_MODULATED is True and resnets.DEFORM_NUM_GROUPS == 1
    assert resnets.DEFORM_ON_PER_STAGE == deformable


def test_head_and_assigners(cfg, name):
    node = cfg.MODEL.TOOD
    assert (node.NUM_CLASSES, node.WARMUP.EPOCHS) == (80, 4)
    assert node.ANCHOR_TYPE == ("anchor_based" if "AnchorBased" in name else "anchor_free")
    assert (node.HEAD.NAME, node.HEAD.NUM_CONVS, node.HEAD.CHANNELS) == ("TOODHead", 6, 256)
    assert (node.HEAD.NORM, node.HEAD.PRIOR_PROB) == ("GN", 0.01)
    assert node.HEAD.NUM_DCN == (2 if "DCN" in name else 0)
    assert node.WARMUP.ASSIGNER == "ATSSAssigner" and node.ASSIGNERS.ATSS.TOPK == 9
    assert node.ALIGNED.ASSIGNER == "TaskAlignedAssigner"
    assert (node.ASSIGNERS.TAL.TOPK, node.ASSIGNERS.TAL.ALPHA, node.ASSIGNERS.TAL.BETA) == (
        13,
        1.0,
        6.0,
    )
    assert (node.CRITERIA.FOCAL_LOSS.ALPHA, node.CRITERIA.FOCAL_LOSS.GAMMA) == (0.25, 2.0)
    assert node.CRITERIA.TASK_ALIGNED_LOSS.GAMMA == 2.0
    assert (node.LOSS_WEIGHTS.LOSS_CLS, node.LOSS_WEIGHTS.LOSS_BOX_REG) == (1.0, 2.0)


def test_what_the_recipe_does_not_have_is_off(cfg):
    solver, test, inputs = cfg.SOLVER, cfg.TEST, cfg.INPUT
    assert (solver.OPTIMIZER, solver.ACCUMULATE, solver.EPOCHS) == ("SGD", 1, 0)
    assert not (solver.AUTO_SCALE_LR or solver.EMA.ENABLED or solver.AMP.ENABLED)
    assert not (solver.FREEZE or solver.LR_FACTORS or solver.CLIP_GRADIENTS.ENABLED)
    assert not (test.LOSS or test.PATIENCE or test.AUG.ENABLED or test.EVAL_EPOCHS)
    assert not (inputs.LSJ.ENABLED or inputs.COLOR_JITTER.ENABLED or inputs.CROP.ENABLED)
    assert not (inputs.MOSAIC.ENABLED or inputs.MIXUP.ENABLED or cfg.TRACKING.TRACKERS)


def test_inference(cfg):
    node = cfg.MODEL.TOOD
    assert (node.SCORE_THRESH_TEST, node.TOPK_CANDIDATES_TEST) == (0.05, 1000)
    assert (node.NMS_THRESH_TEST, cfg.TEST.DETECTIONS_PER_IMAGE) == (0.6, 100)


def milestones(name) -> tuple[int, int, int]:
    """Iterations of both drops of the learning rate and of the end of training.

    Epochs 8, 11 and 12, or 16, 22 and 24, of 7500 iterations.
    """
    return (120000, 165000, 180000) if name in MULTI_SCALE else (60000, 82500, 90000)


def test_solver(cfg, name):
    solver = cfg.SOLVER
    assert (solver.IMS_PER_BATCH, solver.REFERENCE_WORLD_SIZE) == (16, 8)
    assert (solver.BASE_LR, solver.MOMENTUM) == (0.01, 0.9)
    assert solver.WEIGHT_DECAY == solver.WEIGHT_DECAY_NORM == 1e-4
    assert solver.CLIP_GRADIENTS.ENABLED is False
    assert (*solver.STEPS, solver.MAX_ITER) == milestones(name)


@pytest.mark.parametrize("name", ["TOOD-R50-1x", "TOOD-R101-DCN-2x"])
def test_learning_rate_of_every_iteration(name):
    """LR warmup over 500 iterations from a factor of 0.001; then 0.01, 0.001 and 0.0001."""
    cfg = published_cfg(name)
    first, second, end = milestones(name)
    optimizer = optim.SGD(nn.Linear(1, 1).parameters(), lr=cfg.SOLVER.BASE_LR)
    scheduler = build_lr_scheduler(cfg, optimizer)
    optimizer.step()
    rates = np.empty(end)
    for iteration in range(end):
        rates[iteration] = optimizer.param_groups[0]["lr"]
        scheduler.step()
    iterations = np.arange(end)
    expected = np.full(end, 0.01)
    expected[first:], expected[second:] = 0.001, 0.0001
    expected[:500] *= 0.001 + (1 - 0.001) * iterations[:500] / 500
    np.testing.assert_allclose(rates, expected, rtol=1e-12)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "TOOD-R50-2x"])
def test_number_of_parameters(name):
    """MMDetection's: total, trainable, and of the head; model_zoo lists them too."""
    model, expected = published_model(name), published_keys(name)
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trainable) == expected["num_trainable"]
    assert sum(p.numel() for p in model.head.parameters()) == expected["num_params_head"]
    frozen_norms = sum(
        2 * norm.weight.numel() for norm in model.modules() if isinstance(norm, FrozenBatchNorm2d)
    )
    total = sum(p.numel() for p in model.parameters()) + frozen_norms
    assert total == expected["num_params"]
    size = next(info.size for info in MODELS if info.name == name)
    assert (sum(size.parameters), size.trainable) == (total, expected["num_trainable"])
    assert size.parameters[2] == expected["num_params_head"]


@pytest.mark.parametrize("name", ["TOOD-R50-1x", "TOOD-R101-DCN-2x"])
def test_optimizer(name):
    """Every trainable parameter once; learning rate and decay are the same for all of them."""
    model = published_model(name)
    optimizer = build_optimizer(published_cfg(name), model)
    assert type(optimizer) is optim.SGD
    seen = Counter()
    for group in optimizer.param_groups:
        assert (group["lr"], group["weight_decay"], group["momentum"]) == (0.01, 1e-4, 0.9)
        assert not group["nesterov"] and not group["dampening"]
        seen.update(map(id, group["params"]))
    assert seen == Counter(id(p) for p in model.parameters() if p.requires_grad)


def augment(cfg, height: int, width: int, times: int) -> tuple[list[tuple[int, int]], int]:
    """Sizes that an image gets in training, and how often it was flipped."""
    np.random.seed(0)
    augmentations = build_augmentation(cfg, is_train=True)
    resize, flip = augmentations
    image = np.zeros((height, width, 3), dtype=np.uint8)
    drawn = [resize.get_transform(image) for _ in range(times)]
    flips = sum(isinstance(flip.get_transform(image), T.HFlipTransform) for _ in range(times))
    return [(transform.new_h, transform.new_w) for transform in drawn], flips


def test_resize_and_flip_of_2x():
    """Shorter sides are uniform from 480 to 800, longer sides at most 1333; half are flipped."""
    cfg = published_cfg("TOOD-R50-2x")
    sizes, flips = augment(cfg, 60, 80, 4000)
    short = np.array([min(size) for size in sizes])
    assert short.min() == 480 and short.max() == 800
    assert len(set(short.tolist())) > 315  # of 321 values
    assert abs(short.mean() - 640) < 6 * 92.7 / 4000**0.5
    assert 1900 < flips < 2100
    assert all(long in (round(4 / 3 * s), int(4 / 3 * s + 0.5)) for s, long in sizes)
    long = [max(size) for size in augment(cfg, 30, 100, 200)[0]]
    assert max(long) == 1333


def test_resize_of_1x():
    cfg = published_cfg("TOOD-R50-1x")
    assert set(augment(cfg, 60, 80, 5)[0]) == {(800, 1067)}
    assert set(augment(cfg, 100, 20, 5)[0]) == {(1333, 267)}


def test_preprocessing_from_file_to_network(tmp_path):
    """RGB, resized, normalized, and padded to a multiple of 32."""
    cfg = published_cfg("TOOD-R50-1x")
    image = np.full((60, 50, 3), (10, 100, 200), dtype=np.uint8)  # blue, green, red
    cv2.imwrite(str(tmp_path / "a.png"), image)
    record = {"file_name": str(tmp_path / "a.png"), "height": 60, "width": 50, "image_id": 0}
    mapped = DatasetMapper(cfg, is_train=False)(record)
    assert tuple(mapped["image"].shape) == (3, 960, 800)
    batch = published_model("TOOD-R50-1x").preprocess_image([mapped]).tensor
    assert tuple(batch.shape) == (1, 3, 960, 800)
    expected = (torch.tensor([200, 100, 10]) - torch.tensor(cfg.MODEL.PIXEL_MEAN)) / torch.tensor(
        cfg.MODEL.PIXEL_STD
    )
    torch.testing.assert_close(batch[0, :, 5, 5], expected)
