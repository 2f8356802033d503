"""Tests that need a GPU; skipped without one."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from tests.modeling.assigners.oracles import random_scene, same
from tests.modeling.layers.test_deform_conv import scene
from tests.modeling.two_stage import build_both, to_two_stage
from tood.modeling import find_dense_core
from tood.modeling.assigners import TaskAlignedAssigner
from tood.modeling.layers import deform_conv2d
from tood.modeling.structures import GroundTruth

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, None])
@pytest.mark.parametrize("phase", ["warmup", "aligned"])
def test_training_step(tiny_cfg, make_input, phase, dtype):
    """Binary cross entropy refuses CUDA autocast: the losses must be outside of it."""
    tiny_cfg.MODEL.DEVICE = "cuda"
    tiny_cfg.MODEL.TOOD.HEAD.NUM_DCN = 1
    model = build_model(tiny_cfg)
    model.set_phase(phase)
    batch = [make_input(), make_input(boxes=(), classes=())]
    full = model(batch)
    with torch.autocast("cuda", dtype=dtype or torch.float16, enabled=dtype is not None):
        losses = model(batch)
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(full[name].item(), rel=0.05)
    sum(losses.values()).backward()


@pytest.mark.parametrize("phase", ["warmup", "aligned"])
def test_losses_of_a_proposal_network(tiny_cfg, make_input, phase):
    """Bit for bit the detector's, also with an image without ground truth."""
    tiny_cfg.MODEL.DEVICE = "cuda"
    tiny_cfg.MODEL.TOOD.PROPOSALS.CLASS_AGNOSTIC = False
    one_stage, two_stage = build_both(tiny_cfg)
    batch = [make_input(), make_input(boxes=(), classes=())]
    losses = []
    for model in (one_stage, two_stage):
        find_dense_core(model).set_phase(phase)
        with EventStorage():
            losses.append(model(batch))
    for name, loss in losses[0].items():
        assert loss.equal(losses[1][name.replace("loss_", "loss_tood_")])


@pytest.mark.parametrize("roi_heads", ["TOODStandardROIHeads", "TOODCascadeROIHeads"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_two_stages_in_half_precision(tiny_cfg, make_input, roi_heads, dtype):
    tiny_cfg.MODEL.DEVICE = "cuda"
    cfg = to_two_stage(tiny_cfg, roi_heads)
    cfg.MODEL.ROI_BOX_HEAD.MULT_PROPOSAL_SCORE = True
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    model = build_model(cfg)
    find_dense_core(model).set_phase("aligned")
    batch = [make_input(), make_input(boxes=(), classes=())]
    with EventStorage(), torch.autocast("cuda", dtype=dtype):
        losses = model(batch)
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    model.eval()
    with torch.no_grad(), torch.autocast("cuda", dtype=dtype):
        outputs = model(batch)
    for output in outputs:
        found = output["instances"]
        assert len(found) > 0 and found.scores.isfinite().all()


@pytest.mark.parametrize("phase", ["warmup", "aligned"])
def test_assignment_and_losses_never_synchronize(tiny_cfg, make_input, phase):
    """PyTorch raises on every synchronization."""
    tiny_cfg.MODEL.DEVICE = "cuda"
    model = build_model(tiny_cfg)
    model.set_phase(phase)
    infinite = (0.0, 0.0, float("inf"), 50.0)  # without reading how many of them there are
    batch = [
        make_input(boxes=((10.0, 12.0, 70.0, 80.0), infinite), classes=(1, 1)),
        make_input(boxes=(), classes=()),
    ]
    for x in batch:
        x["image"], x["instances"] = x["image"].cuda(), x["instances"].to("cuda")
    images = model.preprocess_image(batch)
    grid, predictions = model.predict(model.backbone(images.tensor))
    ground_truth = []
    for x in batch:
        boxes = x["instances"].gt_boxes
        ground_truth.append(GroundTruth(boxes.tensor, x["instances"].gt_classes, boxes.area()))
    torch.cuda.set_sync_debug_mode("error")
    try:
        losses = model.normalize_losses(
            model.loss_sums(grid, predictions, ground_truth, images.image_sizes, 32)
        )
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize("count", [1000, 5000])
def test_thousands_of_ground_truths(count):
    """On 22 000 points, in less than a quarter of a GiB for each step of temporaries."""
    points = torch.rand(22_000, 2, device="cuda") * 1000
    boxes = torch.cat([points - 30, points + 40 * torch.rand_like(points)], dim=1)
    scores = torch.rand(22_000, 80, device="cuda")
    gt_boxes, gt_classes = boxes[:count] + 3, torch.randint(80, (count,), device="cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    found = TaskAlignedAssigner()(scores, boxes, points, gt_boxes, gt_classes)
    assert (torch.cuda.max_memory_allocated() - before) < 2**28
    assert (found.matched_idxs >= 0).sum() > count / 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, None])
def test_deformable_backbone(tiny_cfg, make_input, dtype):
    """DCNv2 in backbone and head: the losses of the CPU, and under AMP near them."""
    resnets = tiny_cfg.MODEL.RESNETS
    resnets.DEPTH, resnets.RES2_OUT_CHANNELS = 50, 32
    resnets.NUM_GROUPS, resnets.WIDTH_PER_GROUP = 4, 2
    resnets.DEFORM_ON_PER_STAGE, resnets.DEFORM_MODULATED = [False, True, True, True], True
    tiny_cfg.MODEL.TOOD.HEAD.NUM_DCN = 1
    model = build_model(tiny_cfg)
    batch = [make_input(), make_input(boxes=(), classes=())]
    expected = model(batch)
    model.cuda()
    with torch.autocast("cuda", dtype=dtype or torch.float16, enabled=dtype is not None):
        losses = model(batch)
    for name, loss in losses.items():
        tolerance = 1e-3 if dtype is None else 0.05
        assert loss.item() == pytest.approx(expected[name].item(), rel=tolerance)
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("groups, deform_groups", [(1, 4), (4, 1)])
def test_deformable_convolution_gives_the_same_as_on_the_cpu(groups, deform_groups):
    arguments = scene(groups=groups, deform_groups=deform_groups, spread=3.0)
    cpu = deform_conv2d(**arguments, padding=1)
    gpu = deform_conv2d(**{k: v.cuda() for k, v in arguments.items()}, padding=1)
    torch.testing.assert_close(gpu.cpu(), cpu, rtol=1e-4, atol=1e-4)


def test_assigner_gives_the_same_as_on_the_cpu():
    *scene, _ = random_scene(0, 40)
    cpu = TaskAlignedAssigner()(*scene)
    gpu = TaskAlignedAssigner()(*(x.cuda() for x in scene))
    assert torch.equal(cpu.matched_idxs, gpu.matched_idxs.cpu())
    torch.testing.assert_close(
        cpu.norm_alignment_metrics, gpu.norm_alignment_metrics.cpu(), rtol=1e-5, atol=1e-7
    )
    same(gpu, TaskAlignedAssigner(chunk_size=1)(*(x.cuda() for x in scene)))


def test_inference(tiny_cfg, make_input):
    tiny_cfg.MODEL.DEVICE = "cuda"
    model = build_model(tiny_cfg).eval()
    model.test_score_thresh = 0.0
    with torch.no_grad():
        (output,) = model([make_input()])
    assert output["instances"].pred_boxes.tensor.is_cuda
