"""Values of the model: refused before anything is built."""

import pytest
from detectron2.modeling import build_model

from tests.config.validation.test_solver import problem
from tood.config.merging import merge_options
from tood.config.validation import validate_model, validate_solver
from tood.errors import ConfigError

TIMM = ["MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.NAME", "resnet18"]
GN48 = "is GN, which has 32 groups, but {} is 48. Use a multiple of 32, or another"


@pytest.mark.parametrize(
    "opts, message",
    [
        (["MODEL.META_ARCHITECTURE", "TODO"], "Unknown MODEL.META_ARCHITECTURE 'TODO'. Available:"),
        (["MODEL.BACKBONE.NAME", "resnet"], "Unknown MODEL.BACKBONE.NAME 'resnet'. Available:"),
        (["MODEL.DEVICE", "gpu"], "Unknown MODEL.DEVICE 'gpu'. Available: cpu, cuda, cuda:N"),
        (["MODEL.RESNETS.DEPTH", 20], "MODEL.RESNETS.DEPTH 20. Available: 18, 34, 50, 101, 152."),
        (["MODEL.RESNETS.NORM", "XX"], "MODEL.RESNETS.NORM 'XX'. Available: '' (none), BN,"),
        (["MODEL.FPN.NORM", "FrozenStatsBN"], "Unknown MODEL.FPN.NORM 'FrozenStatsBN'. Available"),
        (["MODEL.TOOD.HEAD.NORM", "XX"], "Unknown MODEL.TOOD.HEAD.NORM 'XX'. Available: '' (none)"),
        (["MODEL.TOOD.HEAD.CHANNELS", 48], GN48.format("MODEL.TOOD.HEAD.CHANNELS")),
        (
            ["MODEL.FPN.NORM", "GN", "MODEL.FPN.OUT_CHANNELS", 48],
            GN48.format("MODEL.FPN.OUT_CHANNELS"),
        ),
        (["MODEL.RESNETS.RES2_OUT_CHANNELS", 256], "but a ResNet-18 needs 64. Set it to 64, or"),
        (["MODEL.RESNETS.RES5_DILATION", 3], "RES5_DILATION is 3, but must be an integer from 1"),
        (
            ["MODEL.RESNETS.OUT_FEATURES", "['res6']"],
            "must be a non-empty list of names among stem",
        ),
        (["MODEL.RESNETS.OUT_FEATURES", "['res3']"], "MODEL.FPN.IN_FEATURES has res4, which MODEL"),
        ([*TIMM, "MODEL.TIMM.NORM", "GN"], "Unknown MODEL.TIMM.NORM 'GN'. Available: BN, Frozen"),
        ([*TIMM, "MODEL.TIMM.DROP_PATH", 1.0], "PATH is 1.0, but must be a number of at least 0"),
        ([*TIMM, "MODEL.TIMM.NAME", ""], "MODEL.TIMM.NAME is '', but must be"),
        (["MODEL.FPN.FUSE_TYPE", "max"], "Unknown MODEL.FPN.FUSE_TYPE 'max'. Available: sum, avg."),
        (["MODEL.PIXEL_STD", "[1.0, 0.0, 1.0]"], "must be a non-empty list of numbers above 0."),
        (["MODEL.PIXEL_STD", "[1.0]"], "PIXEL_MEAN has 3 values, but MODEL.PIXEL_STD 1. Give one"),
        (
            ["MODEL.PIXEL_STD", "[1.0]", "MODEL.PIXEL_MEAN", "[1.0]"],
            "one value each, but INPUT.FORMAT RGB has 3 channels. Give 3 values, or set",
        ),
        (["MODEL.TOOD.NUM_CLASSES", 0], "NUM_CLASSES is 0, but must be an integer from 1 to"),
        (["MODEL.TOOD.HEAD.NUM_CONVS", 10**9], "NUM_CONVS is 1000000000, but must be an integer"),
        (["MODEL.TOOD.HEAD.CHANNELS", 10**9], "CHANNELS is 1000000000, but must be an integer"),
        (
            ["MODEL.TOOD.HEAD.PRIOR_PROB", 0.0],
            "PRIOR_PROB is 0.0, but must be a number above 0 and",
        ),
        (
            ["MODEL.TOOD.HEAD.PRIOR_PROB", 1.0],
            "PRIOR_PROB is 1.0, but must be a number above 0 and",
        ),
        (["MODEL.TOOD.SCORE_THRESH_TEST", 1.0], "below 1. At 1 nothing would be detected."),
        (["MODEL.TOOD.NMS_THRESH_TEST", 1.5], "is 1.5, but must be a number from 0 to 1. 1 disab"),
        (
            ["MODEL.TOOD.NMS_THRESH_TEST", -0.5],
            "is -0.5, but must be a number from 0 to 1. 1 disab",
        ),
        (["MODEL.TOOD.TOPK_CANDIDATES_TEST", 0], "TOPK_CANDIDATES_TEST is 0, but must be"),
        (
            ["MODEL.TOOD.WARMUP.EPOCHS", -1],
            "WARMUP.EPOCHS is -1, but must be a number of at least 0",
        ),
        (["MODEL.TOOD.WARMUP.EPOCHS", "1e999"], "WARMUP.EPOCHS is inf, but must be finite."),
        (["MODEL.TOOD.LOSS_WEIGHTS.LOSS_CLS", -1.0], "LOSS_CLS is -1.0, but must be a number of"),
        (["MODEL.TOOD.ASSIGNERS.TAL.TOPK", 0], "ASSIGNERS.TAL.TOPK is 0, but must be an integer"),
        (
            ["MODEL.TOOD.ASSIGNERS.FOVEABOX.SCALE_RANGES", "[[64, 1]]"],
            "SCALE_RANGES is [[64, 1]], but must be a list of pairs of numbers, the smaller first.",
        ),
        (["MODEL.TOOD.IN_FEATURES", "[]"], "MODEL.TOOD.IN_FEATURES is [], but must be a non-empty"),
        (
            ["MODEL.ANCHOR_GENERATOR.SIZES", "[[64], [128]]"],
            "SIZES is [[64], [128]], which has 2 lists, but MODEL.TOOD.IN_FEATURES has 5 levels",
        ),
        (["MODEL.ANCHOR_GENERATOR.SIZES", "[[0]]"], "SIZES is [[0]], but must be a non-empty list"),
        (["MODEL.ANCHOR_GENERATOR.OFFSET", 1.0], "OFFSET is 1.0, but must be a number of at least"),
        (
            ["TEST.DETECTIONS_PER_IMAGE", 0],
            "is 0, so nothing would be detected. Use at least 1, or",
        ),
    ],
)
def test_values_out_of_range(tiny_cfg, opts, message):
    assert message in problem(tiny_cfg, *opts)


@pytest.mark.parametrize(
    "opts",
    [
        ["MODEL.TOOD.HEAD.NORM", ""],
        ["MODEL.TOOD.HEAD.CHANNELS", 48, "MODEL.TOOD.HEAD.NORM", "BN"],
        ["MODEL.TOOD.HEAD.CHANNELS", 32],
        ["MODEL.TOOD.NMS_THRESH_TEST", 1.0],
        ["MODEL.TOOD.SCORE_THRESH_TEST", 0.0],
        ["MODEL.TOOD.WARMUP.EPOCHS", 1.5],
        ["MODEL.ANCHOR_GENERATOR.SIZES", "[64]"],
        ["MODEL.ANCHOR_GENERATOR.SIZES", "[[64]]"],
        ["MODEL.PIXEL_MEAN", "[100.0]", "MODEL.PIXEL_STD", "[50.0]", "INPUT.FORMAT", "L"],
        ["INPUT.FORMAT", "L"],  # a gray image is broadcast to three channels
        ["MODEL.RESNETS.NORM", "GN"],
        ["MODEL.BACKBONE.FREEZE_AT", 0],
        ["TEST.DETECTIONS_PER_IMAGE", -1],
    ],
    ids=str,
)
def test_accepted_values_build_a_model(tiny_cfg, opts):
    merge_options(tiny_cfg, [str(word) for word in opts])
    validate_solver(tiny_cfg)
    build_model(tiny_cfg)


def test_a_model_checks_its_own_values(tiny_cfg):
    """Whoever builds a model without a trainer."""
    tiny_cfg.MODEL.TOOD.HEAD.NUM_CONVS = 10**9
    with pytest.raises(ConfigError, match=r"HEAD\.NUM_CONVS is 1000000000"):
        build_model(tiny_cfg)


def test_own_heads_may_use_the_keys_differently(tiny_cfg):
    tiny_cfg.MODEL.TOOD.HEAD.NAME = "MyHead"
    tiny_cfg.MODEL.TOOD.HEAD.NORM = "MyNorm"
    validate_model(tiny_cfg)


@pytest.mark.parametrize(
    "opts, gpus, refused",
    [
        (["MODEL.RESNETS.NORM", "BN"], 1, "MODEL.RESNETS.NORM is BN, but an image of 32 pixels"),
        (["MODEL.RESNETS.NORM", "SyncBN"], 1, "MODEL.RESNETS.NORM is SyncBN, but an image of 32"),
        (["MODEL.TOOD.HEAD.NORM", "BN"], 1, "a map of one cell at stride 128, and one image per"),
        (["MODEL.TOOD.HEAD.NORM", "BN", "INPUT.MIN_SIZE_TRAIN", "(129,)"], 1, None),
        (["MODEL.RESNETS.NORM", "BN", "INPUT.MIN_SIZE_TRAIN", "(33,)"], 1, None),
        (["MODEL.RESNETS.NORM", "BN", "SOLVER.IMS_PER_BATCH", 2], 1, None),
        (["MODEL.RESNETS.NORM", "BN", "SOLVER.IMS_PER_BATCH", 2], 2, "one image per GPU"),
        (["MODEL.RESNETS.NORM", "SyncBN", "SOLVER.IMS_PER_BATCH", 2], 2, None),
        (["MODEL.RESNETS.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", 5], 1, None),
        (["MODEL.RESNETS.NORM", "FrozenBN"], 1, None),
        ([], 1, None),
    ],
)
def test_batch_norm_of_one_value(tiny_cfg, opts, gpus, refused, monkeypatch):
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: gpus)
    small = ["SOLVER.IMS_PER_BATCH", 1, "INPUT.MIN_SIZE_TRAIN", "(32,)"]
    if refused:
        assert refused in problem(tiny_cfg, *small, *opts)
    else:
        merge_options(tiny_cfg, [str(word) for word in (*small, *opts)])
        validate_solver(tiny_cfg)


@pytest.mark.parametrize("name, refused", [("RetinaNet", True), ("GeneralizedRCNN", False)])
def test_all_detections_of_detectron2s_models(tiny_cfg, name, refused):
    """RetinaNet takes -1 as an index from the end, and would drop one detection silently."""
    tiny_cfg.MODEL.META_ARCHITECTURE = name
    tiny_cfg.TEST.DETECTIONS_PER_IMAGE = -1
    if refused:
        assert f"is -1, which {name} does not support. Use a large" in problem(tiny_cfg)
    else:
        validate_solver(tiny_cfg)
