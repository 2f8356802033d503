"""Folders that cannot be written, and the folder of an evaluation."""

import os

import pytest

from tood.engine.lock_file import LOCK_FILE
from tood.engine.run_folder import (
    RUN_FILE,
    RunFolder,
    evaluation_folder,
    holds_training,
)
from tood.errors import ConfigError


@pytest.mark.skipif(os.geteuid() == 0 and not os.path.exists("/proc/version"), reason="no /proc")
def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for path, reason in (
        (tmp_path / "file", "file is a file"),
        (tmp_path / "file" / "run", "file is a file"),
        ("/proc/tood", "cannot be created"),
    ):
        with pytest.raises(ConfigError, match=reason) as error:
            RunFolder.acquire(path, environ={})
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name", [RUN_FILE, LOCK_FILE, "last_checkpoint", "metrics.json", "model_0000499.pth"]
)
def test_evaluation_beside_a_training(tmp_path, name):
    assert not holds_training(tmp_path) and not holds_training(tmp_path / "missing")
    (tmp_path / "config.yaml").write_text("")  # of an earlier evaluation
    assert evaluation_folder(str(tmp_path)) == str(tmp_path)
    (tmp_path / name).write_text("")
    assert evaluation_folder(str(tmp_path)) == str(tmp_path / "evaluation")
