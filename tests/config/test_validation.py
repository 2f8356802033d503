"""Config values that are checked before a model is built, trained or evaluated."""

import pytest
from detectron2.utils import comm

from tood.config.validation import validate_model_keys, validate_solver, validate_test
from tood.errors import ConfigError


def allow_new_keys(cfg, key: str, value: object) -> None:
    """Merge a key as programs do that call ``set_new_allowed``."""
    cfg.set_new_allowed(True)
    node = value
    for name in reversed(key.split(".")):
        node = {name: node}
    cfg.merge_from_other_cfg(type(cfg)(node))


def test_known_keys_pass(tiny_cfg):
    validate_model_keys(tiny_cfg)
    allow_new_keys(tiny_cfg, "MODEL.MY_HEAD.CHANNELS", 64)
    tiny_cfg.freeze()
    validate_model_keys(tiny_cfg)


@pytest.mark.parametrize(
    "key, message",
    [
        ("MODEL.TOOD.WARMUP_EPOCHS", "was renamed to MODEL.TOOD.WARMUP.EPOCHS"),
        ("MODEL.TOOD.TAL.TOPK", "MODEL.TOOD.TAL in the config was renamed to MODEL.TOOD.ASSIGN"),
        ("MODEL.TOOD.TAL.TOPK", "(MODEL.TOOD.TAL.TOPK is now MODEL.TOOD.ASSIGNERS.TAL.TOPK)"),
        ("MODEL.TOOD.NUM_CLASES", "Did you mean MODEL.TOOD.NUM_CLASSES?"),
        ("MODEL.TOOD.HEAD.XYZ", "Available in MODEL.TOOD.HEAD: CHANNELS, NAME"),
    ],
)
def test_unknown_keys_are_refused(tiny_cfg, key, message):
    allow_new_keys(tiny_cfg, key, 3)
    with pytest.raises(ConfigError) as error:
        validate_model_keys(tiny_cfg)
    assert message in str(error.value)
    is_renamed = "was renamed to" in str(error.value)
    assert ("Keys of your own assigner" in str(error.value)) != is_renamed


def test_test_time_augmentation_is_refused(tiny_cfg):
    validate_test(tiny_cfg)
    tiny_cfg.TEST.AUG.ENABLED = True
    for validate in (validate_test, validate_solver):
        with pytest.raises(ConfigError, match=r"TEST\.AUG\.ENABLED is True"):
            validate(tiny_cfg)


def test_amp_needs_a_gpu(tiny_cfg):
    tiny_cfg.SOLVER.AMP.ENABLED = True
    with pytest.raises(
        ConfigError, match=r"SOLVER\.AMP\.ENABLED is True, but MODEL\.DEVICE is cpu"
    ):
        validate_solver(tiny_cfg)
    tiny_cfg.MODEL.DEVICE = "cuda"
    validate_solver(tiny_cfg)


@pytest.mark.parametrize(
    "batch, reference, gpus, message",
    [
        (16, 8, 1, None),
        (16, 0, 4, None),
        (3, 8, 1, "is 3, which does not divide among the 8 GPUs that the config is written for"),
        (3, 0, 2, "is 3, which does not divide among 2 GPUs"),
    ],
)
def test_batch_size_divides_among_gpus(tiny_cfg, batch, reference, gpus, message, monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: gpus)
    tiny_cfg.SOLVER.IMS_PER_BATCH, tiny_cfg.SOLVER.REFERENCE_WORLD_SIZE = batch, reference
    if message is None:
        validate_solver(tiny_cfg)
        return
    with pytest.raises(ConfigError, match=message):
        validate_solver(tiny_cfg)
