"""read_checkpoint and load_model: what is in a file, and a trained model from a config."""

import pytest
import torch
from detectron2.modeling import build_model

from tests.checkpoint.builders import META, authors_names, backbone_contents, equal_weights
from tood.checkpoint import TOODCheckpointer, load_model, read_checkpoint
from tood.errors import CheckpointError


@pytest.mark.parametrize("layout", ["mmdet", "authors"])
def test_contents_of_a_published_file(tiny_weights, tmp_path, layout):
    weights = tiny_weights[1] if layout == "mmdet" else authors_names(tiny_weights[1])
    path = str(tmp_path / "file.pth")
    torch.save({"state_dict": weights, "meta": META, "optimizer": {"state": {}}}, path)
    loaded = read_checkpoint(path)
    assert (loaded.path, loaded.layout) == (path, layout)
    assert equal_weights(loaded.tensors, tiny_weights[0])
    assert loaded.origins.keys() == loaded.tensors.keys()
    assert loaded.origins["backbone.bottom_up.stem.conv1.weight"] == "backbone.conv1.weight"
    assert loaded.ignored == ["meta", "optimizer"]
    assert loaded.extras == {}  # not ours to resume from


def test_contents_of_our_own_file(tiny_weights, tmp_path):
    path = str(tmp_path / "file.pth")
    torch.save({"model": tiny_weights[0], "iteration": 7, "trainer": {"a": 1}}, path)
    loaded = read_checkpoint(path)
    assert loaded.layout == "detectron2"
    assert equal_weights(loaded.tensors, tiny_weights[0])
    assert loaded.origins == {key: key for key in tiny_weights[0]}
    assert loaded.ignored == ["iteration", "trainer"]
    assert loaded.extras == {"iteration": 7, "trainer": {"a": 1}}


def test_path_is_the_caller_s(tiny_weights, tmp_path):
    """Messages name what the user wrote, not the local copy."""
    torch.save(tiny_weights[0], tmp_path / "file.pth")
    path = f"{tmp_path / 'file.pth'}?matching_heuristics=True"
    assert read_checkpoint(path).path == path


def test_classifier_of_a_backbone_is_dropped(tiny_weights, tmp_path):
    contents, _ = backbone_contents(tiny_weights, "torchvision")
    torch.save(contents, tmp_path / "backbone.pth")
    loaded = read_checkpoint(str(tmp_path / "backbone.pth"))
    assert loaded.layout == "torchvision-backbone"
    assert loaded.tensors.keys() == {
        key for key in tiny_weights[0] if key.startswith("backbone.bottom_up.")
    }


@pytest.mark.parametrize(
    "keys", [["encoder.weight", "decoder.weight"], ["blocks.0.attn.qkv.weight"]]
)
def test_weights_of_another_model_are_refused(model, tmp_path, keys):
    torch.save({k: torch.zeros(3) for k in keys}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="weights of another model"):
        TOODCheckpointer(model).load(str(tmp_path / "other.pth"))


def test_other_detectors_of_mmdetection_are_refused(tiny_weights, tiny_cfg, tmp_path):
    weights = {k: v for k, v in tiny_weights[1].items() if not k.startswith("bbox_head.")}
    weights["bbox_head.retina_cls.weight"] = torch.zeros(1)
    torch.save({"state_dict": weights}, tmp_path / "retinanet.pth")
    with pytest.raises(CheckpointError, match="weights of another model"):
        TOODCheckpointer(build_model(tiny_cfg)).load(str(tmp_path / "retinanet.pth"))


def test_load_model_takes_the_weights_of_the_config(tiny_weights, tiny_cfg, tmp_path):
    tiny_cfg.MODEL.WEIGHTS = str(tmp_path / "file.pth")
    torch.save({"state_dict": tiny_weights[1]}, tiny_cfg.MODEL.WEIGHTS)
    model = load_model(tiny_cfg)
    assert not model.training
    assert equal_weights(model.state_dict(), tiny_weights[0])


def test_load_model_prefers_the_weights_argument(tiny_weights, tiny_cfg, tmp_path):
    tiny_cfg.MODEL.WEIGHTS = "/nowhere/model.pth"
    torch.save({"model": tiny_weights[0]}, tmp_path / "file.pth")
    model = load_model(tiny_cfg, str(tmp_path / "file.pth"))
    assert equal_weights(model.state_dict(), tiny_weights[0])
    assert tiny_cfg.MODEL.WEIGHTS == "/nowhere/model.pth"


def test_load_model_is_strict(tiny_weights, tiny_cfg, tmp_path):
    contents, _ = backbone_contents(tiny_weights, "torchvision")
    torch.save(contents, tmp_path / "backbone.pth")
    with pytest.raises(CheckpointError, match="holds only a backbone"):
        load_model(tiny_cfg, str(tmp_path / "backbone.pth"))
    with pytest.raises(CheckpointError, match="Set MODEL.WEIGHTS"):
        load_model(tiny_cfg)
