"""A one-stage TOOD as the start of a two-stage model: what it fills, and what is logged."""

import logging

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model

from tests.checkpoint.builders import authors_names, mmdet_weights
from tests.helpers import CONFIGS
from tests.modeling.two_stage import to_two_stage
from tood.checkpoint import TOODCheckpointer
from tood.checkpoint.key_mapping import from_tood_keys
from tood.config.loading import load_config
from tood.errors import CheckpointError

LAYOUTS = ["own", "mmdet", "authors"]


def save(model, layout, path) -> str:
    weights = model.state_dict()
    contents = {"model": weights}
    if layout != "own":
        contents = {"state_dict": from_tood_keys(weights, layout)}
    torch.save(contents, path)
    return str(path)


@pytest.fixture
def trained(tiny_cfg):
    torch.manual_seed(5)
    return build_model(tiny_cfg)


@pytest.fixture
def cfg(tiny_cfg, trained):
    """The config of a two-stage model, after that of the trained one was read."""
    return to_two_stage(tiny_cfg)


def changed_keys(model, before) -> set[str]:
    return {key for key, value in model.state_dict().items() if not value.equal(before[key])}


def load(cfg, path):
    torch.manual_seed(6)
    model = build_model(cfg)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    TOODCheckpointer(model).load(path)
    return model, before


@pytest.mark.parametrize("layout", LAYOUTS)
def test_class_aware_weights_fill_the_first_stage(trained, cfg, tmp_path, caplog, layout):
    cfg.MODEL.TOOD.PROPOSALS.CLASS_AGNOSTIC = False
    caplog.set_level(logging.INFO)
    model, before = load(cfg, save(trained, layout, tmp_path / "weights.pth"))
    loaded = model.state_dict()
    for key, value in trained.state_dict().items():
        name = f"proposal_generator.{key}" if key.startswith("head.") else key
        assert loaded.pop(name).equal(value), name
    assert loaded and all(key.startswith("roi_heads.") for key in loaded)
    assert all(value.equal(before[key]) for key, value in loaded.items())
    message = next(text for text in caplog.messages if "keep their initialization" in text)
    assert "roi_heads.box_head.fc1" in message and "proposal_generator" not in message
    assert "backbone" not in message


def test_one_class_starts_the_classifier_anew(trained, cfg, tmp_path, caplog):
    model, before = load(cfg, save(trained, "own", tmp_path / "weights.pth"))
    kept = model.state_dict().keys() - changed_keys(model, before)
    head = {key for key in kept if key.startswith("proposal_generator.head.tood_cls.")}
    assert head == {f"proposal_generator.head.tood_cls.{x}" for x in ("weight", "bias")}
    assert any(
        "tood_cls" in text and "another number of classes" in text for text in caplog.messages
    )
    reg = model.proposal_generator.head.tood_reg.weight
    assert reg.equal(trained.head.tood_reg.weight)


def test_p2_starts_anew(trained, cfg, tmp_path, caplog):
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    caplog.set_level(logging.INFO)
    model, before = load(cfg, save(trained, "mmdet", tmp_path / "weights.pth"))
    message = next(text for text in caplog.messages if "not have all parts" in text)
    assert "backbone.fpn_lateral2, backbone.fpn_output2" in message
    assert "fpn_lateral3" not in message
    assert model.backbone.fpn_lateral2.weight.equal(before["backbone.fpn_lateral2.weight"])
    assert model.backbone.fpn_lateral3.weight.equal(trained.backbone.fpn_lateral3.weight)


@pytest.mark.parametrize("missing", ["backbone.fpn_lateral4.bias", "head.tood_reg.weight"])
def test_anything_else_missing_is_an_error(trained, cfg, tmp_path, missing):
    weights = trained.state_dict()
    del weights[missing]
    torch.save({"model": weights}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=missing.rpartition(".")[0].rpartition(".")[2]):
        load(cfg, str(tmp_path / "weights.pth"))


def test_a_part_of_the_second_stage_is_an_error(cfg, tmp_path):
    """A file with box heads but without mask heads is not that of a one-stage detector."""
    weights = build_model(cfg).state_dict()
    torch.save({"model": weights}, tmp_path / "faster.pth")
    cfg.MODEL.MASK_ON = True
    with pytest.raises(CheckpointError, match="mask_head"):
        load(cfg, str(tmp_path / "faster.pth"))


def test_evaluation_needs_both_stages(trained, cfg, tmp_path):
    path = save(trained, "own", tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"roi_heads\.box_head\.fc1"):
        TOODCheckpointer(build_model(cfg), strict=True).load(path)


def test_own_two_stage_checkpoint(cfg, tmp_path):
    trained = build_model(cfg)
    TOODCheckpointer(trained, str(tmp_path)).save("model")
    loaded = build_model(cfg)
    TOODCheckpointer(loaded, strict=True).load(str(tmp_path / "model.pth"))
    assert not changed_keys(loaded, trained.state_dict())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_detectron2_s_checkpointer(trained, cfg, tmp_path, layout):
    """Which most scripts use: for training like ours, for evaluation all must be filled."""
    path = save(trained, layout, tmp_path / "weights.pth")
    cfg.MODEL.TOOD.PROPOSALS.CLASS_AGNOSTIC = False
    model = build_model(cfg)
    DetectionCheckpointer(model).load(path)
    assert model.proposal_generator.head.tood_cls.weight.equal(trained.head.tood_cls.weight)
    with pytest.raises(CheckpointError, match="roi_heads"):
        DetectionCheckpointer(build_model(cfg).eval()).load(path)
    cfg.MODEL.META_ARCHITECTURE = "ProposalNetwork"
    first_stage = build_model(cfg).eval()
    DetectionCheckpointer(first_stage).load(path)
    assert first_stage.proposal_generator.head.tood_cls.weight.equal(trained.head.tood_cls.weight)


def test_first_stage_of_a_two_stage_checkpoint(cfg, tmp_path, caplog):
    """For the evaluation of its proposals: the file's second stage is left out, and named."""
    caplog.set_level(logging.INFO)
    trained = build_model(cfg)
    path = str(tmp_path / "model.pth")
    torch.save({"model": trained.state_dict()}, path)
    expected = trained.state_dict()
    cfg.MODEL.META_ARCHITECTURE = "ProposalNetwork"
    for checkpointer in (TOODCheckpointer, DetectionCheckpointer):
        model = build_model(cfg).eval()
        options = {"strict": True} if checkpointer is TOODCheckpointer else {}
        checkpointer(model, **options).load(path)
        assert not changed_keys(model, expected)
    assert any("Not used: the second stage (6 tensors)" in text for text in caplog.messages)


@pytest.mark.parametrize("names", ["mmdet", "authors"])
def test_published_weights_fill_faster_rcnn(tmp_path, names, caplog):
    """All 80 classes, at the published size: everything but the second stage."""
    weights = mmdet_weights("TOOD-R50-1x")
    weights = authors_names(weights) if names == "authors" else weights
    torch.save({"state_dict": weights}, tmp_path / "tood.pth")
    options = ["MODEL.DEVICE", "cpu", "MODEL.TOOD.PROPOSALS.CLASS_AGNOSTIC", "False"]
    cfg = load_config(str(CONFIGS / "two_stage/TOOD-FasterRCNN-R50-1x.yaml"), options)
    model = build_model(cfg)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    TOODCheckpointer(model).load(str(tmp_path / "tood.pth"))
    same = model.state_dict().keys() - changed_keys(model, before)
    assert {key.partition(".")[0] for key in same} == {"roi_heads"}
