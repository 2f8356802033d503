"""The keys that TOOD adds, and the names that keys had in version 0.1."""

import pickle

import pytest
from detectron2.config import get_cfg

from tood import add_tood_config
from tood.config import load_config
from tood.config.merging import all_keys
from tood.config.renames import RENAMED_KEYS
from tood.errors import ConfigError

# Every key of version 0.1 that has another name now, written out: the table that the rules of
# tood/config/renames.py must give.
EXPECTED = """
DATASETS.TRAIN_JSON DATASETS.TRAIN_ANNOTATIONS
DATASETS.TEST_JSON DATASETS.TEST_ANNOTATIONS
MODEL.TOOD.IMPORTS MODEL.TOOD.CUSTOM_IMPORTS
MODEL.TOOD.PARALLEL_HEAD.TASK_ALIGNED MODEL.TOOD.PARALLEL_HEAD.WITH_TAP
MODEL.TOOD.P6_FROM MODEL.TOOD.FPN.P6_SOURCE
MODEL.TOOD.RELU_BEFORE_P7 MODEL.TOOD.FPN.RELU_BEFORE_P7
MODEL.TOOD.WARMUP_EPOCHS MODEL.TOOD.WARMUP.EPOCHS
MODEL.TOOD.ATSS MODEL.TOOD.ASSIGNERS.ATSS
MODEL.TOOD.ATSS.TOPK MODEL.TOOD.ASSIGNERS.ATSS.TOPK
MODEL.TOOD.TAL MODEL.TOOD.ASSIGNERS.TAL
MODEL.TOOD.TAL.TOPK MODEL.TOOD.ASSIGNERS.TAL.TOPK
MODEL.TOOD.TAL.ALPHA MODEL.TOOD.ASSIGNERS.TAL.ALPHA
MODEL.TOOD.TAL.BETA MODEL.TOOD.ASSIGNERS.TAL.BETA
MODEL.TOOD.TAL.INSIDE_FIRST MODEL.TOOD.ASSIGNERS.TAL.CANDIDATES_INSIDE_GT
MODEL.TOOD.TAL.MIN_SIZE MODEL.TOOD.ASSIGNERS.TAL.MIN_GT_SIZE
MODEL.TOOD.TAL.MIN_POSITIVES MODEL.TOOD.ASSIGNERS.TAL.MIN_POSITIVES
MODEL.TOOD.TAL.IOU_TYPE MODEL.TOOD.ASSIGNERS.TAL.IOU_TYPE
MODEL.TOOD.FCOS MODEL.TOOD.ASSIGNERS.FCOS
MODEL.TOOD.FCOS.CENTER_RADIUS MODEL.TOOD.ASSIGNERS.FCOS.CENTER_SAMPLING_RADIUS
MODEL.TOOD.FCOS.SIZES_OF_INTEREST MODEL.TOOD.ASSIGNERS.FCOS.SIZES_OF_INTEREST
MODEL.TOOD.FOVEABOX MODEL.TOOD.ASSIGNERS.FOVEABOX
MODEL.TOOD.FOVEABOX.SIGMA MODEL.TOOD.ASSIGNERS.FOVEABOX.SIGMA
MODEL.TOOD.FOVEABOX.SCALE_RANGES MODEL.TOOD.ASSIGNERS.FOVEABOX.SCALE_RANGES
MODEL.TOOD.IOU MODEL.TOOD.ASSIGNERS.MAX_IOU
MODEL.TOOD.IOU.NEGATIVE_THRESH MODEL.TOOD.ASSIGNERS.MAX_IOU.NEG_IOU_THRESH
MODEL.TOOD.IOU.POSITIVE_THRESH MODEL.TOOD.ASSIGNERS.MAX_IOU.POS_IOU_THRESH
MODEL.TOOD.FOCAL_LOSS MODEL.TOOD.CRITERIA.FOCAL_LOSS
MODEL.TOOD.FOCAL_LOSS.ALPHA MODEL.TOOD.CRITERIA.FOCAL_LOSS.ALPHA
MODEL.TOOD.FOCAL_LOSS.GAMMA MODEL.TOOD.CRITERIA.FOCAL_LOSS.GAMMA
MODEL.TOOD.TASK_ALIGNED_LOSS MODEL.TOOD.CRITERIA.TASK_ALIGNED_LOSS
MODEL.TOOD.TASK_ALIGNED_LOSS.GAMMA MODEL.TOOD.CRITERIA.TASK_ALIGNED_LOSS.GAMMA
MODEL.TOOD.QUALITY_FOCAL_LOSS MODEL.TOOD.CRITERIA.QUALITY_FOCAL_LOSS
MODEL.TOOD.QUALITY_FOCAL_LOSS.BETA MODEL.TOOD.CRITERIA.QUALITY_FOCAL_LOSS.BETA
MODEL.TOOD.FOVEABOX_LOSS MODEL.TOOD.CRITERIA.FOVEABOX_LOSS
MODEL.TOOD.FOVEABOX_LOSS.ALPHA MODEL.TOOD.CRITERIA.FOVEABOX_LOSS.ALPHA
MODEL.TOOD.FOVEABOX_LOSS.GAMMA MODEL.TOOD.CRITERIA.FOVEABOX_LOSS.GAMMA
MODEL.TOOD.FOVEABOX_LOSS.BETA MODEL.TOOD.CRITERIA.FOVEABOX_LOSS.BETA
"""
RENAMES = dict(line.split() for line in EXPECTED.split("\n") if line)


def fresh_cfg():
    cfg = get_cfg()
    add_tood_config(cfg)
    return cfg


def nested(key: str, value: object) -> str:
    """YAML in flow style for one key."""
    for name in reversed(key.split(".")):
        value = f"{{{name}: {value}}}"
    return f"{value}\n"


def test_table_of_renames():
    assert RENAMED_KEYS == RENAMES
    known = set(all_keys(fresh_cfg()))
    assert not set(RENAMES) & known, "an old name is in use"
    assert set(RENAMES.values()) <= known, "a new name does not exist"


@pytest.mark.parametrize("old", RENAMES)
def test_renamed_keys_name_the_new_key(old, tmp_path):
    """In files (leaves also inside a renamed group) and in options."""
    new = RENAMES[old]
    is_group = any(key.startswith(f"{old}.") for key in RENAMES)
    path = tmp_path / "a.yaml"
    path.write_text(nested(old, "{}" if is_group else "1"))
    with pytest.raises(ConfigError) as error:
        load_config(path)
    message = str(error.value)
    group = old.rpartition(".")[0]
    if group in RENAMES:
        assert f"{group} in {path} was renamed to {RENAMES[group]}" in message
        assert f"{old} is now {new}" in message
    else:
        assert message == f"{old} in {path} was renamed to {new}. Use the new name."
    with pytest.raises(ConfigError) as error:
        load_config("TOOD-R50-1x", [old, "1"])
    assert str(error.value) == f"{old} in the options was renamed to {new}. Use the new name."


@pytest.mark.parametrize("old", RENAMES)
def test_detectron2_names_the_new_key_too(old, tmp_path):
    """``cfg.merge_from_file`` and ``merge_from_list``, as users' own programs call them."""
    path = tmp_path / "a.yaml"
    path.write_text(f"VERSION: 2\n{nested(old, 1)[1:-2]}\n")
    group = old.rpartition(".")[0]
    found = group if group in RENAMES else old
    with pytest.raises(KeyError, match=f"{found} was renamed to {RENAMES[found]};"):
        fresh_cfg().merge_from_file(str(path))
    with pytest.raises(KeyError, match=f"{old} was renamed to {RENAMES[old]};"):
        fresh_cfg().merge_from_list([old, "1"])


def test_adding_the_keys_twice_and_copies():
    cfg = fresh_cfg()
    cfg.MODEL.TOOD.NUM_CLASSES = 3
    add_tood_config(cfg)
    assert cfg.MODEL.TOOD.NUM_CLASSES == 80
    for copy in (cfg.clone(), pickle.loads(pickle.dumps(cfg))):
        assert copy == cfg and copy.key_is_renamed("MODEL.TOOD.IMPORTS")
