"""Automatic mixed precision: losses stay close to float32, and sensitive parts are not rounded."""

import pytest
import torch
from detectron2.modeling import build_model

from tests.helpers import assert_close_to_range, tensor
from tests.modeling.golden_head import HEADS, LEVELS, GoldenHead, compute_losses

PHASES = {"warmup": "atss", "aligned": "tal"}


@pytest.mark.parametrize("file", HEADS)
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_of_the_golden_batch(file, phase, dtype):
    """Within 1 % of MMDetection's in float32; gradients finite."""
    golden = GoldenHead(file)
    with torch.autocast("cpu", dtype=dtype):
        output = golden.head(golden.features, golden.anchors)
    _, loss_cls, loss_box = compute_losses(golden, PHASES[phase], "std", output)
    key = f"loss/{PHASES[phase]}/std"
    assert loss_cls.item() == pytest.approx(golden.data[f"{key}/loss_cls"].sum(), rel=0.01)
    assert loss_box.item() == pytest.approx(golden.data[f"{key}/loss_bbox"].sum(), rel=0.01)
    (loss_cls + loss_box).backward()
    for name, parameter in golden.head.named_parameters():
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("file", HEADS)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_predictions_are_float32_and_near(file, dtype, tolerance):
    golden = GoldenHead(file)
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        output = golden.head(golden.features, golden.anchors)
    for level, scores, boxes in zip(LEVELS, output.scores, output.boxes, strict=True):
        assert scores.dtype == boxes.dtype == torch.float32
        assert_close_to_range(scores, tensor(golden.data[f"cls_score/{level}"]), tolerance)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_large_regression_outputs_stay_finite(dtype):
    """exp() of 12 is beyond float16: decoding is in float32."""
    golden = GoldenHead("head_free_dcn0_c80.npz")
    golden.head.tood_reg.bias.data.fill_(12.0)
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        output = golden.head(golden.features, golden.anchors)
    assert all(level.isfinite().all() for level in output.boxes)
    assert max(level.max().item() for level in output.boxes) > 65504


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("phase", PHASES)
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
