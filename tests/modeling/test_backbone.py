"""The backbone's parts, and the published model as the config builds it."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import FPN, build_backbone, build_model
from torch import nn

from tests.helpers import CONFIGS
from tood import add_tood_config
from tood.modeling.backbone import FrozenStatsBatchNorm2d, P6P7TopBlock


def count(parameters) -> int:
    return sum(p.numel() for p in parameters)


@pytest.fixture(scope="module")
def r50():
    cfg = get_cfg()
    add_tood_config(cfg)
    cfg.merge_from_file(str(CONFIGS / "TOOD-R50-1x.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    return build_model(cfg)


def test_parameters_of_the_published_model(r50):
    """31.98 M trainable, Table 1: stem and first stage frozen, all other scales trainable."""
    assert count(p for p in r50.parameters() if p.requires_grad) == 31_975_150
    assert count(r50.head.parameters()) == 4_823_790


def test_normalization_of_the_published_model(r50):
    bottom_up = r50.backbone.bottom_up
    assert isinstance(bottom_up.stem.conv1.norm, FrozenBatchNorm2d)
    assert isinstance(bottom_up.res2[0].conv1.norm, FrozenBatchNorm2d)
    for stage in (bottom_up.res3, bottom_up.res4, bottom_up.res5):
        for module in stage.modules():
            assert not isinstance(module, (nn.BatchNorm2d, FrozenBatchNorm2d))
    norm = bottom_up.res3[0].conv1.norm
    assert isinstance(norm, FrozenStatsBatchNorm2d)
    assert norm.weight.requires_grad and norm.bias.requires_grad
    assert not any(name.endswith("num_batches_tracked") for name in r50.state_dict())


def test_stride_is_in_the_3x3_convolution(r50):
    block = r50.backbone.bottom_up.res3[0]
    assert block.conv1.stride == (1, 1) and block.conv2.stride == (2, 2)


def test_fpn_starts_like_the_references(r50):
    """Xavier: bound sqrt(6 / (fan in + fan out)); detectron2's would be sqrt(3 / fan in)."""
    lateral = r50.backbone.fpn_lateral5  # 2048 to 256 channels
    bound = (6 / (2048 + 256)) ** 0.5
    assert 0.99 * bound < lateral.weight.abs().max() <= bound
    assert (lateral.bias == 0).all()


def test_frozen_statistics_by_batch_norm_in_eval():
    bn = nn.BatchNorm2d(6)
    for tensor in (bn.weight.data, bn.bias.data, bn.running_mean):
        tensor.normal_()
    bn.running_var.uniform_(0.5, 2)
    ours = FrozenStatsBatchNorm2d.convert(bn).train()
    x = torch.randn(3, 6, 4, 5)
    before = ours.running_mean.clone()
    torch.testing.assert_close(ours(x), bn.eval()(x))
    assert torch.equal(ours.running_mean, before)
    ours(x).sum().backward()
    assert (ours.weight.grad != 0).all() and (ours.bias.grad != 0).all()


def test_top_block_has_no_relu_before_p7():
    block = P6P7TopBlock(4, 4)
    p5 = torch.randn(1, 4, 8, 8)
    p6, p7 = block(p5)
    assert p6.min() < 0
    torch.testing.assert_close(p6, block.p6(p5))
    torch.testing.assert_close(p7, block.p7(p6))
    assert p6.shape[-2:] == (4, 4) and p7.shape[-2:] == (2, 2)


def test_levels_and_strides(r50):
    shapes = r50.backbone.output_shape()
    assert {k: v.stride for k, v in shapes.items()} == {
        "p3": 8, "p4": 16, "p5": 32, "p6": 64, "p7": 128,
    }  # fmt: skip
    features = r50.backbone(torch.rand(1, 3, 64, 96))
    assert [tuple(features[f"p{i}"].shape[-2:]) for i in range(3, 8)] == [
        (8, 12), (4, 6), (2, 3), (1, 2), (1, 1),
    ]  # fmt: skip
    anchors = r50.anchor_generator([features[f"p{i}"] for i in range(3, 8)])
    # Centered on the cell's corner, side of 8 strides.
    assert anchors[0].tensor[:2].tolist() == [[-32, -32, 32, 32], [-24, -32, 40, 32]]
    assert anchors[4].tensor.tolist() == [[-512, -512, 512, 512]]


def test_channels_last_inside_changes_nothing_outside(r50):
    """The layout is the backbone's own business: maps come out as detectron2's FPN has them."""
    x = torch.rand(2, 3, 64, 96)
    expected = FPN.forward(r50.backbone, x)
    for name, level in r50.backbone(x).items():
        assert level.is_contiguous()
        torch.testing.assert_close(level, expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", ["BN", "GN", "FrozenBN"])
def test_other_normalizations_are_detectron2s(tiny_cfg, norm):
    tiny_cfg.MODEL.RESNETS.NORM = norm
    backbone = build_backbone(tiny_cfg)
    assert not any(isinstance(m, FrozenStatsBatchNorm2d) for m in backbone.modules())
