"""Config keys that a model checks when it is built."""

import pytest

from tood.config.validation import validate_model_keys
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
