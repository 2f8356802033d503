"""Encoding is the inverse of decoding, and decoding is finite for any regression output."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.strategies import any_boxes, floats, grid_boxes, seeds, tensors, uniform
from tood.modeling.box_ops import (
    box_centers,
    boxes_to_distances,
    deltas_to_boxes,
    distances_to_boxes,
)
from tood.modeling.heads.box_coding import ANCHOR_TYPES, MAX_LOG_DISTANCE, Scale, decode_boxes
from tood.modeling.structures import ImageDetections
from tood.modeling.views import to_frame

COUNT = 6
EPS = torch.finfo(torch.float32).eps
points = tensors((COUNT, 2), floats(-2048, 2048))


def encode_deltas(anchors, boxes, weights):
    """The inverse of ``deltas_to_boxes``, from its formula; in float64."""
    anchors, boxes = anchors.double(), boxes.double()
    size, target = anchors[:, 2:] - anchors[:, :2], boxes[:, 2:] - boxes[:, :2]
    shift = (box_centers(boxes) - box_centers(anchors)) / size
    return torch.cat([shift, (target / size).log()], dim=1) * torch.tensor(weights)


def test_largest_distances():
    """e^20 strides, whatever the regression output."""
    anchors = torch.tensor([[0.0, 0.0, 8.0, 8.0]])
    box = decode_boxes(torch.full((1, 4, 1, 1), 100.0), anchors, Scale(), 8, "anchor_free")
    side = math.exp(20)
    assert box.flatten().tolist() == pytest.approx([-side, -side, side, side], rel=1e-6)


@given(points=points, boxes=any_boxes(COUNT, 2048))
def test_distances_are_inverse(points, boxes):
    """To the rounding of two sums of numbers of at most 4096."""
    back = distances_to_boxes(points, boxes_to_distances(points, boxes))
    torch.testing.assert_close(back, boxes, rtol=0, atol=2 * 4096 * EPS)
    back = boxes_to_distances(points, distances_to_boxes(points, boxes))
    torch.testing.assert_close(back, boxes, rtol=0, atol=2 * 4096 * EPS)


@given(boxes=grid_boxes(COUNT, COUNT), other=grid_boxes(COUNT, COUNT))
def test_distances_are_exactly_inverse_on_the_grid(boxes, other):
    points = box_centers(other)
    assert torch.equal(distances_to_boxes(points, boxes_to_distances(points, boxes)), boxes)


@given(
    anchors=grid_boxes(COUNT, COUNT, smallest=8),
    boxes=grid_boxes(COUNT, COUNT, smallest=4),
    weights=st.sampled_from([(10.0, 10.0, 5.0, 5.0), (1.0, 1.0, 1.0, 1.0), (2.0, 3.0, 4.0, 5.0)]),
)
def test_deltas_are_inverse(anchors, boxes, weights):
    """To float32's rounding of coordinates below 512 and of exp(); sizes differ by up to 32."""
    deltas = encode_deltas(anchors, boxes, weights)
    back = deltas_to_boxes(anchors, deltas.float(), weights)
    torch.testing.assert_close(back, boxes, rtol=0, atol=16 * 512 * EPS)
    back = deltas_to_boxes(anchors.double(), deltas, weights)
    torch.testing.assert_close(back, boxes.double(), rtol=0, atol=1e-10)


@given(anchors=grid_boxes(COUNT, COUNT), deltas=any_boxes(COUNT, 1e30))
def test_deltas_give_boxes_that_are_not_inverted(anchors, deltas):
    """However large; the size stays within 16 / 1000 and 1000 / 16 of the anchor's."""
    boxes = deltas_to_boxes(anchors, deltas)
    assert boxes.isfinite().all()
    assert (boxes[:, 2:] >= boxes[:, :2]).all()


def level(rows: int, columns: int, stride: int, half_cell: bool) -> torch.Tensor:
    """Anchors (rows * columns, 4) of 8 strides."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    centers = (torch.stack([x, y], -1).reshape(-1, 2) + half_cell / 2) * stride
    return torch.cat([centers - 4 * stride, centers + 4 * stride], dim=1)


@pytest.mark.parametrize("anchor_type", ANCHOR_TYPES)
@given(
    regression=tensors((2, 4, 2, 3), floats(-1e4, 1e4)),
    stride=st.sampled_from([8, 32, 128]),
    factor=floats(0, 4),
)
def test_decoding_is_finite(anchor_type, regression, stride, factor):
    """Boxes and gradients, for any regression output; sides do not cross the point."""
    anchors = level(2, 3, stride, False)
    scale = Scale()
    torch.nn.init.constant_(scale.scale, factor)
    regression.requires_grad_()
    boxes = decode_boxes(regression, anchors, scale, stride, anchor_type)
    assert boxes.isfinite().all()
    assert (boxes[:, 2:] >= boxes[:, :2]).all()
    gradients = torch.autograd.grad(
        (boxes * uniform(0, *boxes.shape)).sum(), (regression, scale.scale)
    )
    assert all(x.isfinite().all() for x in gradients)


@pytest.mark.parametrize("anchor_type", ANCHOR_TYPES)
@given(seed=seeds, stride=st.sampled_from([8, 16, 32, 64, 128]), half_cell=st.booleans())
def test_decoding_finds_the_encoded_boxes(anchor_type, seed, stride, half_cell):
    """The right regression output gives back any box around its point, on each level."""
    anchors = level(3, 4, stride, half_cell)
    centers = box_centers(anchors) / stride
    distances = uniform(seed, 12, 4, low=0.1, high=20)
    boxes = distances_to_boxes(centers, distances)
    regression = {
        "anchor_free": distances.log(),
        "anchor_free_linear": distances,
        "anchor_based": encode_deltas(anchors / stride, boxes, (10.0, 10.0, 5.0, 5.0)).float(),
    }[anchor_type]
    as_map = regression.t().reshape(1, 4, 3, 4)
    found = decode_boxes(as_map, anchors, Scale(), stride, anchor_type).flatten(2)[0].t()
    # Strides: rounding of exp() at ln(20), and of sums below 64.
    torch.testing.assert_close(found, boxes, rtol=0, atol=8 * 64 * EPS)


@given(regression=floats(-1e30, 1e30), stride=st.sampled_from([8, 128]))
def test_distances_stay_in_reach(regression, stride):
    """However large the output, the sides of a box are at most e^20 strides away."""
    output = torch.full((1, 4, 1, 1), regression)
    boxes = decode_boxes(output, level(1, 1, stride, True), Scale(), stride, "anchor_free")
    limit = torch.tensor(MAX_LOG_DISTANCE).exp() + 1
    assert (boxes.abs() <= limit).all()


@given(
    boxes=grid_boxes(),
    width=st.integers(1, 500),
    height=st.integers(1, 500),
    flipped=st.booleans(),
)
def test_frames_of_views(boxes, width, height, flipped):
    """Mirroring twice is the identity, and so is a change of the size by 2 and back."""
    found = ImageDetections(boxes, torch.ones(len(boxes)), torch.zeros(len(boxes)).long())
    size, twice = (height, width), (2 * height, 2 * width)
    there = to_frame(found, size, flipped, twice)
    back = to_frame(there, twice, flipped, size)
    assert torch.equal(back.boxes, boxes)
    assert (there.boxes[:, 2:] >= there.boxes[:, :2]).all()
