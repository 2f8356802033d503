"""Values of images and data loading: refused before anything is built."""

import pytest
from detectron2.data.detection_utils import build_augmentation

from tests.config.validation.test_solver import problem
from tood.config.merging import merge_options
from tood.config.validation import validate_solver, validate_test


@pytest.mark.parametrize(
    "opts, message",
    [
        (["INPUT.MIN_SIZE_TRAIN", "()"], "is (), but must be a non-empty list of integers from 0"),
        (["INPUT.MIN_SIZE_TRAIN", "(-5,)"], "INPUT.MIN_SIZE_TRAIN is (-5,), but must be"),
        (["INPUT.MIN_SIZE_TRAIN", "(64.5,)"], "INPUT.MIN_SIZE_TRAIN is (64.5,), but must be"),
        (["INPUT.MAX_SIZE_TRAIN", 0], "INPUT.MAX_SIZE_TRAIN is 0, but must be an integer from 1"),
        (["INPUT.MAX_SIZE_TEST", 10**9], "INPUT.MAX_SIZE_TEST is 1000000000, but must be"),
        (["INPUT.MIN_SIZE_TEST", -1], "INPUT.MIN_SIZE_TEST is -1, but must be an integer from 0"),
        (
            ["INPUT.MIN_SIZE_TRAIN_SAMPLING", "both"],
            "Unknown INPUT.MIN_SIZE_TRAIN_SAMPLING 'both'. Available: choice, range.",
        ),
        (
            ["INPUT.MIN_SIZE_TRAIN_SAMPLING", "range"],
            "INPUT.MIN_SIZE_TRAIN is (800,), but MIN_SIZE_TRAIN_SAMPLING range needs the smallest",
        ),
        (
            ["INPUT.MIN_SIZE_TRAIN_SAMPLING", "range", "INPUT.MIN_SIZE_TRAIN", "(9, 8)"],
            "INPUT.MIN_SIZE_TRAIN is (9, 8), but MIN_SIZE_TRAIN_SAMPLING range needs the smallest",
        ),
        (
            ["INPUT.RANDOM_FLIP", "both"],
            "Unknown INPUT.RANDOM_FLIP 'both'. Available: horizontal, vertical, none.",
        ),
        (["INPUT.FORMAT", "GBR"], "Unknown INPUT.FORMAT 'GBR'. Available: BGR, RGB, L, YUV-BT.601"),
        (
            ["INPUT.CROP.ENABLED", True, "INPUT.CROP.TYPE", "center"],
            "Unknown INPUT.CROP.TYPE 'center'. Available: relative, relative_range, absolute",
        ),
        (
            ["INPUT.CROP.ENABLED", True, "INPUT.CROP.SIZE", "[2.0, 0.5]"],
            "INPUT.CROP.SIZE is [2.0, 0.5], but must be a list of 2 numbers above 0, at most 1.",
        ),
        (
            ["INPUT.CROP.ENABLED", True, "INPUT.CROP.TYPE", "absolute"],
            "INPUT.CROP.SIZE is [0.9, 0.9], but must be a list of 2 integers of at least 1. TYPE",
        ),
        (
            ["DATALOADER.SAMPLER_TRAIN", "X"],
            "Unknown DATALOADER.SAMPLER_TRAIN 'X'. Available: ClassAwareTrainingSampler, Ran",
        ),
        (["DATALOADER.NUM_WORKERS", -1], "from 0 to 1024. 0 loads in the main process."),
        (["DATALOADER.NUM_WORKERS", 10**9], "DATALOADER.NUM_WORKERS is 1000000000, but must be"),
        (["DATALOADER.MAX_BAD_IMAGES", -1], "DATALOADER.MAX_BAD_IMAGES is -1, but must be an int"),
        (["DATALOADER.REPEAT_THRESHOLD", -0.1], "DATALOADER.REPEAT_THRESHOLD is -0.1, but must"),
        (["DATASETS.TRAIN", "(3,)"], "DATASETS.TRAIN is (3,), but must be a list of names of"),
        (["DATASETS.TEST", "('',)"], "DATASETS.TEST is ('',), but must be a list of names of"),
    ],
)
def test_values_out_of_range(tiny_cfg, opts, message):
    assert message in problem(tiny_cfg, *opts)


@pytest.mark.parametrize(
    "opts",
    [
        ["INPUT.MIN_SIZE_TRAIN", "(0,)"],  # no resizing
        ["INPUT.MIN_SIZE_TEST", 0],
        ["INPUT.MIN_SIZE_TRAIN", "(640, 800)", "INPUT.MIN_SIZE_TRAIN_SAMPLING", "range"],
        ["INPUT.MIN_SIZE_TRAIN", "(640, 672, 800)"],
        ["INPUT.RANDOM_FLIP", "none"],
        ["INPUT.FORMAT", "BGR"],
        ["INPUT.CROP.ENABLED", True],
        ["INPUT.CROP.ENABLED", True, "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", "[64, 64]"],
        ["DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler"],
        [
            *("DATALOADER.SAMPLER_TRAIN", "RandomSubsetTrainingSampler"),
            *("DATALOADER.RANDOM_SUBSET_RATIO", 0.5),
        ],
    ],
    ids=str,
)
def test_accepted_values(tiny_cfg, opts):
    merge_options(tiny_cfg, [str(word) for word in opts])
    validate_solver(tiny_cfg)
    build_augmentation(tiny_cfg, is_train=True)


@pytest.mark.parametrize("split", ["TRAIN", "TEST"])
def test_a_shorter_side_above_the_longest_one_is_said(tiny_cfg, caplog, split):
    """detectron2 then makes the longer side of every image MAX_SIZE."""
    tiny_cfg.INPUT[f"MAX_SIZE_{split}"] = 600
    validate_solver(tiny_cfg)
    assert f"INPUT.MIN_SIZE_{split} is above INPUT.MAX_SIZE_{split}" in caplog.text


def test_an_evaluation_does_not_check_the_training(tiny_cfg):
    tiny_cfg.INPUT.MIN_SIZE_TRAIN = ()
    tiny_cfg.SOLVER.MAX_ITER = 0
    validate_test(tiny_cfg)
