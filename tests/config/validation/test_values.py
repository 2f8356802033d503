"""Values that no key takes, however they got into the config."""

import pytest

from tood.config import load_config
from tood.config.merging import all_keys, get_value
from tood.config.validation import validate_solver, validate_values
from tood.errors import ConfigError

NAN, INF = float("nan"), float("inf")


def assign(cfg, key: str, value: object) -> None:
    parent, _, leaf = key.rpartition(".")
    (get_value(cfg, parent) if parent else cfg)[leaf] = value


def problem(cfg) -> str:
    with pytest.raises(ConfigError) as error:
        validate_solver(cfg)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_none_is_refused_for_every_key_with_a_default(tiny_cfg):
    """A program can assign it, and yacs accepts it from files."""
    keys = [key for key in all_keys(tiny_cfg) if get_value(tiny_cfg, key) is not None]
    assert len(keys) > 250
    refused = 0
    for key in keys:
        before = get_value(tiny_cfg, key)
        assign(tiny_cfg, key, None)
        if key in ("SOLVER.WEIGHT_DECAY_BIAS", "SOLVER.WEIGHT_DECAY_NORM"):
            validate_values(tiny_cfg)
        else:
            with pytest.raises(ConfigError, match=f"^{key} "):
                validate_values(tiny_cfg)
            refused += 1
        assign(tiny_cfg, key, before)
    assert refused >= len(keys) - 2


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("SOLVER.BASE_LR", NAN, "SOLVER.BASE_LR is nan, but must be finite."),
        ("SOLVER.BASE_LR", INF, "SOLVER.BASE_LR is inf, but must be finite."),
        ("SOLVER.BASE_LR", "1e400", "SOLVER.BASE_LR is '1e400', but must be a number. The default"),
        ("SOLVER.MAX_ITER", 10**400, "but must be below 2^63."),
        ("SOLVER.MAX_ITER", True, "SOLVER.MAX_ITER is True, but must be a number."),
        ("MODEL.PIXEL_MEAN", [1.0, NAN, 2.0], "MODEL.PIXEL_MEAN is [1.0, nan, 2.0], but must be"),
        ("MODEL.ANCHOR_GENERATOR.SIZES", [[INF]], "SIZES is [[inf]], but must be finite."),
        ("MODEL.WEIGHTS", 3, "MODEL.WEIGHTS is 3, but must be text. The default is ''."),
        ("SOLVER.STEPS", ("a",), "SOLVER.STEPS is ('a',), but must be a list of numbers."),
        ("SOLVER.STEPS", 100, "SOLVER.STEPS is 100, but must be a list of numbers."),
        (
            "MODEL.TOOD.IN_FEATURES",
            ["p3", 4],
            "IN_FEATURES is ['p3', 4], but must be a list of text.",
        ),
        ("MODEL.TOOD.HEAD", 3, "MODEL.TOOD.HEAD is a group of keys, but its value is 3."),
        ("SOLVER.NESTEROV", "no", "SOLVER.NESTEROV is 'no', but must be True or False."),
    ],
)
def test_values_of_no_key(tiny_cfg, key, value, message):
    assign(tiny_cfg, key, value)
    assert message in problem(tiny_cfg)


def test_values_that_python_code_assigns_pass(tiny_cfg):
    """Lists for tuples, integers for floats, nodes of the user's own."""
    tiny_cfg.SOLVER.BASE_LR = 1
    tiny_cfg.SOLVER.STEPS = [100]
    tiny_cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    tiny_cfg.SOLVER.CLIP_GRADIENTS.NORM_TYPE = INF
    tiny_cfg.MODEL.TOOD.ASSIGNERS.FCOS.SIZES_OF_INTEREST = [64, 128, 256, INF]
    tiny_cfg.MINE = type(tiny_cfg)({"LIMIT": INF, "NOTHING": None})
    validate_solver(tiny_cfg)


@pytest.mark.parametrize("value", ["1e400", "-1e400", "1" + "0" * 400])
def test_large_numbers_on_the_command_line(value):
    cfg = load_config("TOOD-R50-1x", ["MODEL.DEVICE", "cpu", "SOLVER.BASE_LR", value])
    assert problem(cfg).startswith("SOLVER.BASE_LR is ")
