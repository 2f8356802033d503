"""Weights reach the model, whole or not at all; the exceptions are logged."""

import logging
import pickle

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone, build_model
from torch import nn

from tests.checkpoint.builders import equal_weights
from tood.checkpoint import TOODCheckpointer
from tood.checkpoint.key_mapping import detect_layout, from_tood_keys
from tood.errors import CheckpointError
from tood.modeling.core_args import core_args
from tood.modeling.dense_detector import DenseDetectorCore


def equal(a, b) -> bool:
    return equal_weights(a.state_dict(), b.state_dict())


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


def test_own_checkpoint_round_trip(model, other_model, tmp_path):
    TOODCheckpointer(model, str(tmp_path)).save("model", iteration=7)
    loaded = other_model()
    assert not equal(model, loaded)
    extra = TOODCheckpointer(loaded, strict=True).load(str(tmp_path / "model.pth"))
    assert equal(model, loaded) and extra["iteration"] == 7


@pytest.mark.parametrize("prefix", ["", "module."])
def test_bare_state_dict(model, other_model, tmp_path, prefix):
    weights = {prefix + k: v for k, v in model.state_dict().items()}
    torch.save(weights, tmp_path / "model.pth")
    loaded = other_model()
    TOODCheckpointer(loaded, strict=True).load(str(tmp_path / "model.pth"))
    assert equal(model, loaded)


@pytest.mark.parametrize("names", ["torchvision", "detectron2"])
def test_backbone_file_fills_the_backbone_only(model, other_model, tmp_path, names, caplog):
    weights = torchvision_names(model)
    if names == "detectron2":
        weights = model.backbone.bottom_up.state_dict()
    assert detect_layout(weights, "file") == f"{names}-backbone"
    torch.save(weights, tmp_path / "backbone.pth")
    loaded = other_model()
    head = {k: v.clone() for k, v in loaded.head.state_dict().items()}
    caplog.set_level(logging.INFO)
    TOODCheckpointer(loaded).load(str(tmp_path / "backbone.pth"))
    assert equal(model.backbone.bottom_up, loaded.backbone.bottom_up)
    assert all(torch.equal(v, head[k]) for k, v in loaded.head.state_dict().items())
    assert f"a backbone with {names}'s names" in caplog.text
    with pytest.raises(CheckpointError, match="holds only a backbone"):
        TOODCheckpointer(loaded, strict=True).load(str(tmp_path / "backbone.pth"))


def test_refused_weights_leave_the_model_unchanged(model, other_model, tmp_path):
    weights = model.state_dict()
    weights["head.nobody.weight"] = torch.zeros(3)
    weights["head.tood_reg.bias"] = torch.zeros(5)
    del weights["backbone.fpn_output3.bias"]
    torch.save(weights, tmp_path / "model.pth")
    loaded, untouched = other_model(), other_model()
    with pytest.raises(CheckpointError) as error:
        TOODCheckpointer(loaded).load(str(tmp_path / "model.pth"))
    for name in ("head.nobody.weight", "head.tood_reg.bias (5,)", "backbone.fpn_output3.bias"):
        assert name in str(error.value)
    assert equal(loaded, untouched)


def test_non_finite_weights_are_refused(model, other_model, tmp_path):
    weights = model.state_dict()
    weights["head.tood_reg.bias"][2] = float("nan")
    torch.save(weights, tmp_path / "diverged.pth")
    loaded, untouched = other_model(), other_model()
    with pytest.raises(CheckpointError, match=r"NaN or inf.* in 1 .*head\.tood_reg\.bias"):
        TOODCheckpointer(loaded).load(str(tmp_path / "diverged.pth"))
    assert equal(loaded, untouched)


@pytest.mark.parametrize("values", [[float("inf"), float("-inf")], [float("nan"), 0.0]])
def test_infinite_weights_of_either_sign_are_refused(model, tmp_path, values):
    weights = model.state_dict()
    weights["head.tood_reg.bias"][:2] = torch.tensor(values)
    torch.save(weights, tmp_path / "diverged.pth")
    with pytest.raises(CheckpointError, match=r"NaN or inf.* in 1 .*head\.tood_reg\.bias"):
        TOODCheckpointer(model).load(str(tmp_path / "diverged.pth"))


def test_large_weights_are_no_infinite_ones(model, tmp_path):
    """Their sum is infinite."""
    weights = model.state_dict()
    weights["head.tood_reg.bias"][:2] = 3e38
    torch.save(weights, tmp_path / "large.pth")
    TOODCheckpointer(model).load(str(tmp_path / "large.pth"))


def test_nothing_left_to_resume_from(model, tmp_path):
    checkpointer = TOODCheckpointer(model, str(tmp_path))
    checkpointer.save("model_final")
    (tmp_path / "model_final.pth").unlink()
    with pytest.raises(
        CheckpointError, match=r"names model_final\.pth, which does not exist.*no ear"
    ):
        checkpointer.resume_or_load("", resume=True)
    with pytest.raises(CheckpointError) as error:
        checkpointer.load(str(tmp_path / "another.pth"))
    assert "last_checkpoint" not in str(error.value)


def test_objects_are_loaded_when_resuming_only(model, other_model, tmp_path):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    TOODCheckpointer(model, str(tmp_path), optimizer=optimizer).save("model", iteration=3)
    loaded = other_model()
    optimizer = torch.optim.SGD(loaded.parameters(), lr=0.1)
    checkpointer = TOODCheckpointer(loaded, str(tmp_path), optimizer=optimizer)
    rest = checkpointer.resume_or_load(str(tmp_path / "model.pth"), resume=False)
    assert rest.keys() == {"optimizer", "iteration"} and optimizer.param_groups[0]["lr"] == 0.1
    rest = checkpointer.resume_or_load("", resume=True)
    assert rest == {"iteration": 3} and optimizer.param_groups[0]["lr"] == 0.5
    assert equal(model, loaded)


def test_unused_averages_are_logged(model, other_model, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    average = {key: value * 0 for key, value in model.state_dict().items()}
    contents = {"model": model.state_dict(), "ema_state": average, "iteration": 3}
    torch.save(contents, tmp_path / "model.pth")
    loaded = other_model()
    rest = TOODCheckpointer(loaded, strict=True).load(str(tmp_path / "model.pth"))
    assert equal(model, loaded) and rest.keys() == {"ema_state", "iteration"}
    assert "Not used: ema_state." in caplog.text


def test_load_after_a_failed_load(model, other_model, tmp_path):
    TOODCheckpointer(model, str(tmp_path)).save("model", iteration=3)
    (tmp_path / "broken.pth").write_bytes(b"")
    loaded = other_model()
    checkpointer = TOODCheckpointer(loaded)
    with pytest.raises(CheckpointError):
        checkpointer.load(str(tmp_path / "broken.pth"))
    rest = checkpointer.load(str(tmp_path / "model.pth"))
    assert equal(model, loaded) and rest == {"iteration": 3}


def test_strict_needs_weights(model):
    assert TOODCheckpointer(model).load("") == {}
    with pytest.raises(CheckpointError, match="Set MODEL.WEIGHTS"):
        TOODCheckpointer(model, strict=True).load("")


class TwoStage(nn.Module):
    """Stands in for a two-stage model whose proposals come from the dense detector."""

    def __init__(self, cfg):
        super().__init__()
        self.backbone = build_backbone(cfg)
        args = core_args(cfg, self.backbone.output_shape())
        self.proposal_generator = DenseDetectorCore(**args)


@pytest.mark.parametrize("names", ["own", "tood", "mmdet"])
def test_core_inside_a_larger_model(model, tiny_cfg, tmp_path, names):
    torch.manual_seed(7)
    loaded = TwoStage(tiny_cfg)
    weights = dict(model.state_dict())
    expected = {
        f"proposal_generator.{key}" if key.startswith("head.") else key: value
        for key, value in weights.items()
    }
    assert not equal_weights(loaded.state_dict(), expected)
    contents = {
        "own": {"model": expected},
        "tood": {"model": weights},
        "mmdet": {"state_dict": from_tood_keys(weights, "mmdet")},
    }
    torch.save(contents[names], tmp_path / "model.pth")
    TOODCheckpointer(loaded, strict=True).load(str(tmp_path / "model.pth"))
    assert equal_weights(loaded.state_dict(), expected)


def test_exceptions_inside_a_larger_model(model, tiny_cfg, tmp_path, caplog):
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    torch.save(torchvision_names(model), tmp_path / "backbone.pth")
    tiny_cfg.MODEL.TOOD.NUM_CLASSES = 9
    loaded = TwoStage(tiny_cfg)
    TOODCheckpointer(loaded).load(str(tmp_path / "model.pth"))
    assert "proposal_generator.head.tood_cls.weight keep" in caplog.text
    assert equal(model.head.tood_reg, loaded.proposal_generator.head.tood_reg)
    loaded = TwoStage(tiny_cfg)
    TOODCheckpointer(loaded).load(str(tmp_path / "backbone.pth"))
    assert equal(model.backbone.bottom_up, loaded.backbone.bottom_up)
    with pytest.raises(CheckpointError, match="holds only a backbone"):
        TOODCheckpointer(loaded, strict=True).load(str(tmp_path / "backbone.pth"))


@pytest.fixture
def retinanet():
    """Builds detectron2's own RetinaNet with an R18 backbone."""
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
    cfg.MODEL.DEVICE = "cpu"
    return lambda: build_model(cfg)


def test_other_detectors_follow_detectron2_s_rules(retinanet, tmp_path):
    trained, loaded = retinanet(), retinanet()
    TOODCheckpointer(trained, str(tmp_path)).save("model", iteration=3)
    rest = TOODCheckpointer(loaded, strict=True).load(str(tmp_path / "model.pth"))
    assert equal(trained, loaded) and rest == {"iteration": 3}

    weights = trained.state_dict()
    bias = weights.pop("head.bbox_pred.bias")
    torch.save(weights, tmp_path / "part.pth")
    loaded = retinanet()
    TOODCheckpointer(loaded).load(str(tmp_path / "part.pth"))
    assert equal(trained.backbone, loaded.backbone)
    with pytest.raises(CheckpointError, match=r"no value for 1 .*RetinaNet.*head\.bbox_pred\.bias"):
        TOODCheckpointer(loaded, strict=True).load(str(tmp_path / "part.pth"))

    # With matching heuristics, the end of a name is enough.
    weights = {**weights, "head.bbox_pred.bias": bias}
    weights = {key.partition(".")[2]: value for key, value in weights.items()}
    torch.save({"model": weights}, tmp_path / "other.pth")
    loaded = retinanet()
    path = f"{tmp_path / 'other.pth'}?matching_heuristics=True"
    TOODCheckpointer(loaded, strict=True).load(path)
    assert equal(trained, loaded)


def test_other_detectors_read_caffe2_pickles(retinanet, tmp_path):
    loaded = retinanet()
    blobs = {"conv1_w": np.full((64, 3, 7, 7), 2.0, np.float32), "conv1_w_momentum": np.zeros(3)}
    (tmp_path / "R-18.pkl").write_bytes(pickle.dumps({"blobs": blobs}, protocol=2))
    TOODCheckpointer(loaded).load(str(tmp_path / "R-18.pkl"))
    assert (loaded.backbone.bottom_up.stem.conv1.weight == 2).all()
