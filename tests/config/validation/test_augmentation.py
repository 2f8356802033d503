"""Values of augmentation: refused before anything is built, where they are read."""

import pytest

from tests.config.validation.test_solver import problem
from tood.config.merging import merge_options
from tood.config.validation import validate_solver

ON = {
    "LSJ": ["INPUT.LSJ.ENABLED", True],
    "COLOR": ["INPUT.COLOR_JITTER.ENABLED", True],
    "MOSAIC": ["INPUT.MOSAIC.ENABLED", True],
    "MIXUP": ["INPUT.MIXUP.ENABLED", True],
}


@pytest.mark.parametrize(
    "name, opts, message",
    [
        ("LSJ", ["INPUT.LSJ.SIZE", "(640,)"], "LSJ.SIZE is (640,), but must be a list of 2 integ"),
        ("LSJ", ["INPUT.LSJ.SIZE", "(0, 640)"], "from 32 to 16384. It is (height, width)."),
        ("LSJ", ["INPUT.LSJ.MIN_SCALE", 0.0], "LSJ.MIN_SCALE is 0.0, but must be a number of at"),
        ("LSJ", ["INPUT.LSJ.MIN_SCALE", 3.0], "LSJ.MIN_SCALE is 3.0, but MAX_SCALE is 2.0. Use a"),
        ("COLOR", ["INPUT.COLOR_JITTER.CONTRAST", 1.5], "number from 0 to 1. 0 leaves it out."),
        ("MOSAIC", ["INPUT.MOSAIC.PROB", 50], "INPUT.MOSAIC.PROB is 50.0, but must be a number"),
        ("MOSAIC", ["INPUT.MOSAIC.SCALE", "(0.0, 1.0)"], "MOSAIC.SCALE is (0.0, 1.0), but must"),
        ("MOSAIC", ["INPUT.MOSAIC.SCALE", "(1.0, 0.5)"], "SCALE is 1.0, but the second number is"),
        ("MOSAIC", ["INPUT.MOSAIC.CENTER", "(0.6, 0.4)"], "CENTER is 0.6, but the second number"),
        ("MOSAIC", ["INPUT.MOSAIC.CENTER", "(-0.1, 1.0)"], "CENTER is (-0.1, 1.0), but must be"),
        ("MOSAIC", ["INPUT.MOSAIC.MIN_VISIBLE", -1], "MIN_VISIBLE is -1.0, but must be a number"),
        ("MIXUP", ["INPUT.MIXUP.PROB", 1.1], "INPUT.MIXUP.PROB is 1.1, but must be a number from"),
        ("MIXUP", ["INPUT.MIXUP.ALPHA", 0], "INPUT.MIXUP.ALPHA is 0.0, but must be a number of"),
        ("MIXUP", ["INPUT.MULTI_IMAGE_OFF_EPOCHS", -1], "OFF_EPOCHS is -1.0, but must be a number"),
        ("MIXUP", ["MODEL.MASK_ON", True], "INPUT.MIXUP.ENABLED is True, but MODEL.MASK_ON is too"),
        ("LSJ", ["INPUT.FORMAT", "YUV-BT.601"], "INPUT.LSJ.ENABLED is True, but INPUT.FORMAT is Y"),
        ("MOSAIC", ["INPUT.FORMAT", "YUV-BT.601"], "INPUT.MOSAIC.ENABLED is True, but INPUT.FORM"),
    ],
)
def test_wrong_values(tiny_cfg, name, opts, message):
    assert message in problem(tiny_cfg, *ON[name], *opts)


def test_what_is_on_by_its_defaults(tiny_cfg):
    merge_options(tiny_cfg, [str(word) for opts in ON.values() for word in opts])
    merge_options(tiny_cfg, ["INPUT.MULTI_IMAGE_OFF_EPOCHS", "0.5"])
    validate_solver(tiny_cfg)


def test_keys_of_what_is_off_are_not_read(tiny_cfg):
    merge_options(tiny_cfg, ["INPUT.MOSAIC.PROB", "7", "INPUT.LSJ.MIN_SCALE", "0.0"])
    validate_solver(tiny_cfg)
