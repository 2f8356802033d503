"""Weights: what is read, what is announced, what is refused."""

import functools
import logging
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from tood.checkpoint import TOODCheckpointer
from tood.checkpoint.key_mapping import detect_layout
from tood.errors import CheckpointError


@pytest.fixture
def model(tiny_cfg):
    return build_model(tiny_cfg)


def other_model(cfg):
    torch.manual_seed(7)
    return build_model(cfg)


def equal(a, b) -> bool:
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def torchvision_names(model) -> dict[str, torch.Tensor]:
    """The model's backbone as torchvision would name it, with a classifier and counters."""
    names = {}
    for key, value in model.backbone.bottom_up.state_dict().items():
        stage, _, rest = key.partition(".")
        if stage == "stem":
            key = key.replace("stem.conv1.norm", "bn1").replace("stem.", "")
        else:
            rest = rest.replace("shortcut.norm", "downsample.1")
            rest = rest.replace("shortcut.weight", "downsample.0.weight")
            for i in "123":
                rest = rest.replace(f"conv{i}.norm", f"bn{i}")
            key = f"layer{int(stage[-1]) - 1}.{rest}"
        names[key] = value
        if key.endswith("running_var"):
            names[key.replace("running_var", "num_batches_tracked")] = torch.tensor(5)
    return {**names, "fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)}


def test_own_checkpoint_round_trip(model, tiny_cfg, tmp_path):
    TOODCheckpointer(model, str(tmp_path)).save("model", iteration=7)
    loaded = other_model(tiny_cfg)
    assert not equal(model, loaded)
    extra = TOODCheckpointer(loaded, strict=True).load(str(tmp_path / "model.pth"))
    assert equal(model, loaded) and extra["iteration"] == 7


@pytest.mark.parametrize("prefix", ["", "module."])
def test_bare_state_dict(model, tiny_cfg, tmp_path, prefix):
    weights = {prefix + k: v for k, v in model.state_dict().items()}
    torch.save(weights, tmp_path / "model.pth")
    loaded = other_model(tiny_cfg)
    TOODCheckpointer(loaded, strict=True).load(str(tmp_path / "model.pth"))
    assert equal(model, loaded)


@pytest.mark.parametrize("names", ["torchvision", "detectron2"])
def test_backbone_files(model, tiny_cfg, tmp_path, names, caplog):
    weights = torchvision_names(model)
    if names == "detectron2":
        weights = model.backbone.bottom_up.state_dict()
    assert detect_layout(weights, "file") == f"{names}-backbone"
    torch.save(weights, tmp_path / "backbone.pth")
    loaded = other_model(tiny_cfg)
    head = {k: v.clone() for k, v in loaded.head.state_dict().items()}
    caplog.set_level(logging.INFO)
    TOODCheckpointer(loaded).load(str(tmp_path / "backbone.pth"))
    assert equal(model.backbone.bottom_up, loaded.backbone.bottom_up)
    assert all(torch.equal(v, head[k]) for k, v in loaded.head.state_dict().items())
    assert f"a backbone with {names}'s names" in caplog.text
    with pytest.raises(CheckpointError, match="holds a backbone only"):
        TOODCheckpointer(loaded, strict=True).load(str(tmp_path / "backbone.pth"))


def test_another_number_of_classes(model, tiny_cfg, tmp_path, caplog):
    TOODCheckpointer(model, str(tmp_path)).save("model")
    tiny_cfg.MODEL.TOOD.NUM_CLASSES = 9
    loaded = other_model(tiny_cfg)
    before = loaded.head.tood_cls.weight.clone()
    TOODCheckpointer(loaded).load(str(tmp_path / "model.pth"))
    assert "head.tood_cls.weight" in caplog.text and "start anew" in caplog.text
    assert torch.equal(loaded.head.tood_cls.weight, before)
    assert torch.equal(loaded.head.tood_reg.weight, model.head.tood_reg.weight)
    with pytest.raises(CheckpointError, match="set MODEL.TOOD.NUM_CLASSES"):
        TOODCheckpointer(loaded, strict=True).load(str(tmp_path / "model.pth"))


@pytest.mark.parametrize(
    "shapes", [{"weight": (5, 7, 3, 3)}, {"weight": (9, 64, 3, 3)}, {"bias": (9,)}]
)
def test_a_classifier_of_another_kind_is_no_other_number_of_classes(model, tmp_path, shapes):
    weights = model.state_dict()
    weights |= {f"head.tood_cls.{name}": torch.zeros(shape) for name, shape in shapes.items()}
    torch.save(weights, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=r"1 keys have another shape: head\.tood_cls"):
        TOODCheckpointer(model).load(str(tmp_path / "model.pth"))


def test_refused_weights_leave_the_model_alone(model, tiny_cfg, tmp_path):
    weights = model.state_dict()
    weights["head.nobody.weight"] = torch.zeros(3)
    weights["head.tood_reg.bias"] = torch.zeros(5)
    del weights["backbone.fpn_output3.bias"]
    torch.save(weights, tmp_path / "model.pth")
    loaded, untouched = other_model(tiny_cfg), other_model(tiny_cfg)
    with pytest.raises(CheckpointError) as error:
        TOODCheckpointer(loaded).load(str(tmp_path / "model.pth"))
    for name in ("head.nobody.weight", "head.tood_reg.bias (5,)", "backbone.fpn_output3.bias"):
        assert name in str(error.value)
    assert equal(loaded, untouched)


@pytest.mark.parametrize(
    "keys", [["encoder.weight", "decoder.weight"], ["blocks.0.attn.qkv.weight"]]
)
def test_weights_of_another_model(model, tmp_path, keys):
    torch.save({k: torch.zeros(3) for k in keys}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="weights of another model"):
        TOODCheckpointer(model).load(str(tmp_path / "other.pth"))


def test_another_backbone(model, tmp_path):
    weights = torchvision_names(model)
    weights["layer1.5.conv1.weight"] = torch.zeros(64, 64, 3, 3)
    torch.save(weights, tmp_path / "r34.pth")
    with pytest.raises(CheckpointError, match=r"have no place.*layer1\.5\.conv1\.weight"):
        TOODCheckpointer(model).load(str(tmp_path / "r34.pth"))


def test_values_that_are_no_numbers(model, tmp_path):
    weights = model.state_dict()
    weights["head.tood_reg.bias"][2] = float("nan")
    torch.save(weights, tmp_path / "diverged.pth")
    with pytest.raises(CheckpointError, match=r"no numbers in 1 .*head\.tood_reg\.bias"):
        TOODCheckpointer(model).load(str(tmp_path / "diverged.pth"))


def test_resume_from_a_file_that_is_gone(model, tmp_path):
    checkpointer = TOODCheckpointer(model, str(tmp_path))
    checkpointer.save("model_final")
    (tmp_path / "model_final.pth").unlink()
    with pytest.raises(CheckpointError, match="last_checkpoint names it"):
        checkpointer.resume_or_load("", resume=True)


@pytest.mark.parametrize("share", [0.0, 0.4, 0.99])
def test_truncated_file(model, tmp_path, share):
    torch.save(model.state_dict(), tmp_path / "whole.pth")
    data = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError, match=r"cut\.pth cannot be read.*truncated"):
        TOODCheckpointer(model).load(str(tmp_path / "cut.pth"))


@pytest.mark.parametrize("text", [b"<html><body>Sign in</body></html>", b"xx", b"404: Not Found"])
def test_a_web_page_instead_of_a_file(model, tmp_path, text):
    (tmp_path / "page.pth").write_bytes(text)
    with pytest.raises(CheckpointError, match="such as the web page of a download"):
        TOODCheckpointer(model).load(str(tmp_path / "page.pth"))


def test_file_with_other_objects(model, tmp_path):
    """MMDetection 3.x keeps objects of its own beside the weights."""
    torch.save({"state_dict": model.state_dict(), "hub": Path}, tmp_path / "objects.pth")
    with pytest.raises(CheckpointError, match="could run any code"):
        TOODCheckpointer(model).load(str(tmp_path / "objects.pth"))


def test_no_such_file(model):
    with pytest.raises(CheckpointError, match="there is no file"):
        TOODCheckpointer(model).load("/nowhere/model.pth")


def test_address(model, tiny_cfg, tmp_path, monkeypatch):
    """A URL is downloaded once, into the cache."""
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "site").mkdir()
    TOODCheckpointer(model, str(tmp_path / "site")).save("model")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "site"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        loaded = other_model(tiny_cfg)
        address = f"http://127.0.0.1:{server.server_port}/model.pth"
        TOODCheckpointer(loaded, strict=True).load(address)
        server.shutdown()
    assert equal(model, loaded)
    assert list((tmp_path / "cache").rglob("model.pth"))


def test_address_with_a_query(model, tiny_cfg, tmp_path):
    """detectron2's option, which this checkpointer does not need, is no part of the file's name."""
    TOODCheckpointer(model, str(tmp_path)).save("model")
    loaded = other_model(tiny_cfg)
    path = f"{tmp_path / 'model.pth'}?matching_heuristics=True"
    TOODCheckpointer(loaded, strict=True).load(path)
    assert equal(model, loaded)


def test_load_again_after_a_load_that_failed(model, tiny_cfg, tmp_path):
    TOODCheckpointer(model, str(tmp_path)).save("model", iteration=3)
    (tmp_path / "broken.pth").write_bytes(b"")
    loaded = other_model(tiny_cfg)
    checkpointer = TOODCheckpointer(loaded)
    with pytest.raises(CheckpointError):
        checkpointer.load(str(tmp_path / "broken.pth"))
    rest = checkpointer.load(str(tmp_path / "model.pth"))
    assert equal(model, loaded) and rest == {"iteration": 3}


def test_unreachable_address(model):
    with pytest.raises(CheckpointError, match="cannot be fetched"):
        TOODCheckpointer(model).load("http://127.0.0.1:9/model.pth")


def test_no_weights(model, tiny_cfg):
    assert TOODCheckpointer(model).load("") == {}
    with pytest.raises(CheckpointError, match="add MODEL.WEIGHTS"):
        TOODCheckpointer(model, strict=True).load("")


def test_a_file_that_is_no_dict(model, tmp_path):
    torch.save([1, 2, 3], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="holds a list"):
        TOODCheckpointer(model).load(str(tmp_path / "list.pth"))
    torch.save({"a": "text"}, tmp_path / "texts.pth")
    with pytest.raises(CheckpointError, match="a is no tensor"):
        TOODCheckpointer(model).load(str(tmp_path / "texts.pth"))
