"""What is read is what torch.load reads; what is not dense or not data is refused."""

import io
import pickle
import resource
import struct
import warnings
import zipfile
from collections import Counter

import numpy as np
import pytest
import torch

from tood.checkpoint.reader.machine import load_pickle
from tood.checkpoint.reader.refs import UnsupportedTensor
from tood.checkpoint.safe_load import is_whole, load_file
from tood.checkpoint.state_dict import extract_state_dict
from tood.errors import CheckpointError

BASE = torch.arange(24.0).reshape(4, 6)
DTYPES = [
    *("float16", "bfloat16", "float64", "complex64", "bool"),
    *("int8", "uint8", "int16", "int32", "int64"),
]


def contents() -> dict:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.rand(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "views": [BASE, BASE[1:3, ::2], BASE.t(), torch.nn.Parameter(BASE), BASE[:0]],
        "dtypes": [torch.ones(3).to(getattr(torch, name)) for name in DTYPES],
        "scalar": torch.tensor(3),
        "arrays": [np.arange(5), np.float32(0.5), np.asfortranarray(np.random.rand(3, 2))],
        "plain": [None, True, -5, 2**70, 1.5, "ä\U0001f600", b"a\xff", bytearray(b"x"), 1 + 2j],
        "more": (Counter({3: 2}), {1, 2}, frozenset([1]), torch.Size([1, 2]), torch.float16),
        "random": torch.get_rng_state(),
        ("a", 1): {},
    }


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.stride() == b.stride() and torch.equal(a, b)
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("is_legacy", [False, True])
def test_same_as_torch_load(tmp_path, protocol, is_legacy):
    path = str(tmp_path / "a.pth")
    written = contents()
    torch.save(
        written,
        path,
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=not is_legacy,
    )
    read = load_file(path)
    assert same(written, read) and same(torch.load(path, weights_only=False), read)
    storages = {view.untyped_storage().data_ptr() for view in read["views"][:4]}
    assert len(storages) == 1 and is_whole(path)


def not_dense():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "sparse": torch.eye(3).to_sparse(),
            "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
            "quantized": torch.quantize_per_tensor(torch.ones(3), 1.0, 0, torch.qint8),
            "meta": torch.ones(10**9, device="meta"),
            "float8": torch.ones(3).to(torch.float8_e4m3fn),
            "stride 0": torch.ones(1).expand(10**6, 10**6),
            "conjugated": torch.ones(3, dtype=torch.complex64).conj(),
            "StorageRef": torch.ones(3).untyped_storage(),
        }


@pytest.mark.parametrize("kind", not_dense())
def test_only_dense_tensors_are_weights(tmp_path, kind):
    torch.save({"model": {"conv1.weight": not_dense()[kind]}, "iteration": 3}, tmp_path / "a.pth")
    data = load_file(str(tmp_path / "a.pth"))
    assert isinstance(data["model"]["conv1.weight"], UnsupportedTensor) and data["iteration"] == 3
    with pytest.raises(CheckpointError, match=rf"a\.pth: conv1\.weight is no dense.*{kind}"):
        extract_state_dict(data, "a.pth")


def contains_itself():
    data = {}
    data["model"] = data
    return data


def list_that_contains_itself():
    data = []
    data.append(data)
    return {"model": data}


def nested(levels, build, inner=()):
    value = inner
    for _ in range(levels):
        value = build(value)
    return value


# ((((), ()), ...), ...) as a key: hashing it would take 2 ** 60 steps.
NESTED_KEY = b"\x80\x02})" + b"2\x86" * 60 + b"K\x01s."


@pytest.mark.parametrize("suffix", ["pth", "pkl"])
@pytest.mark.parametrize(
    "data, message",
    [
        (pickle.dumps(contains_itself(), 2), "contains itself"),
        (pickle.dumps(list_that_contains_itself(), 2), "contains itself"),
        (pickle.dumps({"model": nested(200, lambda x: [x])}, 2), "nested more than"),
        (NESTED_KEY, "is used as a key"),
    ],
)
def test_hostile_structures(tmp_path, suffix, data, message):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(data)
    if suffix == "pth":
        torch.save(None, path)  # to have the records around it
        replace_pickle(path, data)
    with pytest.raises(CheckpointError, match=message):
        load_file(str(path))


def replace_pickle(path, data):
    with zipfile.ZipFile(path) as old:
        records = {record.filename: old.read(record) for record in old.infolist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, content in records.items():
            new.writestr(name, data if name.endswith("data.pkl") else content)


def test_shared_lists_do_not_multiply(tmp_path):
    shared = nested(60, lambda x: [x, x], [1])
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"model": shared}))
    assert load_file(str(tmp_path / "a.pkl"))["model"][0][1] is not None


def test_prefix_a_hundred_thousand_times():
    name = "module." * 100_000 + "conv1.weight"
    with pytest.raises(CheckpointError, match="name has 700012 characters"):
        extract_state_dict({name: torch.zeros(1)}, "a.pth")
    tensors, _ = extract_state_dict({"module." * 3 + "conv1.weight": torch.zeros(1)}, "a.pth")
    assert list(tensors) == ["conv1.weight"]


INTEGER_DATA = (
    b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    b"(K\x01J\x00\x00\x00\x60\x85cnumpy\ndtype\nX\x02\x00\x00\x00u1\x89\x88\x87R(K\x03"
    b"X\x01\x00\x00\x00|NNNK\x00K\x00K\x00tb\x89J\x00\x00\x00\x60tb."
)


@pytest.mark.parametrize(
    "data",
    [
        INTEGER_DATA,  # an array whose data is a number of bytes
        b"\x80\x02c__builtin__\nbytearray\nJ\x00\x00\x00\x60\x85R.",
        b"\x80\x02c__builtin__\nbytes\nJ\x00\x00\x00\x60\x85R.",
        b"\x80\x02ctorch\nTensor\nJ\x00\x00\x00\x60\x85R.",
        b"\x80\x02}r\xff\xff\xff\x6f.",  # a memo entry far away
        b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",
        b"\x80\x02}X\x01\x00\x00\x00aK\x01sb.",
        b"\x80\x02cposix\nsystem\nX\x05\x00\x00\x00false\x85R.",
        b"\x80\x02(X\x05\x00\x00\x00falseiposix\nsystem\n.",
        b"\x80\x02ctorch\nload\nX\x01\x00\x00\x00a\x85R.",
    ],
)
def test_small_files_stay_small(tmp_path, data):
    path = tmp_path / "a.pkl"
    path.write_bytes(data)
    torch.save(None, tmp_path / "a.pth")
    replace_pickle(tmp_path / "a.pth", data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for file in (path, tmp_path / "a.pth"):
        try:
            extract_state_dict(load_file(str(file)), "a.pkl")
            raise AssertionError("it was read")
        except CheckpointError:
            pass
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.mark.parametrize("opcode", [b"\x8d", b"\x8e", b"\x96"])  # text, bytes, and bytearray
def test_no_more_is_read_than_there_is(opcode):
    """Python reserves memory for all that is asked for."""
    sizes = []

    class File(io.BytesIO):
        def read(self, size):
            sizes.append(size)
            return super().read(size)

    data = b"\x80\x05" + opcode + struct.pack("<Q", 2**40) + b"x."
    with pytest.raises(ValueError, match="only 2 remain"):
        load_pickle(File(data))
    assert max(sizes) <= len(data)
