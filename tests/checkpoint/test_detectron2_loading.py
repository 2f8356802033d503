"""detectron2's own checkpointer in a script of the user: `DetectionCheckpointer(model).load()`."""

import importlib
import logging

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from torch import nn

from tests.checkpoint.builders import BACKBONE_KINDS, META, backbone_contents, save_contents
from tood.checkpoint import detectron2_loading
from tood.checkpoint.detectron2_loading import rename_loaded
from tood.checkpoint.key_mapping import from_tood_keys
from tood.errors import CheckpointError


def load(model, contents, path):
    return DetectionCheckpointer(model).load(save_contents(contents, path))


def test_mmdetections_file_fills_the_model(model, tiny_weights, tmp_path, caplog):
    ours, mmdet = tiny_weights
    caplog.set_level(logging.INFO)
    extras = load(model, {"state_dict": mmdet, "meta": META}, tmp_path / "mm.pth")
    loaded = model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in ours.items())
    assert "a TOOD checkpoint with MMDetection's names" in caplog.text
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING] and extras == {}


@pytest.mark.parametrize("kind", BACKBONE_KINDS)
def test_backbones_start_a_training_but_do_not_detect(model, tiny_weights, tmp_path, kind):
    ours, _ = tiny_weights
    contents, _ = backbone_contents(tiny_weights, kind)
    path = tmp_path / ("file.pkl" if kind.endswith(".pkl") else "file.pth")
    load(model, contents, path)
    loaded = model.state_dict()
    assert all(torch.equal(loaded[key], ours[key]) for key in ours if "bottom_up" in key)
    with pytest.raises(CheckpointError, match="holds only a backbone"):
        load(model.eval(), contents, path)


def test_own_weights_must_fill_a_model_that_detects(model, tiny_weights, tmp_path):
    ours, _ = tiny_weights
    part = {key: value for key, value in ours.items() if not key.startswith("head.reg")}
    load(model, {"model": part}, tmp_path / "part.pth")  # as detectron2 does it
    with pytest.raises(CheckpointError, match=r"have no value in the file: head\.reg"):
        load(model.eval(), {"model": part}, tmp_path / "part.pth")
    load(model, {"model": {**ours, "extra.weight": torch.zeros(1)}}, tmp_path / "more.pth")
    assert all(torch.equal(model.state_dict()[key], value) for key, value in ours.items())


def test_names_for_detectron2s_heuristics_are_left_to_it(model, tiny_weights, tmp_path):
    """It matches the ends of names, if asked to."""
    ours, _ = tiny_weights
    contents = {"model": {f"net.{k}": v for k, v in ours.items()}, "matching_heuristics": True}
    assert rename_loaded(model.eval(), contents, "x.pth") is contents


def test_another_number_of_classes_only_trains(tiny_cfg, tiny_weights, tmp_path, caplog):
    _, mmdet = tiny_weights
    tiny_cfg.MODEL.TOOD.NUM_CLASSES = 3
    model = build_model(tiny_cfg)
    load(model, {"state_dict": mmdet}, tmp_path / "mm.pth")
    assert "Skip loading parameter 'head.tood_cls.weight'" in caplog.text  # detectron2's words
    with pytest.raises(CheckpointError, match="number of classes seems to differ"):
        load(model.eval(), {"state_dict": mmdet}, tmp_path / "mm.pth")


def test_file_of_another_model_is_refused(model, tmp_path):
    for contents in ({"conv.weight": torch.zeros(2)}, {"model": {"a.b": torch.zeros(2)}}):
        with pytest.raises(CheckpointError, match="another model"):
            load(model, contents, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="holds no weights"):
        load(model, {"model": {}}, tmp_path / "empty.pth")


def test_own_files_and_resuming_are_detectron2s(model, other_model, tmp_path):
    """What it has read is passed on as it is, with the optimizer and the iteration."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    DetectionCheckpointer(model, str(tmp_path), optimizer=optimizer).save("m", iteration=7)
    loaded = other_model()
    optimizer = torch.optim.SGD(loaded.parameters(), 0.2)
    checkpointer = DetectionCheckpointer(loaded, str(tmp_path), optimizer=optimizer)
    assert checkpointer.resume_or_load("", resume=True)["iteration"] == 7
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert torch.equal(loaded.head.tood_cls.weight, model.head.tood_cls.weight)
    contents = {"model": {"head.tood_cls.bias": 1, "unknown": 2}}
    assert rename_loaded(model, contents, "x.pth") is contents
    assert set(checkpointer.load(str(tmp_path / "m.pth"))) == {"iteration"}


def test_detector_inside_a_larger_model(model, tiny_weights):
    """As a proposal generator is: the core's names get its prefix."""

    class Larger(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

    ours, mmdet = tiny_weights
    loaded = rename_loaded(Larger(), {"model": mmdet}, "mm.pth")["model"]
    assert all(torch.equal(loaded[f"inner.{key}"], value) for key, value in ours.items())


def test_models_of_detectron2_are_left_alone(tiny_weights):
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE = "RetinaNet", "cpu"
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    contents = {"model": from_tood_keys(tiny_weights[0], "authors")}
    assert rename_loaded(build_model(cfg), contents, "x.pth") is contents


def test_importing_twice_wraps_once():
    wrapped = DetectionCheckpointer._load_file
    importlib.reload(detectron2_loading)
    assert DetectionCheckpointer._load_file is wrapped
