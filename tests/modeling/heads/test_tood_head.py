"""Layers and the T-head."""

import math

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import deform_conv2d

from tests.helpers import STRIDES, square_anchors
from tood.modeling.heads import DENSE_HEAD_REGISTRY, ParallelHead, TaskDecomposition, TOODHead
from tood.modeling.heads.task_alignment import align_boxes
from tood.modeling.layers import deform_sampling, dynamic_conv1x1


def small_head(**changes) -> TOODHead:
    arguments = {"in_channels": 64, "channels": 64, "num_classes": 3, "strides": STRIDES}
    return TOODHead(**{**arguments, "num_convs": 2, **changes})


SHAPES = [(12, 16), (6, 8), (3, 4), (2, 2), (1, 1)]


def features(n=1, shapes=SHAPES, **options):
    return [torch.randn(n, 64, *shape, **options) for shape in shapes]


def reference_sampling(values, offsets):
    """What both reference implementations call."""
    channels = values.shape[1]
    weight = values.new_ones(channels, 1, 1, 1)
    return deform_conv2d(values, offsets, weight)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (9, 13)])
@pytest.mark.parametrize("spread", [0.0, 0.7, 3.0, 40.0])
def test_sampling_equals_deformable_convolution(shape, spread):
    """Also at the borders and far outside; forward and both gradients."""
    values = (torch.randn(2, 4, *shape) * 50).requires_grad_()
    offsets = (torch.randn(2, 8, *shape) * spread).requires_grad_()
    ours, theirs = deform_sampling(values, offsets), reference_sampling(values, offsets)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
    direction = torch.randn_like(ours)
    ours_grad = torch.autograd.grad((ours * direction).sum(), (values, offsets))
    theirs_grad = torch.autograd.grad((theirs * direction).sum(), (values, offsets))
    torch.testing.assert_close(ours_grad[0], theirs_grad[0], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(ours_grad[1], theirs_grad[1], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("distance", [-1.0, 1.0, -2.0])
def test_sampling_at_whole_positions_has_the_derivative_of_the_reference(distance):
    values = torch.randn(1, 2, 4, 5)
    offsets = torch.full((1, 4, 4, 5), distance, requires_grad=True)
    ours = torch.autograd.grad(deform_sampling(values, offsets).sum(), offsets)
    theirs = torch.autograd.grad(reference_sampling(values, offsets).sum(), offsets)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_sampling_with_zero_offset_is_the_identity():
    values = torch.randn(2, 4, 5, 6)
    assert torch.equal(deform_sampling(values, torch.zeros(2, 8, 5, 6)), values)


def test_sampling_order_of_offsets_by_hand():
    """Channel 0 one row down, channel 1 one column right."""
    values = torch.arange(8.0).reshape(1, 2, 2, 2)
    offsets = torch.zeros(1, 4, 2, 2)
    offsets[0, 0] = 1  # dy of channel 0
    offsets[0, 3] = 1  # dx of channel 1
    sampled = deform_sampling(values, offsets)
    assert sampled[0, 0].tolist() == [[2, 3], [0, 0]]
    assert sampled[0, 1].tolist() == [[5, 0], [7, 0]]


def test_sampling_survives_nan_offsets():
    values = torch.randn(1, 1, 3, 3)
    offsets = torch.full((1, 2, 3, 3), float("inf"))
    assert (deform_sampling(values, offsets) == 0).all()
    offsets[0, 0, 0, 0] = float("nan")
    assert torch.isnan(deform_sampling(values, offsets)[0, 0, 0, 0])
    with pytest.raises(ValueError, match="do not fit"):
        deform_sampling(values, torch.zeros(1, 4, 3, 3))


def test_decomposition_equals_scaled_features():
    """The attention in the weight is the same as on the features (eq. 2)."""
    module = TaskDecomposition(32, 3, "GN")
    for p in module.parameters():
        torch.nn.init.normal_(p, std=0.2)
    stack = torch.randn(2, 96, 5, 6)
    pooled = stack.mean((2, 3), keepdim=True)
    w = module.layer_attention(pooled)
    scaled = stack * w.repeat_interleave(32, dim=1)
    expected = F.relu(module.reduction_conv.norm(F.conv2d(scaled, module.reduction_conv.weight)))
    torch.testing.assert_close(module(stack), expected, rtol=1e-5, atol=1e-5)


def test_stack_projection_equals_the_modules():
    """One matrix product equals the four modules, image by image."""
    head = small_head(num_classes=2)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    stack = torch.randn(3, 128, 5, 6)
    cls, reg, prob_logits, offsets = head._project_stack(stack)
    for i in range(3):
        image = stack[i : i + 1]
        for ours, module in (
            (cls, head.cls_decomp),
            (reg, head.reg_decomp),
            (prob_logits, head.cls_prob_module),
            (offsets, head.reg_offset_module),
        ):
            torch.testing.assert_close(ours[i : i + 1], module(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [1, 3])
def test_dynamic_conv1x1(n):
    x = torch.randn(n, 5, 3, 4, requires_grad=True)
    weight = torch.randn(n, 7, 5, requires_grad=True)
    expected = torch.einsum("noc,nchw->nohw", weight, x)
    ours = dynamic_conv1x1(x, weight)
    torch.testing.assert_close(ours, expected)
    direction = torch.randn_like(ours)
    torch.testing.assert_close(
        torch.autograd.grad((ours * direction).sum(), (x, weight)),
        torch.autograd.grad((expected * direction).sum(), (x, weight)),
    )


def test_scores_have_finite_gradients_everywhere():
    """sqrt(sigmoid * sigmoid) has an infinite gradient below -52; ours is 0.5 z (1 - sigmoid)."""
    head = small_head(num_classes=1)
    grids = torch.tensor([-120.0, -60.0, -10.0, 0.0, 10.0, 120.0])
    a, b = (
        x.flatten().clone().requires_grad_() for x in torch.meshgrid(grids, grids, indexing="ij")
    )

    class Fixed(torch.nn.Module):
        def __init__(self, value):
            super().__init__()
            self.value = value

        def forward(self, x):
            return self.value.view(1, 1, 6, 6)

    head.tood_cls, head.cls_prob_module[2] = Fixed(a), Fixed(b)
    (anchors,) = square_anchors([(6, 6)] + [(1, 1)] * 4)[:1]
    scores, *_ = head.forward_level(torch.randn(1, 64, 6, 6), anchors, head.scales[0], 8)
    scores.sum().backward()
    z = scores.detach().flatten()
    torch.testing.assert_close(z, (0.5 * (F.logsigmoid(a) + F.logsigmoid(b))).exp().detach())
    torch.testing.assert_close(a.grad, 0.5 * z * torch.sigmoid(-a.detach()))
    torch.testing.assert_close(b.grad, 0.5 * z * torch.sigmoid(-b.detach()))
    naive = (torch.sigmoid(a) * torch.sigmoid(b)).sqrt().detach()
    torch.testing.assert_close(z, naive, rtol=1e-5, atol=1e-20)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_large_regression_logits_give_finite_boxes(dtype):
    """exp() is infinite from 11.1 on in float16, from 88.8 on in float32."""
    head = small_head()
    head.tood_reg.bias.data.fill_(100.0)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        output = head(features(), square_anchors(SHAPES))
    for scores, boxes in zip(output.scores, output.boxes, strict=True):
        assert scores.dtype == boxes.dtype == torch.float32
        assert torch.isfinite(boxes).all()
    if dtype == torch.float16:  # its gradients need a loss scale
        return
    sum(boxes.sum() for boxes in output.boxes).backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.grad is not None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scores_are_computed_in_float32_from_half_logits(dtype):
    """In float16 the gradient of the bare form is infinite from logits of -10 on."""
    head = small_head(num_classes=1)
    logits = torch.full((1, 1, 2, 2), -12.0, dtype=dtype, requires_grad=True)
    head.tood_cls.forward = lambda x: logits
    head.cls_prob_module[2].forward = lambda x: logits.detach()
    (anchors,) = square_anchors([(2, 2)] + [(1, 1)] * 4)[:1]
    scores, *_ = head.forward_level(torch.randn(1, 64, 2, 2), anchors, head.scales[0], 8)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, torch.full_like(scores, math.exp(-12)), rtol=1e-4, atol=0)
    (scores.sum() * 1e4).backward()
    expected = torch.full_like(logits, 0.5 * math.exp(-12) * 1e4).to(dtype)
    torch.testing.assert_close(logits.grad, expected, rtol=1e-2, atol=0)


def test_no_box_is_inverted():
    """Offsets that mix corners of different cells: inverted boxes keep their coordinates."""
    boxes = torch.randn(2, 2, 10, 12) * 2
    boxes = torch.cat([boxes, boxes + torch.rand(2, 2, 10, 12) * 3], dim=1).requires_grad_()
    offsets = (torch.randn(2, 8, 10, 12) * 4).requires_grad_()
    aligned = align_boxes(boxes, offsets)
    x1, y1, x2, y2 = aligned.unbind(1)
    assert (x2 >= x1).all() and (y2 >= y1).all()
    raw = reference_sampling(boxes, offsets)
    inverted = (raw[:, 0] > raw[:, 2]) | (raw[:, 1] > raw[:, 3])
    assert 0.02 < inverted.float().mean() < 0.9
    replaced = inverted[:, None].expand_as(boxes)
    assert torch.equal(aligned[replaced], boxes[replaced])
    torch.testing.assert_close(aligned[~replaced], raw[~replaced], rtol=1e-5, atol=1e-5)
    aligned.square().sum().backward()
    assert (offsets.grad != 0).any() and (boxes.grad != 0).any()
    # A replaced box does not follow its own offsets.
    assert (offsets.grad[inverted[:, None].expand_as(offsets)] == 0).all()


@pytest.mark.parametrize("anchor_type", ["anchor_free", "anchor_based"])
@pytest.mark.parametrize("num_dcn", [0, 2])
def test_start_of_training(anchor_type, num_dcn):
    """Scores of 0.01; boxes of 2 strides (anchor-free) or 8, the anchors (anchor-based)."""
    head = small_head(anchor_type=anchor_type, num_dcn=num_dcn)
    with torch.no_grad():
        output = head(features(), square_anchors(SHAPES))
    assert output.scores[0].mean().item() == pytest.approx(0.01, rel=0.05)
    center = output.boxes[0][0, :, 6, 8] / STRIDES[0]
    side = {"anchor_free": 2, "anchor_based": 8}[anchor_type]
    expected = torch.tensor([8 - side / 2, 6 - side / 2, 8 + side / 2, 6 + side / 2])
    torch.testing.assert_close(center, expected, rtol=0, atol=0.5)


@pytest.mark.parametrize("shapes", [SHAPES, [(5, 13), (3, 7), (2, 4), (1, 2), (1, 1)]])
def test_batched_equals_single(shapes):
    head = small_head(num_dcn=1).eval()
    batch, anchors = features(3, shapes), square_anchors(shapes)
    with torch.no_grad():
        together = head(batch, anchors)
        for i in range(3):
            alone = head([x[i : i + 1] for x in batch], anchors)
            for a, b in zip(
                [*alone.scores, *alone.boxes],
                [*together.scores, *together.boxes],
                strict=True,
            ):
                torch.testing.assert_close(a[0], b[i], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("norm", ["GN", ""])
def test_without_normalization(norm):
    head = small_head(norm=norm)
    output = head(features(), square_anchors(SHAPES))
    assert all(torch.isfinite(x).all() for x in output.boxes)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"anchor_type": "anchorfree"}, "anchor_type"),
        ({"num_classes": 0}, "num_classes"),
        ({"num_dcn": 3}, "num_dcn"),
    ],
)
def test_arguments_that_make_no_sense(changes, message):
    with pytest.raises(ValueError, match=message):
        small_head(**changes)


def test_parameters_of_the_papers_head():
    head = TOODHead(in_channels=256, num_classes=80, strides=STRIDES)
    assert sum(p.numel() for p in head.parameters()) == 4_823_790  # 4.82 M, Table 1
    assert math.isclose(head.tood_cls.bias[0].item(), -math.log(99), rel_tol=1e-6)


def test_registry():
    assert DENSE_HEAD_REGISTRY.get("TOODHead") is TOODHead


@pytest.mark.parametrize("head_class", [TOODHead, ParallelHead])
def test_compiles_in_one_graph(head_class):
    """torch.compile finds nothing that it cannot follow; names of parameters stay."""
    head = head_class(
        in_channels=8, num_classes=3, strides=STRIDES, num_convs=2, channels=8, norm="", num_dcn=1
    )
    maps = [torch.randn(2, 8, *shape) for shape in SHAPES]
    anchors = square_anchors(SHAPES)
    expected, names = head(maps, anchors), list(head.state_dict())
    torch.compiler.reset()
    head.compile(backend="eager", fullgraph=True)
    found = head(maps, anchors)
    assert list(head.state_dict()) == names
    for a, b in zip(found[:2], expected[:2], strict=True):
        for x, y in zip(a, b, strict=True):
            torch.testing.assert_close(x, y)
