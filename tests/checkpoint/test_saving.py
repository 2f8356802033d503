"""Files are written whole or not at all."""

import errno
import os
import subprocess
import sys
import textwrap
import zipfile

import pytest
import torch

from tests.helpers import ROOT
from tood.checkpoint import saving
from tood.checkpoint.safe_load import is_whole, load_file
from tood.checkpoint.saving import remove_temporary_files, write_checkpoint, write_text
from tood.errors import CheckpointError

DATA = {"model": {"a": torch.arange(6.0)}, "iteration": 3}


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_written_file_is_the_only_one(tmp_path):
    path = tmp_path / "new" / "model.pth"
    write_checkpoint(DATA, path)
    write_checkpoint({**DATA, "iteration": 4}, path)
    assert load_file(str(path))["iteration"] == 4 and is_whole(path)
    write_text(tmp_path / "new" / "last_checkpoint", "modél.pth")
    assert (tmp_path / "new" / "last_checkpoint").read_text(encoding="utf-8") == "modél.pth"
    assert names(tmp_path / "new") == ["last_checkpoint", "model.pth"]


def test_checksums_are_written_whatever_the_user_s_setting(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        write_checkpoint(DATA, tmp_path / "model.pth")
        assert torch.serialization.get_crc32_options() is False
    finally:
        torch.serialization.set_crc32_options(True)
    with zipfile.ZipFile(tmp_path / "model.pth") as file:
        assert file.testzip() is None and all(record.CRC for record in file.infolist())


@pytest.mark.parametrize(
    "code, reason",
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota is used up"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
@pytest.mark.parametrize("moment", ["write", "fsync", "rename"])
def test_failed_write_keeps_the_previous_file(tmp_path, monkeypatch, code, reason, moment):
    path = tmp_path / "model.pth"
    write_checkpoint(DATA, path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError(code, os.strerror(code))

    if moment == "write":
        real = saving._RecordingFile.__init__

        class Full:
            write = fail

        monkeypatch.setattr(
            saving._RecordingFile, "__init__", lambda self, file: real(self, Full())
        )
    else:
        monkeypatch.setattr(os, "fsync" if moment == "fsync" else "replace", fail)
    message = rf"model\.pth cannot be written: .*{reason}.* from before is intact"
    with pytest.raises(CheckpointError, match=message):
        write_checkpoint({**DATA, "iteration": 4}, path)
    assert path.read_bytes() == before and names(tmp_path) == ["model.pth"]


def test_write_that_the_kernel_stops(tmp_path):
    """PyTorch's writer replaces the error of a file that cannot grow by one of its own."""
    script = f"""
        import resource, signal, torch
        from tood.checkpoint.saving import write_checkpoint
        from tood.errors import CheckpointError
        path = {str(tmp_path / "model.pth")!r}
        write_checkpoint({{"a": torch.zeros(10)}}, path)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, -1))
        try:
            write_checkpoint({{"a": torch.zeros(1_000_000)}}, path)
        except CheckpointError as error:
            print(error)
    """
    output = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=True,
    ).stdout  # fmt: skip
    assert "exceed the largest size" in output and "intact" in output
    assert names(tmp_path) == ["model.pth"]
    assert torch.equal(load_file(str(tmp_path / "model.pth"))["a"], torch.zeros(10))


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "output").write_text("")
    for path in (tmp_path / "output" / "a.pth", tmp_path / "output" / "b" / "a.pth"):
        with pytest.raises(CheckpointError, match=r"cannot be created: .*output is a file"):
            write_checkpoint(DATA, path)


def test_errors_of_the_program_are_not_hidden(tmp_path):
    with pytest.raises(AttributeError, match="local object|Can't"):
        write_checkpoint({"a": lambda: 1}, tmp_path / "a.pth")
    assert names(tmp_path) == []


def test_what_cannot_be_read_is_not_written(tmp_path):
    write_checkpoint(DATA, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"pathlib\.\S*Path is no plain value"):
        write_checkpoint({"hook": tmp_path}, tmp_path / "a.pth")
    assert load_file(str(tmp_path / "a.pth"))["iteration"] == 3 and names(tmp_path) == ["a.pth"]


def test_temporary_files_of_killed_runs(tmp_path):
    for name in (".model.pth.17.tood-tmp", ".hidden", "model.pth.tood-tmp"):
        (tmp_path / name).write_text("")
    assert remove_temporary_files(tmp_path) == [".model.pth.17.tood-tmp"]
    assert names(tmp_path) == [".hidden", "model.pth.tood-tmp"]
    assert remove_temporary_files(tmp_path / "nowhere") == []
