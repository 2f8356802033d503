"""Keys and values that do not fit: the message names the key, the place and the fix."""

import pytest

from tood.config import load_config
from tood.errors import ConfigError


def option_problem(*opts) -> str:
    with pytest.raises(ConfigError) as error:
        load_config("TOOD-R50-1x", opts)
    assert "\n" not in str(error.value)
    return str(error.value)


def file_problem(tmp_path, content: str) -> str:
    path = tmp_path / "a.yaml"
    path.write_text(f"_BASE_: TOOD-R50-1x\n{content}")
    with pytest.raises(ConfigError) as error:
        load_config(path)
    message = str(error.value)
    assert str(path) in message and "\n" not in message
    return message


@pytest.mark.parametrize(
    "key, meant",
    [
        ("MODEL.TOOD.NUM_CLASES", "MODEL.TOOD.NUM_CLASSES"),
        ("MODEL.TODO.NUM_CLASSES", "MODEL.TOOD.NUM_CLASSES"),
        ("MODEL.NUM_CLASSES", "MODEL.TOOD.NUM_CLASSES"),
        ("NUM_CLASSES", "MODEL.TOOD.NUM_CLASSES"),
        ("model.tood.num_classes", "MODEL.TOOD.NUM_CLASSES"),
        ("MODEL.TOOD.HEAD.NUM_CONV", "MODEL.TOOD.HEAD.NUM_CONVS"),
        ("SOLVER.MAX_ITERS", "SOLVER.MAX_ITER"),
        ("DATASETS.TRAIN_ANNOTATION", "DATASETS.TRAIN_ANNOTATIONS"),
        ("TEST.EVAL_PERIODS", "TEST.EVAL_PERIOD"),
    ],
)
def test_unknown_keys_get_the_nearest_key(tmp_path, key, meant):
    message = option_problem(key, "3")
    assert message == f"Unknown config key {key} in the options. Did you mean {meant}?"
    content = "3"
    for name in reversed(key.split(".")):
        content = f"{{{name}: {content}}}"
    assert f"Did you mean {meant.rsplit('.', key.count('.') or 1)[0]}" in file_problem(
        tmp_path, content[1:-1]
    )


def test_unknown_keys_list_their_group():
    message = option_problem("MODEL.TOOD.WARMUP.XYZ", "3")
    assert message.endswith("Available in MODEL.TOOD.WARMUP: ASSIGNER, CRITERION, EPOCHS.")
    assert "Available at the top level: CUDNN_BENCHMARK, DATALOADER" in option_problem("XYZ", "3")


@pytest.mark.parametrize(
    "opts, message",
    [
        (["SOLVER.MAX_ITER"], "SOLVER.MAX_ITER has no value in the options"),
        (["SEED", "1", "SOLVER.MAX_ITER"], "SOLVER.MAX_ITER has no value in the options"),
        (["MODEL.TOOD.NUM_CLASSES=3"], "Write MODEL.TOOD.NUM_CLASSES 3 instead of MODEL"),
        (["NUM_CLASSES=3"], "Write MODEL.TOOD.NUM_CLASSES 3 instead of NUM_CLASSES=3"),
        (["SOLVER.MAX_ITER=", "3"], "Write SOLVER.MAX_ITER VALUE instead of SOLVER.MAX_ITER="),
        (["SEED", "1", "--resume"], "--resume is an option, but appears among the KEY"),
        (
            ["SOLVER.STEPS", "2000,", "2750"],
            "Expected a config key after SOLVER.STEPS 2000, in the options, not '2750'",
        ),
        (["SEED", "1", "NUM_CLASSES", "3"], "Did you mean MODEL.TOOD.NUM_CLASSES?"),
        (["MODEL.TOOD", "3"], "MODEL.TOOD in the options is a group of keys"),
        (["_BASE_", "a.yaml"], "Unknown config key _BASE_"),
    ],
)
def test_options_that_are_no_pairs(opts, message):
    assert message in option_problem(*opts)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("MODEL.TOOD.NUM_CLASSES", "many", "must be an integer such as 80, not 'many'"),
        ("MODEL.TOOD.NUM_CLASSES", "2.5", "must be an integer such as 80, not '2.5'"),
        ("SOLVER.BASE_LR", "[1]", "must be a float such as 0.01, not '[1]'"),
        ("SOLVER.BASE_LR", "True", "must be a float such as 0.01, not 'True'"),
        ("SOLVER.AMP.ENABLED", "yes", "must be True or False, not 'yes'"),
        ("SOLVER.STEPS", "100", "must be a list such as"),
        ("MODEL.TOOD.CUSTOM_IMPORTS", "own.py", "must be a list such as ['own.py'], not 'own.py'"),
        ("MODEL.TOOD.IN_FEATURES", "{1: 2}", "must be a list such as ['p3', 'p4'"),
        ("MODEL.TOOD.IN_FEATURES", "(" * 5000, "must be a list"),
        ("MODEL.TOOD.IN_FEATURES", "{[]: 1}", "must be a list"),
    ],
)
def test_values_of_the_wrong_type(key, value, message):
    found = option_problem(key, value)
    assert found.startswith(f"{key} in the options ") and message in found
    assert len(found) < 200


@pytest.mark.parametrize(
    "content, message",
    [
        ("MODEL:\n", "MODEL in {path} is a group of keys, but its value is nothing"),
        ("MODEL: 3\n", "MODEL in {path} is a group of keys, but its value is 3"),
        ("MODEL: {TOOD: [a]}\n", "MODEL.TOOD in {path} is a group of keys, but its value is ['a']"),
        ("MODEL: {WEIGHTS: {a: b}}\n", "MODEL.WEIGHTS in {path} takes a value"),
        ("MODEL.WEIGHTS: a\n", "In a file, indent WEIGHTS below MODEL"),
        ("MODEL: {TOOD.NUM_CLASSES: 3}\n", "In a file, indent NUM_CLASSES below TOOD"),
        ("SOLVER: {MAX_ITER: 1.5}\n", "SOLVER.MAX_ITER in {path} must be an integer"),
        ("OUTPUT_DIR: 2024\n", "OUTPUT_DIR in {path} must be text such as '2024', not 2024"),
        ("VERSION: 1\n", "VERSION in {path} is 1"),
        ("VERSION: two\n", "VERSION in {path} is 'two'"),
    ],
)
def test_content_that_does_not_fit(tmp_path, content, message):
    assert message.format(path=tmp_path / "a.yaml") in file_problem(tmp_path, content)


def test_the_file_with_the_mistake_is_named(tmp_path):
    (tmp_path / "base.yaml").write_text("MODEL: {TOOD: {NUM_CLASES: 3}}\n")
    (tmp_path / "child.yaml").write_text("_BASE_: base.yaml\nSEED: 1\n")
    with pytest.raises(ConfigError, match=r"NUM_CLASES in .*base\.yaml"):
        load_config(tmp_path / "child.yaml")


def test_text_that_reads_as_a_number():
    cfg = load_config("TOOD-R50-1x", ["OUTPUT_DIR", "2024", "MODEL.WEIGHTS", "''"])
    assert cfg.OUTPUT_DIR == "2024" and cfg.MODEL.WEIGHTS == ""


@pytest.mark.parametrize("value", ["1", 1, "1.0"])
def test_integers_are_floats_where_a_float_is_meant(tmp_path, value):
    cfg = load_config("TOOD-R50-1x", ["SOLVER.BASE_LR", value])
    assert cfg.SOLVER.BASE_LR == 1.0 and isinstance(cfg.SOLVER.BASE_LR, float)
    (tmp_path / "a.yaml").write_text(f"_BASE_: TOOD-R50-1x\nSOLVER: {{BASE_LR: {value}}}\n")
    assert load_config(tmp_path / "a.yaml").SOLVER.BASE_LR == 1.0


@pytest.mark.parametrize("value", ["1.5", 1.5, "4", 4, "1e-1"])
def test_warmup_in_fractions_of_an_epoch(tmp_path, value):
    """Also merged over a fraction, and written and read again as a run's config.yaml is."""
    key = "MODEL.TOOD.WARMUP.EPOCHS"
    for start in ("2.5", "3"):
        cfg = load_config("TOOD-R50-1x", [key, start, key, value])
        assert cfg.MODEL.TOOD.WARMUP.EPOCHS == float(value)
    (tmp_path / "config.yaml").write_text(cfg.dump())
    again = load_config(tmp_path / "config.yaml", [key, "7"])
    assert again.MODEL.TOOD.WARMUP.EPOCHS == 7
    again = load_config(tmp_path / "config.yaml")
    assert again.MODEL.TOOD.WARMUP.EPOCHS == float(value)


def test_none_where_detectron2_gives_it_a_meaning():
    cfg = load_config("TOOD-R50-1x", ["SOLVER.WEIGHT_DECAY_NORM", "None"])
    assert cfg.SOLVER.WEIGHT_DECAY_NORM is None


def test_aliases_in_a_file_do_not_share_values(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("MODEL: {PIXEL_MEAN: &a [0.0, 0.0, 0.0], PIXEL_STD: *a}\n")
    cfg = load_config(path)
    cfg.MODEL.PIXEL_MEAN[0] = 1.0
    assert cfg.MODEL.PIXEL_STD[0] == 0.0


@pytest.mark.parametrize("key", ["MODEL.DEVICE", "MODEL.TOOD.NUM_CLASSES", "SOLVER.BASE_LR"])
def test_keys_without_a_value_are_refused(key):
    """yacs accepts None for every key, and whatever reads it fails later."""
    with pytest.raises(ConfigError, match=f"{key} in the options has no value. The default is"):
        load_config("TOOD-R50-1x", [key, "None"])
