"""Detectors on TOOD's proposals: scores, batches without objects or proposals, masks."""

import copy

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage

from tests.modeling.two_stage import to_two_stage
from tood.errors import ConfigError
from tood.modeling import find_dense_core

HEADS = ["TOODStandardROIHeads", "TOODCascadeROIHeads"]


@pytest.fixture
def build(tiny_cfg):
    """Builds a two-stage model of five classes, with masks if asked for."""

    def build_it(roi_heads=HEADS[0], *, masks=False, mult=False):
        cfg = to_two_stage(tiny_cfg.clone(), roi_heads)
        cfg.MODEL.MASK_ON, cfg.MODEL.ROI_BOX_HEAD.MULT_PROPOSAL_SCORE = masks, mult
        return build_model(cfg)

    return build_it


@pytest.mark.parametrize("roi_heads", HEADS)
def test_scores(tiny_cfg, make_input, roi_heads):
    """sqrt(class score * proposal score), of the mean over the stages, or detectron2's own."""
    cfg = to_two_stage(tiny_cfg, roi_heads)
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST = 1.0  # every pair of a proposal and a class stays
    cfg.TEST.DETECTIONS_PER_IMAGE = 10_000
    plain = build_model(cfg).eval()
    cfg.MODEL.ROI_BOX_HEAD.MULT_PROPOSAL_SCORE = True
    multiplied = build_model(cfg).eval()
    multiplied.load_state_dict(plain.state_dict())
    features = {f"p{i}": torch.randn(1, 64, 256 >> i, 256 >> i) for i in range(3, 8)}
    proposals = Instances((256, 256))
    proposals.proposal_boxes = Boxes([[10.0, 10, 90, 80], [50, 40, 250, 200], [100, 20, 130, 60]])
    proposal_scores = torch.tensor([0.9, 0.5, 0.04])
    proposals.objectness_logits = torch.logit(proposal_scores)
    outputs = {}
    for name, model in (("plain", plain), ("multiplied", multiplied)):
        with torch.no_grad():
            (found,), _ = model.roi_heads(None, features, [copy.deepcopy(proposals)])
        # By class and box, because the order depends on the scores.
        keys = [
            (c, *box)
            for c, box in zip(
                found.pred_classes.tolist(), found.pred_boxes.tensor.tolist(), strict=True
            )
        ]
        outputs[name] = dict(zip(keys, found.scores.tolist(), strict=True))
    assert outputs["plain"].keys() == outputs["multiplied"].keys() and len(outputs["plain"]) == 15
    factors = {}
    for key, score in outputs["plain"].items():
        factors.setdefault(key[0], []).append(outputs["multiplied"][key] ** 2 / score)
    for of_class in factors.values():
        assert sorted(of_class) == pytest.approx([0.04, 0.5, 0.9], rel=1e-4)


@pytest.mark.parametrize("roi_heads", HEADS)
def test_pooling_does_not_round_boxes(build, roi_heads):
    """bfloat16's numbers are 4 apart there, 1016, 1020 and 1024, and the box has 5 pixels."""
    model = build(roi_heads, masks=True).eval()
    features = {
        f"p{i}": torch.randn(1, 64, 1280 >> i, 1280 >> i, dtype=torch.bfloat16) for i in range(3, 8)
    }
    proposals = Instances((1280, 1280))
    proposals.proposal_boxes = Boxes([[1017.0, 1018, 1022, 1023]])
    proposals.objectness_logits = torch.zeros(1)
    pooled = []
    for pooler in (model.roi_heads.box_pooler, model.roi_heads.mask_pooler):
        pooler.register_forward_hook(lambda module, inputs, output: pooled.append((inputs, output)))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model.roi_heads(None, features, [proposals])
        found = Instances((1280, 1280), pred_boxes=proposals.proposal_boxes)
        found.pred_classes = torch.zeros(1, dtype=torch.long)
        model.roi_heads.forward_with_given_boxes(features, [found])
    for (maps, boxes), output in [pooled[0], pooled[-1]]:
        assert boxes[0].tensor.equal(proposals.proposal_boxes.tensor)
        expected = [features[f"p{i}"].float() for i in range(3, 8)]
        assert all(a.equal(b) for a, b in zip(maps, expected, strict=True))
        assert output.dtype == torch.float32


@pytest.mark.parametrize("roi_heads", HEADS)
def test_without_the_option_they_are_detectron2_s(tiny_cfg, make_input, roi_heads):
    cfg = to_two_stage(tiny_cfg, roi_heads)
    ours = build_model(cfg).eval()
    cfg.MODEL.ROI_HEADS.NAME = roi_heads.removeprefix("TOOD")
    theirs = build_model(cfg).eval()
    theirs.load_state_dict(ours.state_dict())
    x = [make_input()]
    with torch.no_grad():
        (a,), (b,) = ours(x), theirs(x)
    assert a["instances"].scores.equal(b["instances"].scores)
    assert a["instances"].pred_boxes.tensor.equal(b["instances"].pred_boxes.tensor)


def test_the_option_needs_our_heads(tiny_cfg):
    cfg = to_two_stage(tiny_cfg, "StandardROIHeads")
    cfg.MODEL.ROI_BOX_HEAD.MULT_PROPOSAL_SCORE = True
    with pytest.raises(ConfigError, match="StandardROIHeads does not read it"):
        build_model(cfg)


@pytest.mark.parametrize("mult", [False, True])
@pytest.mark.parametrize("roi_heads", HEADS)
def test_no_objects_and_no_proposals(build, make_input, roi_heads, mult):
    """No ground truth in an image or a batch, and no proposal at all."""
    model = build(roi_heads, mult=mult)
    find_dense_core(model).set_phase("aligned")
    empty = make_input(boxes=(), classes=())
    for batch in ([make_input(), empty], [empty]):
        with EventStorage():
            losses = model(batch)
        assert all(loss.isfinite() for loss in losses.values())
        sum(losses.values()).backward()
    model.proposal_generator.generate_proposals = lambda predictions, sizes: [
        no_proposals(size) for size in sizes
    ]
    with EventStorage():
        losses = model([make_input(), empty])
    assert all(loss.isfinite() for loss in losses.values())
    model.eval()
    (output,) = model([make_input()])
    assert len(output["instances"]) == 0


def no_proposals(size):
    proposals = Instances(size)
    proposals.proposal_boxes, proposals.objectness_logits = Boxes(torch.empty(0, 4)), torch.empty(0)
    return proposals


def test_masks(build, make_input):
    """A training step and detections of Mask R-CNN; an image without objects has no masks."""
    model = build(masks=True)
    find_dense_core(model).set_phase("aligned")
    full, empty = make_input(), make_input(boxes=(), classes=())
    square = [[10.0, 12, 70, 12, 70, 80, 10, 80]]
    full["instances"].gt_masks = PolygonMasks([[torch.tensor(square[0]).double().numpy()]])
    empty["instances"].gt_masks = PolygonMasks([])
    with EventStorage():
        losses = model([full, empty])
    assert losses["loss_mask"].isfinite() and losses["loss_mask"] > 0
    sum(losses.values()).backward()
    model.eval()
    model.roi_heads.box_predictor.test_score_thresh = 0.0
    (output,) = model([full])
    found = output["instances"]
    assert len(found) > 0 and found.pred_masks.shape == (len(found), 96, 128)


@pytest.mark.parametrize("roi_heads", HEADS)
def test_batch_without_any_mask(build, make_input, roi_heads):
    """As the loader gives images without objects: instances that have no gt_masks at all."""
    model = build(roi_heads, masks=True).train()
    batch = [make_input(height, 96, (), ()) for height in (64, 96)]
    assert not any(x["instances"].has("gt_masks") for x in batch)
    with EventStorage():
        losses = model(batch)
    assert losses["loss_mask"].item() == 0
    sum(losses.values()).backward()
    assert model.roi_heads.mask_head.predictor.weight.grad.eq(0).all()


def test_different_numbers_of_classes(tiny_cfg):
    cfg = to_two_stage(tiny_cfg)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 7
    with pytest.raises(ConfigError, match="MODEL.TOOD.NUM_CLASSES is 5, .* is 7"):
        build_model(cfg)
