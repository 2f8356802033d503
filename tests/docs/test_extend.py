"""The two large examples of docs/guides/extend.md do what the text around them says."""

import pytest
import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import nn

from tests.docs.blocks import Block, read_blocks
from tests.helpers import ROOT

GUIDE = ROOT / "docs" / "guides" / "extend.md"


def block_with(word: str) -> Block:
    (block,) = [b for b in read_blocks(GUIDE) if b.language == "python" and word in b.text]
    return block


def run(block: Block) -> dict:
    names = {"__name__": "example"}
    exec(compile(block.text, str(block), "exec"), names)
    return names


@pytest.fixture(scope="module")
def retinanet() -> nn.Module:
    """The model of the first example."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        torch.manual_seed(0)
        return run(block_with("class THeadForRetinaNet"))["model"]


def test_t_head_in_retinanet(retinanet):
    """It trains, every part of T-head gets a gradient, and it detects."""
    model = retinanet
    instances = Instances((96, 128))
    instances.gt_boxes = Boxes(torch.tensor([[10.0, 12.0, 70.0, 80.0]]))
    instances.gt_classes = torch.tensor([2])
    inputs = [{"image": torch.rand(3, 96, 128) * 255, "instances": instances}]
    with EventStorage():  # RetinaNet logs while it trains
        losses = model.train()(inputs)
    assert set(losses) == {"loss_cls", "loss_box_reg"}
    sum(losses.values()).backward()
    gradients = {name: p.grad for name, p in model.head.named_parameters()}
    assert all(g is not None and torch.isfinite(g).all() for g in gradients.values())
    assert gradients["t_head.inter_convs.0.weight"].abs().max() > 0

    model.eval().test_score_thresh = 0.0
    with torch.no_grad():
        found = model(inputs)[0]["instances"]
    assert len(found) and found.pred_classes.max() < 3
    assert torch.isfinite(found.pred_boxes.tensor).all()


def test_t_head_in_retinanet_keeps_scores_and_boxes(retinanet):
    """RetinaNet decodes the logits and deltas to T-head's own scores and boxes."""
    model = retinanet
    features = [torch.randn(2, 256, 12 // 2**i + 1, 16 // 2**i + 1) for i in range(5)]
    anchors = [level.tensor for level in model.anchor_generator(features)]
    with torch.no_grad():
        expected = model.head.t_head(features, anchors)
        logits, deltas = model.head(features)
    for i, level_anchors in enumerate(anchors):
        torch.testing.assert_close(logits[i].sigmoid(), expected.scores[i], rtol=1e-5, atol=1e-6)
        flat = deltas[i][1].flatten(1).t()  # (Hi * Wi, 4) of the second image
        boxes = model.box2box_transform.apply_deltas(flat, level_anchors)
        own = expected.boxes[i][1].flatten(1).t()
        assert (own[:, 2:] - own[:, :2]).min() > 1  # no side was extended
        torch.testing.assert_close(boxes, own, rtol=1e-4, atol=1e-2)


def test_plain_loop():
    """The loss falls, and both objects are found where they are."""
    names = run(block_with("task_aligned_focal_loss("))
    losses = names["losses"]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    boxes, scores = names["boxes"].detach(), names["scores"].detach()
    for box, label in zip(names["gt_boxes"], names["gt_classes"], strict=True):
        best = boxes[scores[:, label].argmax()]
        assert (best - box).abs().max() < 6, (best, box)
