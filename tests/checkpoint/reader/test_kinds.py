"""A file is told by its first bytes; each kind has its own sentence."""

import gzip
import io
import os
import pickle
import struct
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import torch

from tood.checkpoint.safe_load import load_file, resolve_path
from tood.errors import CheckpointError


def saved(save, *args, **options) -> bytes:
    file = io.BytesIO()
    save(*args, file, **options) if args else save(file)
    return file.getvalue()


def tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.pth"))
    return file.getvalue()


def zipped(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, b"x" * 10)
    return file.getvalue()


FILES = {
    "it is empty": b"",
    "a failed download can be a web page": b"\n <!DOCTYPE html><html>Sign in</html>",
    "git lfs pull": b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n",
    r"compressed \(gzip\)": gzip.compress(b"x" * 100),
    "it is a tar archive": tar(),
    "without the records of torch.save. Unpack it, and name run/model.pth": zipped("run/model.pth"),
    "NumPy archive": saved(lambda file: np.savez(file, a=np.zeros(3))),
    "single NumPy array": saved(lambda file: np.save(file, np.zeros(3))),
    "HDF5": b"\x89HDF\r\n\x1a\n" + b"x" * 50,
    "TorchScript": saved(lambda file: torch.jit.save(torch.jit.script(torch.nn.ReLU()), file)),
    "only zeros": b"\0" * 1000,
    "first bytes are those of no checkpoint": b"404: Not Found",
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("suffix", ["pth", "pkl"])
@pytest.mark.parametrize("message", FILES)
def test_other_files(tmp_path, message, suffix):
    (tmp_path / f"a.{suffix}").write_bytes(FILES[message])
    with pytest.raises(CheckpointError, match=rf"a\.{suffix} cannot be read.*{message}") as error:
        load_file(str(tmp_path / f"a.{suffix}"))
    assert "\n" not in str(error.value)


def test_names_do_not_matter(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "zip.pkl")
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps({"a": np.ones(2)}))
    torch.save({"a": np.ones(2)}, tmp_path / "arrays.pth")
    for name in ("zip.pkl", "pickle.pth", "arrays.pth"):
        assert list(load_file(str(tmp_path / name))["a"]) == [1, 1]


def test_folder(tmp_path):
    with pytest.raises(CheckpointError, match="is a folder. Name a checkpoint file in it"):
        resolve_path(str(tmp_path))


def test_safetensors(tmp_path, monkeypatch):
    header = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    content = struct.pack("<Q", len(header)) + header + struct.pack("<2f", 1, 2)
    (tmp_path / "a.pth").write_bytes(content)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "safetensors", None)
        with pytest.raises(CheckpointError, match="needs the package safetensors.*pip install"):
            load_file(str(tmp_path / "a.pth"))
    pytest.importorskip("safetensors")
    assert load_file(str(tmp_path / "a.pth"))["a"].tolist() == [1, 2]
    (tmp_path / "a.pth").write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_file(str(tmp_path / "a.pth"))


def test_named_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth cannot be read .*: it is no regular file"):
        load_file(str(tmp_path / "a.pth"))
