"""The second stage in docs/guides/two_stage.md trains and predicts."""

import torch
from detectron2.utils.events import EventStorage

from tests.docs.blocks import read_blocks
from tests.helpers import ROOT


def test_a_second_stage_of_one_s_own(monkeypatch):
    monkeypatch.chdir(ROOT)
    page = ROOT / "docs" / "guides" / "two_stage.md"
    (block,) = [x for x in read_blocks(page) if x.language == "python"]
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
