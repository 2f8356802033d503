"""DCNv2: the operator against torchvision's, the layer of the head, the block of the backbone."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from detectron2.modeling import build_backbone, build_model
from torch import nn

from tood.errors import ConfigError
from tood.modeling.layers import ModulatedDeformConv, deform_conv2d


def scene(
    channels=16, out_channels=12, groups=1, deform_groups=1, size=(9, 13), stride=1, spread=1.0
):
    """Arguments for the operator, all of them leaves."""
    height, width = (-(-side // stride) for side in size)
    shapes = {
        "x": (2, channels, *size),
        "offset": (2, 18 * deform_groups, height, width),
        "weight": (out_channels, channels // groups, 3, 3),
        "bias": (out_channels,),
        "mask": (2, 9 * deform_groups, height, width),
    }
    tensors = {name: torch.randn(shape) for name, shape in shapes.items()}
    tensors["offset"] *= spread
    tensors["mask"] = tensors["mask"].sigmoid()
    return {name: tensor.requires_grad_() for name, tensor in tensors.items()}


def assert_equal_to_torchvision(tensors, **geometry):
    """Output and the gradient of every argument, to 1e-4 of their largest value."""
    ours = deform_conv2d(**tensors, **geometry)
    renamed = {"input" if name == "x" else name: tensor for name, tensor in tensors.items()}
    theirs = torchvision.ops.deform_conv2d(**renamed, **geometry)
    leaves = [tensor for tensor in tensors.values() if tensor is not None]
    direction = torch.randn_like(ours)
    pairs = [(ours, theirs)]
    pairs += zip(
        torch.autograd.grad((ours * direction).sum(), leaves),
        torch.autograd.grad((theirs * direction).sum(), leaves),
        strict=True,
    )
    for actual, expected in pairs:
        tolerance = 1e-4 * expected.abs().max().item() + 1e-6
        torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


# 0: whole cells, where the derivative has two sides; 0.5: around them; 40: mostly far outside.
@pytest.mark.parametrize("spread", [0.0, 0.5, 3.0, 40.0, 1e9])
@pytest.mark.parametrize("size", [(9, 13), (1, 1), (1, 7), (8, 16), (33, 2)])
def test_borders_and_far_offsets(size, spread):
    assert_equal_to_torchvision(scene(size=size, deform_groups=2, spread=spread), padding=1)


@pytest.mark.parametrize("distance", [-1.0, 1.0, 2.0, -3.0])
def test_whole_offsets(distance):
    """Every sample on a cell or one cell outside: values, and the side of the derivative."""
    tensors = scene(size=(5, 6))
    tensors["offset"].data.fill_(distance)
    assert_equal_to_torchvision(tensors, padding=1)


@pytest.mark.parametrize("groups, deform_groups", [(1, 1), (1, 4), (4, 1), (16, 2)])
@pytest.mark.parametrize("stride, dilation", [(1, 1), (2, 1), (1, 2)])
def test_groups_strides_and_dilations(groups, deform_groups, stride, dilation):
    tensors = scene(
        channels=192, out_channels=64, groups=groups, deform_groups=deform_groups, stride=stride
    )
    assert_equal_to_torchvision(tensors, stride=stride, padding=dilation, dilation=dilation)


@pytest.mark.parametrize("form", ["sliced", "transposed", "channels_last"])
def test_inputs_that_are_not_contiguous(form):
    tensors = scene(size=(9, 9))
    x = tensors["x"].detach()
    tensors["x"] = {
        "sliced": torch.nn.functional.pad(x, (2, 3, 1, 1))[:, :, 1:-1, 2:-3],
        "transposed": x.transpose(2, 3),
        "channels_last": x.contiguous(memory_format=torch.channels_last),
    }[form].requires_grad_()
    assert_equal_to_torchvision(tensors, padding=1)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_output_has_the_layout_of_the_input(layout, groups):
    tensors = scene(groups=groups)
    x = tensors["x"].detach().contiguous(memory_format=layout)
    out = deform_conv2d(x, tensors["offset"], tensors["weight"], mask=tensors["mask"], padding=1)
    assert out.is_contiguous(memory_format=layout)


def test_kernels_that_are_not_square():
    tensors = scene(deform_groups=2)
    tensors["weight"] = torch.randn(12, 16, 1, 5, requires_grad=True)
    tensors["offset"] = torch.randn(2, 2 * 2 * 5, 9, 9, requires_grad=True)
    tensors["mask"] = torch.rand(2, 2 * 5, 9, 9, requires_grad=True)
    assert_equal_to_torchvision(tensors)


def test_empty_batch():
    tensors = {k: v[:0] if v.ndim == 4 and k != "weight" else v for k, v in scene().items()}
    assert deform_conv2d(**tensors, padding=1).shape == (0, 12, 9, 13)


@pytest.mark.parametrize(
    "name, shape",
    [("offset", (2, 18, 3, 3)), ("offset", (2, 17, 9, 13)), ("mask", (2, 9, 9, 12))],
)
def test_shapes_that_do_not_fit(name, shape):
    with pytest.raises(ValueError, match=rf"{name} has the shape \({shape[0]}, {shape[1]}"):
        deform_conv2d(**{**scene(), name: torch.zeros(shape)}, padding=1)
    with pytest.raises(ValueError, match="do not divide"):
        deform_conv2d(**{**scene(), "weight": torch.zeros(12, 5, 3, 3)}, padding=1)


@pytest.mark.parametrize("left_out", ["mask", "bias"])
def test_without_mask_or_bias(left_out):
    assert_equal_to_torchvision({**scene(), left_out: None}, padding=1)


def test_numerical_gradients():
    tensors = {k: v.detach().double() for k, v in scene(4, 3, size=(4, 5), spread=0.7).items()}
    arguments = [tensor.requires_grad_() for tensor in tensors.values()]
    assert torch.autograd.gradcheck(lambda *args: deform_conv2d(*args, padding=1), arguments)


def test_offsets_that_are_no_numbers_stay_in_their_cell():
    tensors = {name: tensor.detach() for name, tensor in scene().items()}
    clean = deform_conv2d(**tensors, padding=1)
    tensors["offset"][0, 0, 2, 3] = float("nan")
    tensors["offset"][0, 1, 4, 4] = float("inf")
    out = deform_conv2d(**tensors, padding=1)
    changed = (out != clean).any(dim=1).nonzero().tolist()
    assert set(map(tuple, changed)) <= {(0, 2, 3), (0, 4, 4)}


def randomize(conv: nn.Conv2d) -> None:
    nn.init.normal_(conv.weight, std=0.1)
    nn.init.normal_(conv.bias, std=0.5)


def test_layer_of_the_head():
    """Order of the 108 channels, 4 groups; and half of a plain convolution at the start."""
    conv = ModulatedDeformConv(8, 6, deform_groups=4)
    x = torch.randn(2, 8, 5, 7)
    torch.testing.assert_close(conv(x), F.conv2d(x, conv.weight, padding=1) / 2)
    randomize(conv.conv_offset)
    o1, o2, mask = conv.conv_offset(x).chunk(3, dim=1)
    expected = torchvision.ops.deform_conv2d(
        x, torch.cat([o1, o2], 1), conv.weight, padding=1, mask=mask.sigmoid()
    )
    torch.testing.assert_close(conv(x), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="do not divide"):
        ModulatedDeformConv(6, 6, deform_groups=4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_layer_of_another_precision(dtype):
    conv = ModulatedDeformConv(8, 6, deform_groups=2, norm=nn.GroupNorm(2, 6))
    randomize(conv.conv_offset)
    x = torch.randn(1, 8, 5, 7)
    expected = conv(x)
    out = conv.to(dtype)(x.to(dtype))
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), expected, rtol=0.05, atol=0.05)


@pytest.fixture
def deform_cfg(tiny_cfg):
    """A narrow ResNeXt-50 whose last three stages are deformable, for tests of a second."""
    resnets = tiny_cfg.MODEL.RESNETS
    resnets.DEPTH, resnets.RES2_OUT_CHANNELS = 50, 32
    resnets.NUM_GROUPS, resnets.WIDTH_PER_GROUP = 4, 2
    resnets.DEFORM_ON_PER_STAGE, resnets.DEFORM_MODULATED = [False, True, True, True], True
    tiny_cfg.MODEL.TOOD.HEAD.NUM_DCN = 2
    return tiny_cfg


def test_block_of_the_backbone(deform_cfg):
    """The names and shapes of detectron2's, and what torchvision's operator makes of them."""
    block = build_backbone(deform_cfg).bottom_up.res3[0]
    state = block.state_dict()
    shapes = {k: tuple(v.shape) for k, v in state.items() if k.startswith("conv2")}
    assert {k: shapes.pop(k) for k in list(shapes) if ".norm." not in k} == {
        "conv2.weight": (16, 4, 3, 3),
        "conv2_offset.weight": (27, 16, 3, 3),
        "conv2_offset.bias": (27,),
    }
    norm = ("weight", "bias", "running_mean", "running_var")
    assert shapes == {f"conv2.norm.{k}": (16,) for k in norm}
    assert not block.conv2_offset.weight.any() and not block.conv2_offset.bias.any()
    randomize(block.conv2_offset)
    x = torch.randn(1, 32, 12, 20)
    out = F.relu(block.conv1(x))
    first, second, mask = F.conv2d(out, *block.conv2_offset.parameters(), 2, 1).chunk(3, 1)
    out = torchvision.ops.deform_conv2d(
        out,
        torch.cat([first, second], 1),
        block.conv2.weight,
        stride=2,
        padding=1,
        mask=mask.sigmoid(),
    )
    expected = F.relu(block.conv3(F.relu(block.conv2.norm(out))) + block.shortcut(x))
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-4)


def test_only_the_chosen_stages_are_deformable(deform_cfg):
    deform_cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE = [False, False, True, True]
    names = dict(build_backbone(deform_cfg).bottom_up.named_modules())
    deformable = [name for name in names if name.endswith("conv2_offset")]
    assert {name.split(".")[0] for name in deformable} == {"res4", "res5"}
    assert len(deformable) == 6 + 3


@pytest.mark.parametrize("freeze_at, frozen", [(2, False), (3, True)])
def test_frozen_stages(deform_cfg, freeze_at, frozen):
    deform_cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    bottom_up = build_backbone(deform_cfg).bottom_up
    for parameter in bottom_up.res3.parameters():
        assert parameter.requires_grad != frozen
    assert all(parameter.requires_grad for parameter in bottom_up.res4.parameters())


def test_dcn_v1(deform_cfg):
    deform_cfg.MODEL.RESNETS.DEFORM_MODULATED = False
    deform_cfg.MODEL.RESNETS.DEFORM_NUM_GROUPS = 2
    block = build_backbone(deform_cfg).bottom_up.res4[1]
    assert block.conv2_offset.out_channels == 36
    randomize(block.conv2_offset)
    x = torch.randn(1, 128, 6, 7)
    out = F.relu(block.conv1(x))
    out = torchvision.ops.deform_conv2d(out, block.conv2_offset(out), block.conv2.weight, padding=1)
    expected = F.relu(block.conv3(F.relu(block.conv2.norm(out))) + x)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-4)


def test_groups_that_do_not_divide_are_refused(deform_cfg):
    deform_cfg.MODEL.RESNETS.DEFORM_NUM_GROUPS = 3
    with pytest.raises(
        ConfigError, match="DEFORM_NUM_GROUPS is 3, which does not divide the 16 channels"
    ):
        build_backbone(deform_cfg)


def test_blocks_without_a_bottleneck_are_refused(tiny_cfg):
    tiny_cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE = [False, False, False, True]
    with pytest.raises(ConfigError, match=r"DEFORM_ON_PER_STAGE.*ResNet-18"):
        build_backbone(tiny_cfg)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("phase", ["warmup", "aligned"])
def test_whole_model_trains_and_detects(deform_cfg, make_input, phase, dtype):
    """Forward and backward on the CPU, in float32 and under AMP; every parameter learns."""
    model = build_model(deform_cfg)
    model.set_phase(phase)
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        losses = model([make_input(), make_input(64, 96, (), ())])
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    model.eval()
    model.test_score_thresh = 0.0
    with (
        torch.no_grad(),
        torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None),
    ):
        (output,) = model([make_input()])
    instances = output["instances"]
    assert len(instances) and instances.scores.dtype == torch.float32
    assert instances.pred_boxes.tensor.isfinite().all()
