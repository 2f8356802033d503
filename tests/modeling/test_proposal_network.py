"""TOOD as a proposal generator: the detector's losses, and proposals as detectron2 expects them."""

import math

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.proposal_generator import build_proposal_generator
from detectron2.modeling.proposal_generator.proposal_utils import add_ground_truth_to_proposals
from detectron2.structures import Boxes, ImageList
from detectron2.utils.events import EventStorage
from torchvision.ops import box_iou

from tests.modeling.two_stage import build_both, to_two_stage
from tood.engine.accumulation import accumulate_gradients
from tood.errors import ConfigError, DataError
from tood.modeling import TOODProposalNetwork, find_dense_core
from tood.modeling.structures import DensePredictions

PHASES = ["warmup", "aligned"]


def losses_of(model, batch, phase):
    find_dense_core(model).set_phase(phase)
    with EventStorage():
        return model(batch)


@pytest.mark.parametrize("phase", PHASES)
def test_losses_are_the_detector_s(tiny_cfg, make_input, phase):
    """Bit for bit, on the same weights and images; one of them without ground truth."""
    tiny_cfg.MODEL.TOOD.PROPOSALS.CLASS_AGNOSTIC = False
    one_stage, two_stage = build_both(tiny_cfg)
    # Sizes that are padded: the points in the padding count too.
    batch = [make_input(90, 121), make_input(60, 97, (), ())]
    expected = losses_of(one_stage, batch, phase)
    losses = losses_of(two_stage, batch, phase)
    assert list(expected) == ["loss_cls", "loss_box_reg"]
    assert losses["loss_tood_cls"].equal(expected["loss_cls"])
    assert losses["loss_tood_box_reg"].equal(expected["loss_box_reg"])
    # Those of the second stage are not overwritten.
    assert set(losses) == {"loss_cls", "loss_box_reg", "loss_tood_cls", "loss_tood_box_reg"}
    assert not losses["loss_cls"].equal(losses["loss_tood_cls"])


@pytest.mark.parametrize("phase", PHASES)
def test_class_agnostic_losses_are_those_of_one_class(tiny_cfg, make_input, phase):
    tiny_cfg.MODEL.TOOD.NUM_CLASSES = 1
    one_stage, _ = build_both(tiny_cfg.clone())
    tiny_cfg.MODEL.TOOD.NUM_CLASSES = 5
    two_stage = build_model(to_two_stage(tiny_cfg))
    two_stage.backbone.load_state_dict(one_stage.backbone.state_dict())
    two_stage.proposal_generator.head.load_state_dict(one_stage.head.state_dict())
    boxes = ((10.0, 12.0, 70.0, 80.0), (30.0, 40.0, 120.0, 90.0))
    batch = [make_input(boxes=boxes, classes=(3, 4))]
    torch.manual_seed(1)
    losses = losses_of(two_stage, batch, phase)
    # The ground truth that the second stage learns from keeps its classes.
    assert batch[0]["instances"].gt_classes.tolist() == [3, 4]
    batch[0]["instances"].gt_classes[:] = 0
    expected = losses_of(one_stage, batch, phase)
    assert losses["loss_tood_cls"].equal(expected["loss_cls"])
    assert losses["loss_tood_box_reg"].equal(expected["loss_box_reg"])


def test_loss_weights(tiny_cfg, make_input):
    losses = {}
    for weight in (2.0, 6.0):
        tiny_cfg.MODEL.TOOD.LOSS_WEIGHTS.LOSS_BOX_REG = weight
        torch.manual_seed(0)
        model = build_model(to_two_stage(tiny_cfg))
        torch.manual_seed(1)
        losses[weight] = losses_of(model, [make_input()], "aligned")["loss_tood_box_reg"]
    assert losses[6.0].item() == pytest.approx(3 * losses[2.0].item(), rel=1e-6)


def test_losses_with_centerness(tiny_cfg, make_input):
    head = tiny_cfg.MODEL.TOOD.HEAD
    head.NAME, tiny_cfg.MODEL.TOOD.PARALLEL_HEAD.CENTERNESS = "ParallelHead", True
    tiny_cfg.MODEL.TOOD.ALIGNED.ASSIGNER = "ATSSAssigner"
    tiny_cfg.MODEL.TOOD.ALIGNED.CRITERION = "CenternessFocalCriterion"
    model = build_model(to_two_stage(tiny_cfg))
    assert "loss_tood_centerness" in losses_of(model, [make_input()], "aligned")
    model.eval()
    assert len(model([make_input()])) == 1


def proposals_by_hand(scores, boxes, topk, nms_thresh, limit, size):
    """The definition, one candidate after the other."""
    candidates = []
    for level_scores, level_boxes in zip(scores, boxes, strict=True):
        best = level_scores.max(dim=1).values
        order = best.argsort(descending=True)[:topk]
        candidates += [(best[i].item(), level_boxes[i]) for i in order]
    candidates.sort(key=lambda x: -x[0])
    kept = []
    for score, box in candidates:
        limits = torch.tensor([size[1], size[0], size[1], size[0]])
        box = torch.minimum(box.clamp(min=0), limits)
        if box[2] <= box[0] or box[3] <= box[1]:
            continue
        if all(box_iou(box[None], other[None]).item() <= nms_thresh for _, other in kept):
            kept.append((score, box))
    return kept[:limit]


@pytest.mark.parametrize("training", [True, False])
def test_proposals(tiny_cfg, training):
    """Best class, top k of each level, clipping, NMS over all classes, and logits of the scores."""
    node = tiny_cfg.MODEL.TOOD.PROPOSALS
    node.CLASS_AGNOSTIC = False
    node.PRE_NMS_TOPK_TRAIN, node.POST_NMS_TOPK_TRAIN, node.NMS_THRESH_TRAIN = 30, 25, 0.8
    node.PRE_NMS_TOPK_TEST, node.POST_NMS_TOPK_TEST, node.NMS_THRESH_TEST = 12, 10, 0.3
    network = build_model(to_two_stage(tiny_cfg)).proposal_generator.train(training)
    scores = [torch.rand(2, 5, side, side) for side in (8, 4)]
    corners = [torch.rand(2, 2, side, side) * 60 - 10 for side in (8, 4)]
    boxes = [torch.cat([x, x + torch.rand_like(x) * 50 - 5], dim=1) for x in corners]
    predictions = DensePredictions(scores, boxes, None)
    found = network.generate_proposals(predictions, [(64, 48), (40, 64)])
    limits = (30, 0.8, 25) if training else (12, 0.3, 10)
    for index, (proposals, size) in enumerate(zip(found, [(64, 48), (40, 64)], strict=True)):
        image_scores, image_boxes, _ = predictions.for_image(index)
        expected = proposals_by_hand(image_scores, image_boxes, *limits, size)
        assert 0 < len(proposals) == len(expected) and proposals.image_size == size
        assert proposals.proposal_boxes.tensor.equal(torch.stack([box for _, box in expected]))
        logits = [math.log(score / (1 - score)) for score, _ in expected]
        assert proposals.objectness_logits.tolist() == pytest.approx(logits, abs=1e-5)


def test_ground_truth_that_detectron2_appends_is_the_best(tiny_cfg):
    """Its logit is 23: scores in place of logits, or infinite ones, would be on another scale."""
    network = build_model(to_two_stage(tiny_cfg)).proposal_generator
    scores = [torch.tensor([0.0, 1e-20, 0.5, 1.0]).view(1, 1, 2, 2)]
    xs = torch.arange(4.0).view(1, 1, 2, 2) * 20
    boxes = [torch.cat([xs, xs, xs + 10, xs + 10], dim=1)]
    (found,) = network.generate_proposals(DensePredictions(scores, boxes, None), [(100, 100)])
    # A score of exactly 0 says that there is nothing.
    assert len(found) == 3 and found.objectness_logits.isfinite().all()
    assert found.objectness_logits[1] == 0
    gt = Boxes(torch.tensor([[0.0, 0.0, 5.0, 5.0]]))
    (joined,) = add_ground_truth_to_proposals([gt], [found])
    assert joined.objectness_logits.argmax() == 3


def test_proposals_have_no_gradients(tiny_cfg, make_input):
    """Neither stage learns through the boxes, as in detectron2's RPN."""
    network = build_model(to_two_stage(tiny_cfg)).proposal_generator
    features = {
        name: torch.rand(1, 64, 16 >> i or 1, 16 >> i or 1, requires_grad=True)
        for i, name in enumerate(("p3", "p4", "p5", "p6", "p7"))
    }
    images = ImageList(torch.zeros(1, 3, 128, 128), [(128, 128)])
    instances = make_input(128, 128)["instances"]
    with EventStorage():
        (found,), losses = network(images, features, [instances])
    assert not found.proposal_boxes.tensor.requires_grad
    assert not found.objectness_logits.requires_grad
    assert sum(losses.values()).requires_grad
    network.eval()
    (found,), losses = network(images, features)
    assert losses == {} and len(found) <= 256


def test_missing_and_wrong_ground_truth(tiny_cfg, make_input):
    network = build_model(to_two_stage(tiny_cfg)).proposal_generator
    features = {name: torch.rand(1, 64, 4, 4) for name in ("p3", "p4", "p5", "p6", "p7")}
    images = ImageList(torch.zeros(1, 3, 32, 32), [(32, 32)])
    with pytest.raises(ValueError, match="gt_instances"):
        network(images, features)
    instances = make_input(32, 32, ((1.0, 1.0, 9.0, 9.0),), (7,))["instances"]
    with pytest.raises(DataError, match="classes 0 to 4"):
        network(images, features, [instances])


def test_built_by_detectron2_s_function(tiny_cfg):
    """As a user's own meta-architecture builds it: ``(cfg, input_shape)``."""
    tiny_cfg.MODEL.PROPOSAL_GENERATOR.NAME = "TOODProposalNetwork"
    tiny_cfg.MODEL.META_ARCHITECTURE = "ProposalNetwork"
    shapes = {
        name: ShapeSpec(channels=64, stride=8 << i)
        for i, name in enumerate(("p3", "p4", "p5", "p6", "p7"))
    }
    network = build_proposal_generator(tiny_cfg, shapes)
    assert isinstance(network, TOODProposalNetwork)
    assert network.num_classes == 1 and network.num_gt_classes == 5


def test_proposals_alone(tiny_cfg, make_input):
    """detectron2's ProposalNetwork, which its proposal evaluation needs."""
    tiny_cfg.MODEL.PROPOSAL_GENERATOR.NAME = "TOODProposalNetwork"
    tiny_cfg.MODEL.META_ARCHITECTURE = "ProposalNetwork"
    model = build_model(tiny_cfg)
    losses = losses_of(model, [make_input()], "aligned")
    assert set(losses) == {"loss_tood_cls", "loss_tood_box_reg"}
    model.eval()
    (output,) = model([make_input()])
    assert output["proposals"].has("objectness_logits")


def test_batch_of_another_padding_is_refused(tiny_cfg, make_input):
    """Which points may be positive depends on where the padding ends."""
    tiny_cfg.MODEL.PROPOSAL_GENERATOR.NAME = "TOODProposalNetwork"
    tiny_cfg.MODEL.META_ARCHITECTURE = "ProposalNetwork"
    tiny_cfg.MODEL.TOOD.PROPOSALS.SIZE_DIVISOR = 64
    model = build_model(tiny_cfg).eval()
    model([make_input(64, 128)])
    with pytest.raises(ConfigError, match=r"SIZE_DIVISOR is 64, but the batch has 128x96 pixels"):
        model([make_input(96, 128)])


@pytest.mark.parametrize("phase", PHASES)
def test_accumulation(tiny_cfg, make_input, phase):
    """The first stage's gradient is that of the whole batch, whatever its losses are called."""
    tiny_cfg.MODEL.PROPOSAL_GENERATOR.NAME = "TOODProposalNetwork"
    tiny_cfg.MODEL.META_ARCHITECTURE = "ProposalNetwork"
    model = build_model(tiny_cfg).double()
    find_dense_core(model).set_phase(phase)
    boxes = ((10.0, 12.0, 70.0, 80.0), (30.0, 40.0, 120.0, 90.0))
    batch = [make_input(boxes=boxes, classes=(1, 2)), make_input(boxes=(), classes=())]
    gradients = []
    for parts in ([batch], [[x] for x in batch]):
        model.zero_grad(set_to_none=True)
        with EventStorage():
            accumulate_gradients(model, parts)
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    norm = sum(x.square().sum() for x in gradients[0]).sqrt()
    difference = sum((x - y).square().sum() for x, y in zip(*gradients, strict=True)).sqrt()
    assert difference <= 1e-6 * norm


def test_half_precision(tiny_cfg, make_input):
    """Boxes and logits are float32 under autocast, and the losses are finite."""
    model = build_model(to_two_stage(tiny_cfg))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = losses_of(model, [make_input()], "aligned")
    assert all(loss.isfinite() for loss in losses.values())
    core = find_dense_core(model).eval()
    predictions = DensePredictions(
        [torch.rand(1, 1, 2, 2).half()],
        [torch.tensor([0.0, 0, 9, 9]).view(1, 4, 1, 1).expand(1, 4, 2, 2).half()],
        None,
    )
    (found,) = core.generate_proposals(predictions, [(20, 20)])
    assert found.proposal_boxes.tensor.dtype == found.objectness_logits.dtype == torch.float32
