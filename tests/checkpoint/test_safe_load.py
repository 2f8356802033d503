"""Files are read without running what is in them; broken ones are refused with an explanation."""

import functools
import os
import pickle
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.utils.file_io import PathManager

from tests.checkpoint.builders import equal_weights
from tood.checkpoint import TOODCheckpointer, safe_load
from tood.checkpoint.safe_load import load_file, resolve_path
from tood.checkpoint.state_dict import extract_state_dict
from tood.errors import CheckpointError


class Bomb:
    def __reduce__(self):
        return eval, ("__import__('sys').modules.__setitem__('bomb_went_off', 1)",)


@pytest.mark.parametrize("suffix", ["pth", "pkl"])
def test_reading_runs_no_code(tmp_path, suffix):
    path = tmp_path / f"bomb.{suffix}"
    contents = {"model": {"conv1.weight": np.zeros(3)}, "meta": Bomb()}
    if suffix == "pkl":
        path.write_bytes(pickle.dumps(contents))
    else:
        torch.save(contents, path)
    with pytest.raises(CheckpointError, match=r"could run any code.*save its weights alone"):
        load_file(str(path))
    assert "bomb_went_off" not in sys.modules


class Crafted:
    """A pickle that calls numpy's constructors with an address for a shape."""

    def __reduce__(self):
        return np.ndarray, ((1,), np.dtype("O"), b"A" * 8)


@pytest.mark.parametrize("contents", [Crafted(), np.array([{}], dtype=object), np.dtype("V8")])
def test_pickles_cannot_call_numpy_constructors(tmp_path, contents):
    (tmp_path / "crafted.pkl").write_bytes(pickle.dumps({"model": contents}))
    with pytest.raises(CheckpointError):
        extract_state_dict(load_file(str(tmp_path / "crafted.pkl")), "crafted.pkl")


def test_damaged_pickles_raise_only_checkpoint_errors(tmp_path):
    """Damage anywhere, also in the types of arrays, neither crashes nor raises another error."""
    data = pickle.dumps({"model": {"a": np.arange(6.0).reshape(2, 3), "b": np.zeros(3, "i8")}})
    random = np.random.RandomState(0)
    path = tmp_path / "damaged.pkl"
    refused = 0
    for _ in range(2000):
        damaged = bytearray(data)
        for position in random.randint(0, len(data), 2):
            damaged[position] = random.randint(256)
        path.write_bytes(damaged)
        try:
            load_file(str(path))
        except CheckpointError:
            refused += 1
    assert refused > 500


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_pickle_protocol_reads_arrays(tmp_path, protocol):
    arrays = {
        "float": np.random.rand(2, 3).astype(np.float32),
        "half": np.random.rand(4).astype(np.float16),
        "fortran": np.asfortranarray(np.random.rand(3, 2)),
        "int": np.arange(4),
        "big": np.arange(3, dtype=">i4"),
        "bool": np.array([True, False]),
        "empty": np.zeros((0, 3)),
        "number": np.float32(0.5),
    }
    path = tmp_path / "arrays.pkl"
    path.write_bytes(pickle.dumps(arrays, protocol=protocol))
    read = load_file(str(path))
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype and np.array_equal(read[name], array), name


def test_truncated_pickle_is_refused(tmp_path):
    data = pickle.dumps({"model": {"a": np.zeros(100)}})
    (tmp_path / "cut.pkl").write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="truncated"):
        load_file(str(tmp_path / "cut.pkl"))


@pytest.mark.parametrize("share", [0.0, 0.4, 0.99])
def test_truncated_file_is_refused(model, tmp_path, share):
    torch.save(model.state_dict(), tmp_path / "whole.pth")
    data = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError, match=r"cut\.pth cannot be read.*truncated"):
        TOODCheckpointer(model).load(str(tmp_path / "cut.pth"))


@pytest.mark.parametrize("text", [b"<html><body>Sign in</body></html>", b"xx", b"404: Not Found"])
def test_web_page_is_refused(model, tmp_path, text):
    (tmp_path / "page.pth").write_bytes(text)
    with pytest.raises(CheckpointError, match="a failed download can be a web page"):
        TOODCheckpointer(model).load(str(tmp_path / "page.pth"))


def test_file_with_python_objects_is_refused(model, tmp_path):
    """MMDetection 3.x saves objects of its own next to the weights."""
    torch.save({"state_dict": model.state_dict(), "hub": Path}, tmp_path / "objects.pth")
    with pytest.raises(CheckpointError, match="could run any code"):
        TOODCheckpointer(model).load(str(tmp_path / "objects.pth"))


def test_missing_file_is_refused(model):
    with pytest.raises(CheckpointError, match="The file /nowhere/model.pth does not exist"):
        TOODCheckpointer(model).load("/nowhere/model.pth")


def test_url_is_downloaded_once(model, other_model, tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "site").mkdir()
    TOODCheckpointer(model, str(tmp_path / "site")).save("model")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "site"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        loaded = other_model()
        address = f"http://127.0.0.1:{server.server_port}/model.pth"
        TOODCheckpointer(loaded, strict=True).load(address)
        server.shutdown()
    assert equal_weights(model.state_dict(), loaded.state_dict())
    (cached,) = (tmp_path / "cache").rglob("model.pth")
    assert resolve_path(address) == str(cached)  # the server is gone


def test_option_in_the_path_is_no_part_of_the_file_name(model, other_model, tmp_path):
    """detectron2's ``matching_heuristics``, which this checkpointer does not need."""
    TOODCheckpointer(model, str(tmp_path)).save("model")
    loaded = other_model()
    path = f"{tmp_path / 'model.pth'}?matching_heuristics=True"
    TOODCheckpointer(loaded, strict=True).load(path)
    assert equal_weights(model.state_dict(), loaded.state_dict())


@pytest.mark.parametrize("query", ["?token=a%20b&matching_heuristics=True", "?token=a+b"])
def test_query_of_a_url_is_kept(tmp_path, monkeypatch, query):
    asked = []
    monkeypatch.setattr(safe_load, "download", lambda url, _: asked.append(url) or __file__)
    assert resolve_path(f"https://host/model.pth{query}") == __file__
    assert asked == ["https://host/model.pth?token=a+b"]


def test_urls_of_detectron2s_model_zoo_share_its_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    local = tmp_path / "detectron2/ImageNetPretrained/MSRA/R-50.pkl"
    local.parent.mkdir(parents=True)
    local.touch()
    url = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
    assert resolve_path(url) == PathManager.get_local_path(url) == str(local)


def test_unreachable_url_is_refused(model):
    with pytest.raises(CheckpointError, match="cannot be downloaded"):
        TOODCheckpointer(model).load("http://127.0.0.1:9/model.pth")


def test_blocked_modules_are_named_as_such(tmp_path):
    """torch.load words them differently from other unsupported objects."""

    class Call:
        def __reduce__(self):
            return os.system, ("false",)

    torch.save({"model": Call()}, tmp_path / "hostile.pth")
    with pytest.raises(CheckpointError, match="arbitrary Python objects"):
        load_file(str(tmp_path / "hostile.pth"))
