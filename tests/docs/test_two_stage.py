"""The config and the second stage in docs/guides/two_stage.md work."""

import torch
import yaml
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.modeling.roi_heads import FastRCNNConvFCHead
from detectron2.utils.events import EventStorage

from tests.docs.blocks import read_blocks
from tests.helpers import ROOT

PAGE = ROOT / "docs" / "guides" / "two_stage.md"


def test_the_lines_of_a_config(tiny_cfg):
    """Without them, the config is a one-stage detector's."""
    (block,) = [x for x in read_blocks(PAGE) if x.language == "yaml"]
    tiny_cfg.merge_from_other_cfg(CfgNode(yaml.safe_load(block.text)))
    tiny_cfg.MODEL.ROI_HEADS.NUM_CLASSES = tiny_cfg.MODEL.TOOD.NUM_CLASSES
    tiny_cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16
    model = build_model(tiny_cfg)
    assert isinstance(model.roi_heads.box_head, FastRCNNConvFCHead)


def test_a_second_stage_of_one_s_own(monkeypatch):
    monkeypatch.chdir(ROOT)
    (block,) = [x for x in read_blocks(PAGE) if x.language == "python"]
    names = {"__name__": "example"}
    exec(compile(block.text, str(block), "exec"), names)
    model, losses, batch = names["model"], names["losses"], names["batch"]
    assert set(losses) == {"loss_brightness", "loss_tood_cls", "loss_tood_box_reg"}
    # The ground truth is among the samples, so there is something to learn.
    assert losses["loss_brightness"] > 0
    sum(losses.values()).backward()
    weight = model.roi_heads.predictor[1].weight
    assert weight.grad.isfinite().all() and weight.grad.abs().sum() > 0

    empty = {"image": batch[0]["image"], "instances": batch[0]["instances"][:0]}
    with EventStorage():
        losses = model([*batch, empty])
        assert model([empty])["loss_brightness"] == 0
    assert losses["loss_brightness"].isfinite()

    with torch.no_grad():
        (output,) = model.eval()(batch)
    found = output["instances"]
    assert len(found) == len(found.brightness) > 0
    assert found.scores.max() <= 1
