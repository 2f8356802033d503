"""Deformable sampling and convolution equal torchvision's, wherever the samples are."""

import math

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.properties.strategies import fewer_examples, floats, generator, seeds, tensors, uniform
from tood.modeling.heads.task_alignment import align_boxes
from tood.modeling.layers import deform_conv2d, deform_sampling, dynamic_conv1x1
from tood.modeling.tracing import exporting

# In cells: exactly on cells and borders, between them, outside, and beyond any integer.
offsets = st.one_of(
    st.integers(-8, 8).map(float),
    st.integers(-8, 8).map(lambda x: x + 0.5),
    floats(-8, 8),
    floats(-1e4, 1e4),
    st.sampled_from([1e12, -1e12, 3e38, -3e38]),
)
sides = st.integers(1, 5)


def assert_same_function(ours: Tensor, theirs: Tensor, leaves: list[Tensor]) -> None:
    """Equal values, and equal gradients of all leaves, to the rounding of float64 sums."""
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    direction = uniform(0, *ours.shape, low=-1).double()
    gradients = [torch.autograd.grad((x * direction).sum(), leaves) for x in (ours, theirs)]
    for actual, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@given(data=st.data(), seed=seeds, height=sides, width=sides, channels=st.integers(1, 3))
def test_sampling_equals_torchvision(data, seed, height, width, channels):
    """The deformable convolution that both references call, with a 1x1 kernel of ones."""
    shift = data.draw(tensors((1, 2 * channels, height, width), offsets)).double().requires_grad_()
    values = uniform(seed, 1, channels, height, width, low=-50, high=50).double().requires_grad_()
    ones = values.new_ones(channels, 1, 1, 1)
    theirs = torchvision.ops.deform_conv2d(values, shift, ones)
    assert_same_function(deform_sampling(values, shift), theirs, [values, shift])


@given(data=st.data(), seed=seeds, height=sides, width=sides)
def test_samples_are_between_the_values(data, seed, height, width):
    """Interpolation never leaves the range of the map's values and the zeros around it."""
    shift = data.draw(tensors((1, 2, height, width), offsets))
    values = uniform(seed, 1, 1, height, width, low=-50, high=50)
    found = deform_sampling(values, shift)
    # Two roundings of a weighted mean.
    low, high = (x * (1 + 1e-6) for x in (values.amin().clamp(max=0), values.amax().clamp(min=0)))
    assert (found >= low).all() and (found <= high).all()


@given(seed=seeds, height=sides, width=sides, dy=st.integers(-6, 6), dx=st.integers(-6, 6))
def test_whole_offsets_move_the_map(seed, height, width, dy, dx):
    """Exactly, with zeros from outside."""
    values = uniform(seed, 1, 1, height, width)
    shift = torch.tensor([float(dy), float(dx)]).view(1, 2, 1, 1).expand(1, 2, height, width)
    expected = torch.zeros_like(values)
    for i in range(height):
        for j in range(width):
            if 0 <= i + dy < height and 0 <= j + dx < width:
                expected[0, 0, i, j] = values[0, 0, i + dy, j + dx]
    assert torch.equal(deform_sampling(values, shift), expected)


@given(data=st.data(), seed=seeds, height=sides, width=sides)
def test_aligned_boxes_are_not_inverted(data, seed, height, width):
    """Whatever the offsets, if the boxes were not inverted before."""
    shift = data.draw(tensors((1, 8, height, width), offsets))
    corner = uniform(seed, 1, 2, height, width, low=-20, high=20)
    boxes = torch.cat([corner, corner + uniform(seed + 1, 1, 2, height, width, high=20)], dim=1)
    found = align_boxes(boxes, shift)
    assert (found[:, 2:] >= found[:, :2]).all()


@st.composite
def convolutions(draw):
    """Arguments of a deformable convolution, in float64, and its stride, padding and dilation."""
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (2, 2), (1, 3)]))
    stride, dilation = draw(st.sampled_from([1, 2])), draw(st.sampled_from([1, 2]))
    padding = draw(st.integers(0, 2))
    height, width = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    out = [
        (side + 2 * padding - dilation * (k - 1) - 1) // stride + 1
        for side, k in zip((height, width), kernel, strict=True)
    ]
    # Maps that are smaller than the kernel have no output.
    out_height, out_width = (max(x, 1) for x in out)
    height += (out_height - out[0]) * stride
    width += (out_width - out[1]) * stride
    groups, deform_groups = draw(st.sampled_from([1, 2])), draw(st.sampled_from([1, 2]))
    points, seed = math.prod(kernel), draw(seeds)
    cells = (draw(st.sampled_from([0, 1, 2])), out_height, out_width)
    # Drawn offsets for a few samples, the same all over; others are random.
    few = draw(tensors(4, offsets)).double()
    number = cells[0] * 2 * deform_groups * points * out_height * out_width
    choice = torch.randint(0, 8, (number,), generator=generator(seed))
    spread = uniform(seed, number, low=-3, high=3).double()
    offset = torch.where(choice < 4, few[choice % 4], spread)
    tensors_ = {
        "x": uniform(seed + 1, cells[0], 4, height, width, low=-1).double(),
        "offset": offset.view(cells[0], 2 * deform_groups * points, out_height, out_width),
        "weight": uniform(seed + 2, 4, 4 // groups, *kernel, low=-1).double(),
        "bias": uniform(seed + 3, 4).double() if draw(st.booleans()) else None,
        "mask": None,
    }
    if draw(st.booleans()):
        shape = (cells[0], deform_groups * points, out_height, out_width)
        tensors_["mask"] = uniform(seed + 4, *shape).double()
    return tensors_, {"stride": stride, "padding": padding, "dilation": dilation}


@given(arguments=convolutions())
def test_convolution_equals_torchvision(arguments):
    inputs, geometry = arguments
    leaves = [x.requires_grad_() for x in inputs.values() if x is not None]
    renamed = {"input" if name == "x" else name: x for name, x in inputs.items()}
    theirs = torchvision.ops.deform_conv2d(**renamed, **geometry)
    assert_same_function(deform_conv2d(**inputs, **geometry), theirs, leaves)


class _Convolution(torch.nn.Module):
    def __init__(self, geometry: dict) -> None:
        super().__init__()
        self.geometry = geometry

    def forward(self, x, offset, weight):
        return deform_conv2d(x, offset, weight, **self.geometry)


@pytest.mark.filterwarnings("ignore")  # of torch.jit
@fewer_examples(4)
@given(arguments=convolutions())
def test_traced_gathers_equal_the_convolution(arguments):
    """What is exported for runtimes without a deformable convolution."""
    inputs, geometry = arguments
    example = tuple(inputs[name] for name in ("x", "offset", "weight"))
    with exporting("gather"):
        traced = torch.jit.trace(_Convolution(geometry), example, check_trace=False)
    expected = deform_conv2d(*example, **geometry)
    torch.testing.assert_close(traced(*example), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(seed=seeds, n=st.integers(1, 3), height=sides, width=sides)
def test_dynamic_convolution_is_a_matrix_product(dtype, seed, n, height, width):
    """One kernel per image. float32: sums of 5 products of numbers below 1."""
    x = uniform(seed, n, 5, height, width, low=-1).to(dtype)
    weight = uniform(seed + 1, n, 7, 5, low=-1).to(dtype)
    expected = torch.einsum("noc,nchw->nohw", weight.double(), x.double())
    found = dynamic_conv1x1(x, weight)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-6)
