"""A disk that is full while metrics and the log are written; /dev/full stands for their files."""

import logging
import os
from pathlib import Path

import pytest

from tood.engine import Trainer, setup_loggers
from tood.errors import ConfigError

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")


def test_metrics(run_cfg, tmp_path):
    run_cfg.SOLVER.MAX_ITER = 2
    (tmp_path / "metrics.json").symlink_to("/dev/full")
    trainer = Trainer(run_cfg)
    trainer.resume_or_load(resume=False)
    with pytest.raises(ConfigError) as error:
        trainer.train()
    assert str(error.value) == (
        f"The metrics in {tmp_path} cannot be written: the disk is full. Free some space, or set "
        "OUTPUT_DIR to another disk. Continue with --resume."
    )
    assert (tmp_path / "model_final.pth").is_file()  # written before


def test_log_is_mentioned_once(tmp_path, capfd):
    (tmp_path / "log.txt").symlink_to("/dev/full")
    setup_loggers(str(tmp_path))
    for _ in range(3):
        logging.getLogger("tood.engine").info("a line")
    error = capfd.readouterr().err
    reason = os.strerror(28)
    assert error.count(f"lines are missing in {tmp_path}/log.txt: [Errno 28] {reason}.") == 1
    assert "Traceback" not in error and "Logging error" not in error
