"""Damage in a file of torch.save is noticed, whatever bit it hits."""

import zipfile

import numpy as np
import pytest
import torch

from tood.checkpoint.safe_load import is_whole, load_file, peek_file
from tood.checkpoint.saving import write_checkpoint
from tood.errors import CheckpointError

DATA = {
    "model": {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([True, False])},
    "trainer": {"iteration": 3, "lr": 0.5, "rng": torch.arange(40, dtype=torch.uint8)},
    "tood": {"config": "SEED: 1\n", "class_names": ["cat"]},
}


def same(a, b) -> bool:
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_every_flipped_bit_is_noticed_or_harmless(tmp_path, step):
    """One random bit of a byte: of headers, names, pickle, tensors, padding, directory."""
    path = tmp_path / "model.pth"
    write_checkpoint(DATA, path)
    data = path.read_bytes()
    assert same(load_file(str(path)), DATA) and len(data) < 5000
    random = np.random.RandomState(0)
    refused = 0
    for position in range(0, len(data), step):
        damaged = bytearray(data)
        damaged[position] ^= 1 << random.randint(8)
        path.write_bytes(damaged)
        try:
            loaded = load_file(str(path))
        except CheckpointError:
            refused += 1
            assert position % 10 or not is_whole(path), position
            continue
        assert same(loaded, DATA) and is_whole(path), position
    with zipfile.ZipFile(write_copy(tmp_path, data)) as file:
        content = sum(record.file_size for record in file.infolist())
    assert refused * step > content  # all of it, and most of the headers


def write_copy(tmp_path, data):
    path = tmp_path / "copy.pth"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("is_legacy", [False, True])
def test_every_truncation_is_noticed(tmp_path, is_legacy):
    path = tmp_path / "model.pth"
    torch.save(DATA, path, _use_new_zipfile_serialization=not is_legacy)
    data = path.read_bytes()
    for size in range(0, len(data), 53):
        path.write_bytes(data[:size])
        with pytest.raises(CheckpointError):
            load_file(str(path))
        assert not is_whole(path)


def test_file_without_checksums_is_read_with_a_warning(tmp_path, caplog):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(DATA, tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert same(load_file(str(tmp_path / "a.pth")), DATA)
    assert "a.pth was written without checksums" in caplog.text


def rewrite(source, target, change):
    """Copy a zip file record by record."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for record in old.infolist():
            change(new, record, old.read(record))
    return str(target)


def test_foreign_zip_files(tmp_path):
    torch.save(DATA, tmp_path / "a.pth")
    copied = rewrite(
        tmp_path / "a.pth", tmp_path / "b.pth", lambda new, r, x: new.writestr(r.filename, x)
    )
    assert same(load_file(copied), DATA)

    def without_tensor(new, record, content):
        if not record.filename.endswith("data/0"):
            new.writestr(record.filename, content)

    with pytest.raises(CheckpointError, match="its record data/0 is missing"):
        peek_file(rewrite(tmp_path / "a.pth", tmp_path / "c.pth", without_tensor))

    def shorter(new, record, content):
        new.writestr(record.filename, content[:-1] if "data/" in record.filename else content)

    with pytest.raises(CheckpointError, match="another size than its record"):
        load_file(rewrite(tmp_path / "a.pth", tmp_path / "d.pth", shorter))


def test_zip_bomb(tmp_path):
    torch.save({"model": {"a": torch.zeros(20_000_000)}}, tmp_path / "a.pth")

    def compress(new, record, content):
        new.writestr(record.filename, content, zipfile.ZIP_DEFLATED)

    bomb = rewrite(tmp_path / "a.pth", tmp_path / "b.pth", compress)
    assert (tmp_path / "b.pth").stat().st_size < 200_000
    with pytest.raises(CheckpointError, match="records are compressed"):
        load_file(bomb)
