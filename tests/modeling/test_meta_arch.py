"""The model through detectron2's contract."""

import copy
import logging

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from detectron2.utils.logger import _LOG_COUNTER

from tests.helpers import train_step
from tood.modeling.structures import LossSum

PHASES = ["warmup", "aligned"]


@pytest.fixture
def model(tiny_cfg):
    return build_model(tiny_cfg)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("anchor_type", ["anchor_free", "anchor_based"])
def test_training_step(tiny_cfg, make_input, phase, anchor_type):
    """Two sizes in one batch, one image without ground truth."""
    tiny_cfg.MODEL.TOOD.ANCHOR_TYPE = anchor_type
    model = build_model(tiny_cfg)
    batch = [make_input(), make_input(64, 96, (), ())]
    losses = train_step(model, batch, phase)
    assert set(losses) == {"loss_cls", "loss_box_reg"}
    assert all(torch.isfinite(loss) and loss > 0 for loss in losses.values())
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("phase", PHASES)
def test_one_class(tiny_cfg, make_input, phase):
    """Class 0 is a class, and not the background."""
    tiny_cfg.MODEL.TOOD.NUM_CLASSES = 1
    model = build_model(tiny_cfg)
    losses = train_step(model, [make_input(classes=(0,))], phase)
    assert losses["loss_box_reg"] > 0
    model.eval()
    model.test_score_thresh = 0.0
    with torch.no_grad():
        (output,) = model([make_input()])
    assert set(output["instances"].pred_classes.tolist()) == {0}


def test_losses_are_divided_by_at_least_one(model):
    """A tiny sum of labels must not blow the losses up, nor none at all."""
    for total in (0.0, 1e-3, 0.3, 1.0, 4.0):
        sums = {
            "loss_cls": LossSum(torch.tensor(6.0), torch.tensor(total)),
            "loss_box_reg": LossSum(torch.tensor(3.0), torch.tensor(2.0)),
        }
        losses = model.normalize_losses(sums)
        assert losses["loss_cls"].item() == 6 / max(total, 1)
        assert losses["loss_box_reg"].item() == 3 / 2 * 2  # of weight 2


def test_boxes_are_clipped_before_nms(model, make_input):
    """Two boxes that differ only outside of the image: one of them survives."""
    model.test_score_thresh = 0.5
    original = model.head.forward

    def two_boxes(features, anchors):
        output = original(features, anchors)
        scores = [torch.zeros_like(x) for x in output.scores]
        scores[0][0, 2, 0, :2] = torch.tensor([0.9, 0.8])
        output.boxes[0][0, :, 0, 0] = torch.tensor([-720.0, 0.0, 40.0, 40.0])
        output.boxes[0][0, :, 0, 1] = torch.tensor([0.0, 0.0, 40.0, 40.0])
        return output._replace(scores=scores)

    model.head.forward = two_boxes
    model.eval()
    with torch.no_grad():
        (found,) = model([make_input()])
    assert found["instances"].pred_boxes.tensor.tolist() == [[0, 0, 40, 40]]


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("num_images", [1, 2])
def test_no_ground_truth_at_all(model, make_input, phase, num_images):
    losses = train_step(model, [make_input(boxes=(), classes=())] * num_images, phase)
    assert losses["loss_box_reg"].item() == 0
    assert torch.isfinite(losses["loss_cls"]) and losses["loss_cls"] > 0
    # Every parameter has a gradient, so DistributedDataParallel need not look for unused ones.
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("phase", PHASES)
def test_extreme_shapes_in_one_batch(model, make_input, phase):
    batch = [
        make_input(33, 97, ((1.0, 1.0, 60.0, 30.0),), (0,)),
        make_input(260, 33, ((3.0, 20.0, 30.0, 250.0),), (4,)),
        make_input(32, 32),
    ]
    losses = train_step(model, batch, phase)
    assert all(torch.isfinite(loss) for loss in losses.values())
    model.eval()
    with torch.no_grad():
        outputs = model(batch)
    assert [o["instances"].image_size for o in outputs] == [(33, 97), (260, 33), (32, 32)]


@pytest.mark.parametrize("phase", PHASES)
def test_degenerate_ground_truth(model, make_input, phase):
    """Empty boxes and boxes outside of the image: the loss stays finite."""
    boxes = ((10.0, 10.0, 10.0, 10.0), (500.0, 500.0, 600.0, 600.0), (5.0, 5.0, 60.0, 60.0))
    losses = train_step(model, [make_input(boxes=boxes, classes=(0, 1, 2))], phase)
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_inference_contract(model, make_input):
    model.test_score_thresh = 0.0
    model.eval()
    inputs = make_input()
    inputs.update(height=192, width=256)  # twice the size
    with torch.no_grad():
        (output,) = model([inputs])
    instances = output["instances"]
    assert instances.image_size == (192, 256)
    assert 0 < len(instances) <= 100
    boxes = instances.pred_boxes.tensor
    assert boxes.min() >= 0 and boxes[:, 2].max() <= 256 and boxes[:, 3].max() <= 192
    assert boxes[:, 2].max() > 128  # scaled
    assert (instances.scores[:-1] >= instances.scores[1:]).all()
    assert instances.pred_classes.dtype == torch.int64 and instances.pred_classes.max() < 5
    with torch.no_grad():
        (plain,) = model([{"image": inputs["image"]}])
    assert plain["instances"].image_size == (96, 128)


def test_batched_equals_single_for_equal_sizes(model, make_input):
    model.test_score_thresh = 0.0
    model.eval()
    batch = [make_input(), make_input()]
    with torch.no_grad():
        together = model(batch)
        for x, expected in zip(batch, together, strict=True):
            alone = model([x])[0]["instances"]
            a, b = alone.scores, expected["instances"].scores
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_phase_not_in_state_dict(model, tiny_cfg):
    assert model.phase == "warmup"
    model.set_phase("aligned")
    assert copy.deepcopy(model).phase == "aligned"  # like an averaged copy of the model
    assert not any("phase" in key for key in model.state_dict())
    with pytest.raises(ValueError, match="Unknown phase"):
        model.set_phase("epoch 4")
    tiny_cfg.MODEL.TOOD.WARMUP.EPOCHS = 0
    assert build_model(tiny_cfg).phase == "aligned"


def test_phases_differ(model, make_input):
    batch = [make_input()]
    losses = {phase: train_step(model, batch, phase) for phase in PHASES}
    assert losses["warmup"]["loss_cls"] != losses["aligned"]["loss_cls"]


def test_warns_without_set_phase(model, make_input, caplog):
    _LOG_COUNTER.clear()  # of detectron2's log_first_n, which another test may have called
    caplog.set_level(logging.WARNING, logger="tood")
    model([make_input()])
    assert "set_phase" in caplog.text


@pytest.mark.parametrize("label", [5, -1])
def test_class_out_of_range(model, make_input, label):
    inputs = make_input(classes=(label,))
    inputs["file_name"] = "street.jpg"
    with pytest.raises(ValueError, match=r"street.jpg .*NUM_CLASSES"):
        model([inputs])


def test_training_without_ground_truth_entry(model, make_input):
    inputs = make_input()
    del inputs["instances"]
    with pytest.raises(ValueError, match="Training mode needs"):
        model([inputs])


def test_more_than_one_anchor_per_location(tiny_cfg):
    tiny_cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[0.5, 1.0]]
    with pytest.raises(ValueError, match="one anchor per location"):
        build_model(tiny_cfg)


def test_unknown_feature_name(tiny_cfg):
    tiny_cfg.MODEL.TOOD.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    with pytest.raises(ValueError, match=r"\['p2'\].*p7"):
        build_model(tiny_cfg)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("phase", PHASES)
def test_autocast(model, make_input, phase, dtype):
    """Assigner, losses and decoding get and give float32."""
    seen = []
    assigner = model.phases[phase].assigner
    original = type(assigner).assign

    def watch(self, inputs, gt_boxes, gt_classes):
        seen.extend([inputs.scores.dtype, inputs.boxes.dtype])
        # On a GPU, binary cross entropy raises where autocast is on.
        assert not torch.is_autocast_enabled("cpu")
        return original(self, inputs, gt_boxes, gt_classes)

    batch = [make_input()]
    model.set_phase(phase)
    full = model(batch)
    type(assigner).assign = watch
    try:
        with torch.autocast("cpu", dtype=dtype):
            losses = model(batch)
    finally:
        type(assigner).assign = original
    assert set(seen) == {torch.float32}
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(full[name].item(), rel=0.05)
    sum(losses.values()).backward()


def test_assignment_stats_are_logged(model, make_input):
    model.set_phase("aligned")
    inputs = make_input()
    inputs.update(height=960, width=1280)  # original size: the box counts as large
    assigner = model.phases["aligned"].assigner
    original = assigner.assign

    def watch(*args):
        watch.last = original(*args)
        return watch.last

    assigner.assign = watch
    with EventStorage(18) as storage:
        model([inputs])
        assert not any(name.startswith("assign/") for name in storage.latest())
        storage.step()
        model([inputs])
        latest = storage.latest()
    positives = int((watch.last.matched_idxs >= 0).sum())
    assert latest["assign/pos_per_gt"][0] == positives > 0  # the same in both steps
    assert latest["assign/gt_without_pos_frac"][0] == 0
    assert "assign/pos_per_gt_large" in latest and "assign/pos_per_gt_small" not in latest
