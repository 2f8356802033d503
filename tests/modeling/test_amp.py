"""Automatic mixed precision: losses stay those of float32, and what cannot be rounded is not."""

import pytest
import torch
from detectron2.modeling import build_model

from tests.helpers import assert_close_to_range, tensor
from tests.modeling.test_golden import HEADS, LEVELS, GoldenHead
from tood.modeling.assigners import ATSSAssigner, TaskAlignedAssigner
from tood.modeling.criteria.focal import CenternessFocalCriterion
from tood.modeling.criteria.task_aligned import TaskAlignedCriterion
from tood.modeling.structures import FlatPredictions, flatten_levels
from tood.modeling.targets import compute_targets

PARTS = {
    "warmup": (ATSSAssigner, CenternessFocalCriterion),
    "aligned": (TaskAlignedAssigner, TaskAlignedCriterion),
}


def golden_losses(golden: GoldenHead, phase: str, output) -> dict[str, torch.Tensor]:
    """Losses of the golden batch, as the meta-architecture computes them."""
    assigner, criterion = (part() for part in PARTS[phase])
    flat = FlatPredictions(
        flatten_levels(output.pred_scores).float(), flatten_levels(output.pred_boxes).float()
    )
    labels, _ = compute_targets(
        assigner,
        flat,
        golden.points(),
        [(160, 200), (160, 200)],
        32,
        [tensor(golden.data[f"gt/img{i}/bboxes"]) for i in (0, 1)],
        [tensor(golden.data[f"gt/img{i}/labels"]) for i in (0, 1)],
    )
    sums = criterion(flat, labels)
    return {name: loss.total / loss.normalizer.clamp(min=1) for name, loss in sums.items()}


@pytest.mark.parametrize("file", HEADS)
@pytest.mark.parametrize("phase", PARTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_of_the_golden_batch(file, phase, dtype):
    """Within 1 % of MMDetection's in float32; gradients finite."""
    golden = GoldenHead(file)
    with torch.autocast("cpu", dtype=dtype):
        output = golden.head(golden.features, golden.anchors)
    losses = golden_losses(golden, phase, output)
    key = f"loss/{'atss' if phase == 'warmup' else 'tal'}/std"
    assert losses["loss_cls"].item() == pytest.approx(
        golden.data[f"{key}/loss_cls"].sum(), rel=0.01
    )
    box_reg = 2 * losses["loss_box_reg"].item()
    assert box_reg == pytest.approx(golden.data[f"{key}/loss_bbox"].sum(), rel=0.01)
    sum(losses.values()).backward()
    for name, parameter in golden.head.named_parameters():
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("file", HEADS)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_predictions_are_float32_and_near(file, dtype, tolerance):
    golden = GoldenHead(file)
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        output = golden.head(golden.features, golden.anchors)
    for level, scores, boxes in zip(LEVELS, output.pred_scores, output.pred_boxes, strict=True):
        assert scores.dtype == boxes.dtype == torch.float32
        assert_close_to_range(scores, tensor(golden.data[f"cls_score/{level}"]), tolerance)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_large_regression_outputs_stay_finite(dtype):
    """exp() of 12 is beyond float16: decoding is in float32."""
    golden = GoldenHead("head_free_dcn0_c80.npz")
    golden.head.tood_reg.bias.data.fill_(12.0)
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        output = golden.head(golden.features, golden.anchors)
    assert all(level.isfinite().all() for level in output.pred_boxes)
    assert max(level.max().item() for level in output.pred_boxes) > 65504


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("phase", PARTS)
def test_whole_model(tiny_cfg, make_input, phase, dtype):
    """Losses of a batch with padding and an empty image, and its detections."""
    model = build_model(tiny_cfg)
    model.set_phase(phase)
    batch = [make_input(), make_input(64, 96, (), ())]
    expected = model(batch)
    with torch.autocast("cpu", dtype=dtype):
        losses = model(batch)
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(expected[name].item(), rel=0.01), name
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    model.eval()
    model.test_score_thresh = 0.0
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        (output,) = model(batch[:1])
    assert output["instances"].pred_boxes.tensor.isfinite().all()
    assert output["instances"].scores.dtype == torch.float32
