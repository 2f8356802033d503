"""Weights in safetensors' format; skipped without the package."""

import json
import struct

import pytest
import torch

from tests.checkpoint.builders import equal_weights
from tood.checkpoint import TOODCheckpointer, read_checkpoint
from tood.checkpoint.safe_load import is_whole, load_file
from tood.errors import CheckpointError

safetensors = pytest.importorskip("safetensors.torch")

ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.fixture
def saved(model, tmp_path):
    """Saves the model's weights, changed by a function."""

    def save(change=lambda value: value) -> str:
        path = tmp_path / "model.safetensors"
        weights = {key: change(value).contiguous() for key, value in model.state_dict().items()}
        try:
            safetensors.save_file(weights, path, metadata={"format": "pt"})
        except KeyError as error:
            pytest.skip(f"this version of safetensors writes no {error}")
        return str(path)

    return save


def test_own_names(model, other_model, saved):
    loaded, path = other_model(), saved()
    assert is_whole(path)
    TOODCheckpointer(loaded, strict=True).load(path)
    assert equal_weights(model.state_dict(), loaded.state_dict())


def test_backbone_of_torchvision(tmp_path):
    weights = {"conv1.weight": torch.ones(64, 3, 7, 7), "layer1.0.conv1.weight": torch.ones(64)}
    weights |= {"bn1.weight": torch.ones(64), "fc.bias": torch.ones(1000)}
    safetensors.save_file(weights, tmp_path / "a.safetensors")
    assert read_checkpoint(str(tmp_path / "a.safetensors")).layout == "torchvision-backbone"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions(model, other_model, saved, dtype):
    loaded = other_model()
    TOODCheckpointer(loaded, strict=True).load(saved(lambda value: value.to(dtype)))
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value.to(dtype).to(value.dtype))


@pytest.mark.parametrize(
    "dtype, message",
    [
        (torch.float8_e4m3fn, r"is no dense tensor \(float8_e4m3fn\)"),
        (torch.int8, r"as int8, but the model needs floating-point numbers"),
        (torch.complex64, r"as complex64, but the model needs floating-point numbers"),
    ],
)
def test_types_that_are_no_weights(other_model, saved, dtype, message):
    loaded = other_model()
    before = {key: value.clone() for key, value in loaded.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        TOODCheckpointer(loaded).load(saved(lambda value: value.to(dtype)))
    assert equal_weights(before, loaded.state_dict())


@pytest.mark.parametrize(
    "header, num_bytes",
    [
        ({"a": ENTRY}, 4),
        ({"a": ENTRY}, 16),
        ({"a": ENTRY, "b": {**ENTRY, "data_offsets": [4, 12]}}, 12),
        ({"a": {**ENTRY, "shape": [3]}}, 8),
        ({"a": {**ENTRY, "shape": [2**40, 2**40]}}, 8),
        ({"a": {**ENTRY, "dtype": "X"}}, 8),
        ({"a": {**ENTRY, "shape": "X" * 100_000}}, 8),  # which the library's message quotes
        ({"a": {"dtype": "F32", "shape": [2]}}, 8),
    ],
    ids=["truncated", "too long", "overlap", "shape", "huge", "type", "text", "no offsets"],
)
def test_damaged(tmp_path, header, num_bytes):
    path, text = tmp_path / "a.safetensors", json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(num_bytes))
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint: .*damaged") as error:
        load_file(str(path))
    assert "\n" not in str(error.value) and "SafetensorError" not in str(error.value)
    assert len(str(error.value)) < 1000
    assert not is_whole(path)


@pytest.mark.parametrize("size", [10, 10**6, 2**63])
def test_wrong_size_of_the_header(tmp_path, size):
    path, text = tmp_path / "a.safetensors", json.dumps({"a": ENTRY}).encode()
    path.write_bytes(struct.pack("<Q", size) + text + bytes(8))
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load_file(str(path))
