"""The parallel head, with and without its branches."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers import STRIDES, square_anchors
from tood.modeling.heads import ParallelHead, TOODHead
from tood.modeling.heads.box_coding import decode_boxes
from tood.modeling.heads.task_alignment import align_boxes

SHAPES = [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]


def make_head(seed=0, **options) -> ParallelHead:
    torch.manual_seed(seed)
    options = {"in_channels": 8, "num_classes": 3, "strides": STRIDES, "channels": 16, **options}
    return ParallelHead(norm=options.pop("norm", ""), **options)


def features(count=1, channels=8):
    return [torch.randn(count, channels, *shape) for shape in SHAPES]


def randomize(head: nn.Module) -> None:
    with torch.no_grad():
        for parameter in head.parameters():
            parameter += 0.1 * torch.randn_like(parameter)


@pytest.mark.parametrize("centerness", [False, True])
@pytest.mark.parametrize("with_tap", [False, True])
def test_forward_by_hand(centerness, with_tap):
    """Layer by layer, in the order of the papers."""
    head = make_head(centerness=centerness, with_tap=with_tap, num_convs=2, norm="")
    randomize(head)
    maps = features(2)
    out = head(maps, square_anchors(SHAPES))
    assert (out.centerness is not None) == centerness
    anchors = square_anchors(SHAPES)
    for i, x in enumerate(maps):
        cls = reg = x
        for k in range(2):
            cls = F.conv2d(cls, *head.cls_convs[k].parameters(), padding=1).relu()
            reg = F.conv2d(reg, *head.reg_convs[k].parameters(), padding=1).relu()
        scores = head.cls_score(cls).sigmoid()
        boxes = decode_boxes(
            head.bbox_pred(reg), anchors[i], head.scales[i], STRIDES[i], "anchor_free"
        )
        if with_tap:
            both = torch.cat([cls, reg], dim=1)
            scores = (scores * head.cls_prob_module(both).sigmoid()).sqrt()
            boxes = align_boxes(boxes, head.reg_offset_module(both))
        torch.testing.assert_close(out.scores[i], scores)
        torch.testing.assert_close(out.boxes[i], boxes * STRIDES[i])
        if centerness:
            torch.testing.assert_close(out.centerness[i], head.centerness(reg).sigmoid())


@pytest.mark.parametrize("head_class", [ParallelHead, TOODHead])
def test_linear_distances(head_class):
    """FCOS: distances are the regression itself, 0 where it is negative, times the scale."""
    head = head_class(
        in_channels=8, num_classes=3, strides=STRIDES, num_convs=1, channels=8, norm="",
        anchor_type="anchor_free_linear",
    )  # fmt: skip
    regression = torch.tensor([1.0, -2.0, 3.0, 0.5]).view(1, 4, 1, 1)
    anchors = torch.tensor([[-4.0, -4.0, 12.0, 12.0]])  # center (4, 4), half a stride
    with torch.no_grad():
        head.scales[0].scale.fill_(2.0)
    boxes = decode_boxes(regression, anchors, head.scales[0], 8, head.anchor_type)
    assert boxes.flatten().tolist() == [0.5 - 2, 0.5, 0.5 + 6, 0.5 + 1]


def test_start():
    """All scores at the prior, small weights, offsets near 0; the branch at one half."""
    head = make_head(centerness=True, with_tap=True, channels=64, prior_prob=0.02)
    out = head(features(), square_anchors(SHAPES))
    scores = torch.cat([x.flatten() for x in out.scores])
    assert scores.mean().item() == pytest.approx(0.02, rel=0.1)
    assert out.centerness[0].mean().item() == pytest.approx(0.5, abs=0.05)
    assert head.reg_offset_module[0].weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert head.cls_prob_module[0].weight.std().item() == pytest.approx(0.01, rel=0.1)


def test_batched_equals_single():
    head = make_head(centerness=True, with_tap=True)
    randomize(head)
    maps, anchors = features(2), square_anchors(SHAPES)
    together = head(maps, anchors)
    for n in range(2):
        alone = head([x[n : n + 1] for x in maps], anchors)
        for a, b in zip(together, alone, strict=True):
            for x, y in zip(a, b, strict=True):
                torch.testing.assert_close(x[n], y[0], rtol=1e-4, atol=1e-5)


def test_biases_and_deformable_layers():
    assert make_head(norm="GN", channels=32).cls_convs[0].bias is None
    assert make_head(norm="GN", channels=32, conv_bias=True).cls_convs[0].bias is not None
    head = make_head(num_dcn=1, num_convs=2)
    names = [name for name, _ in head.named_parameters() if "conv_offset" in name]
    assert {name.split(".")[1] for name in names} == {"0"} and len(names) == 4
    out = head(features(), square_anchors(SHAPES))
    assert all(torch.isfinite(x).all() for x in out.boxes)
