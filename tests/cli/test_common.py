"""What the commands share."""

import errno
import logging
import os

import pytest

from tood.cli.common import (
    exit_on_user_error,
    load_model_config,
    option_pairs,
    split_models,
    table,
    user_message,
)
from tood.errors import CheckpointError, ConfigError, DataError
from tood.model_zoo import get_weights_url
from tood_runtime.cli import parse
from tood_runtime.sources import SourceError


@pytest.mark.parametrize(
    "error", [ConfigError("too many"), DataError("too many"), SourceError("too many")]
)
def test_user_errors_end_the_program_with_one_line(error, capsys):
    with pytest.raises(SystemExit) as end, exit_on_user_error():
        raise error
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: too many\n"


def test_ctrl_c_ends_the_program_without_a_stack_trace():
    with pytest.raises(SystemExit) as end, exit_on_user_error():
        raise KeyboardInterrupt
    assert end.value.code == 130


def test_other_errors_keep_their_stack_trace():
    with pytest.raises(ZeroDivisionError), exit_on_user_error():
        raise ZeroDivisionError


def test_training_loop_logs_no_stack_trace_of_a_user_error(caplog):
    logger = logging.getLogger("detectron2.engine.train_loop")
    with exit_on_user_error():
        for error in (ConfigError("known"), ZeroDivisionError("unknown")):
            try:
                raise error
            except Exception:
                logger.exception("Exception during training:")
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]


def test_user_message_of_a_data_loader_worker():
    text = "Caught DataError in DataLoader worker process 0.\nOriginal Traceback ...\n"
    error = DataError(text + "tood.errors.DataError: the image x.png cannot be read\n")
    assert user_message(error) == "the image x.png cannot be read"
    assert user_message(DataError("plain: text")) == "plain: text"


def test_order_of_the_config_sources(run_folder):
    """MODEL's weights < --weights and --device < the command's < --opts."""
    line = ["detect", str(run_folder), "a.jpg"]
    cfg = load_model_config(parse(line)[1])
    assert cfg.MODEL.WEIGHTS == str(run_folder / "model_final.pth")
    line += ["--weights", "other.pth"]
    assert load_model_config(parse(line)[1]).MODEL.WEIGHTS == "other.pth"
    assert load_model_config(parse(line)[1], opts=["SEED", "3"]).SEED == 3
    line += ["--opts", "MODEL.WEIGHTS", "third.pth", "SEED", "4"]
    cfg = load_model_config(parse(line)[1], opts=["SEED", "3"])
    assert (cfg.MODEL.WEIGHTS, cfg.SEED) == ("third.pth", 4)


def test_model_without_weights_is_an_error_unless_the_options_name_some(run_folder):
    """Not silently the weights that its training started from."""
    (run_folder / "model_final.pth").unlink()
    line = ["detect", str(run_folder), "a.jpg"]
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        load_model_config(parse(line)[1])
    assert load_model_config(parse([*line, "--weights", "w"])[1]).MODEL.WEIGHTS == "w"
    opts = ["--opts", "SEED", "1", "MODEL.WEIGHTS", "v"]
    assert load_model_config(parse([*line, *opts])[1]).MODEL.WEIGHTS == "v"
    assert load_model_config(parse(line)[1], trained=False).MODEL.WEIGHTS == ""


def test_training_starts_from_a_published_model_or_a_run(run_folder):
    """By name, wherever the value stands; config.yaml then names the file."""
    line = ["train", "custom/TOOD-R50"]
    for words, expected in (
        (["--weights", "TOOD-R50-1x"], get_weights_url("TOOD-R50-1x")),
        (["MODEL.WEIGHTS", str(run_folder)], str(run_folder / "model_final.pth")),
    ):
        cfg = load_model_config(parse([*line, *words])[1], trained=False)
        assert cfg.MODEL.WEIGHTS == expected


def test_weights_of_a_config_file_are_its_own(run_folder):
    """As with detectron2: ``--config-file`` is the config and nothing else."""
    args = parse(["detect", "--config-file", str(run_folder / "config.yaml"), "a.jpg"])[1]
    assert load_model_config(args).MODEL.WEIGHTS == ""


def test_options_that_set_config_keys():
    line = "analyze M --device cuda:1 --annotations v.json --images i/ --weights w"
    args = parse(line.split())[1]
    assert option_pairs(args) == [
        *("MODEL.DEVICE", "cuda:1", "MODEL.WEIGHTS", "w"),
        *("DATASETS.TEST_ANNOTATIONS", "v.json", "DATASETS.TEST_IMAGES", "i/"),
    ]


def test_several_models():
    args = parse(["visualize", "A", "B", "--weights", "a", "b", "--num-images", "2"])[1]
    assert [(x.model, x.weights, x.num_images) for x in split_models(args)] == [
        ("A", "a", 2),
        ("B", "b", 2),
    ]
    (only,) = split_models(parse(["info", "--config-file", "F"])[1])
    assert only.model is None and only.config_file == "F"


def test_table_formats_each_column():
    text = table([["head", 1.25, 2.0]], ["", "a", "b"], ["", ".1f", ".3f"])
    assert text.splitlines()[-1].split() == ["|", "head", "|", "1.2", "|", "2.000", "|"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EISDIR])
def test_what_the_system_refuses_is_one_line(number, capsys):
    with pytest.raises(SystemExit) as end, exit_on_user_error():
        raise OSError(number, os.strerror(number), "/data/log.txt")
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: /data/log.txt cannot be read or written: {os.strerror(number)}")


def test_other_system_errors_keep_their_stack_trace():
    with pytest.raises(ConnectionError), exit_on_user_error():
        raise ConnectionError(errno.ECONNRESET, "Connection reset")
