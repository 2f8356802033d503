"""Counts of parameters and FLOPs, by hand and against the paper's Table 1."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone, build_model
from torch import nn

from tests.analysis.cases import RETINANET
from tests.helpers import published_cfg, timm_cfg
from tood.analysis.complexity import (
    COLUMNS,
    FLOAT_FORMATS,
    count_flops,
    count_parameters,
    count_parts,
    count_training_flops,
    describe,
)
from tood.errors import ConfigError
from tood.modeling.layers import ModulatedDeformConv


def test_flops_by_hand():
    """3x3, 4 to 8 channels, 5x6 cells; bias; normalization; a matrix product."""
    x = torch.randn(1, 4, 5, 6)
    conv = nn.Conv2d(4, 8, 3, padding=1)
    assert count_flops(conv, x) == {"conv": 4 * 8 * 9 * 30, "bias": 8 * 30}
    grouped = nn.Conv2d(4, 8, 3, padding=1, groups=2, bias=False)
    assert count_flops(grouped, x) == {"conv": 4 * 8 * 9 * 30 / 2}
    assert count_flops(nn.GroupNorm(2, 4), x) == {"norm": 2 * 4 * 30}
    assert count_flops(nn.BatchNorm2d(4).eval(), x) == {"norm": 2 * 4 * 30}


def test_flops_of_transformers():
    """A linear layer with bias; products of 6 queries with 7 keys, and with their values."""
    assert count_flops(nn.Linear(4, 8), torch.randn(5, 4)) == {"matmul": 5 * 4 * 8, "bias": 5 * 8}
    assert count_flops(nn.Linear(4, 8, bias=False), torch.randn(5, 4)) == {"matmul": 5 * 4 * 8}

    class Attention(nn.Module):
        def forward(self, query, key, value):
            return nn.functional.scaled_dot_product_attention(query, key, value)

    shapes = (2, 3, 6, 8), (2, 3, 7, 8), (2, 3, 7, 5)
    counts = count_flops(Attention(), *map(torch.randn, shapes))
    assert counts == {"matmul": 2 * 3 * 6 * 7 * (8 + 5)}


@pytest.mark.parametrize("network, giga", [("ConvNeXt-T", 4.5), ("Swin-T", 4.5)])
def test_published_flops(network, giga):
    """At 224 pixels, as the papers count them; the classifier has 0.001 G."""
    pytest.importorskip("timm")
    cfg = timm_cfg(f"timm/TOOD-{network}-1x")
    counts = count_flops(build_backbone(cfg).bottom_up.eval(), torch.zeros(1, 3, 224, 224))
    assert round((counts["conv"] + counts["matmul"]) / 1e9, 1) == giga


def test_flops_of_a_deformable_convolution():
    """Those of a plain convolution, plus those that predict the offsets."""
    counts = count_flops(ModulatedDeformConv(4, 8, deform_groups=2), torch.randn(1, 4, 5, 6))
    assert counts["matmul"] == 4 * 8 * 9 * 30
    assert counts["conv"] == 4 * (3 * 2 * 9) * 9 * 30 and counts["bias"] == 3 * 2 * 9 * 30


def test_table_1_of_the_paper():
    """T-head has 4.82 M parameters, and 100.79 G at 1280x800."""
    model = build_model(published_cfg("TOOD-R50-1x")).eval()
    counts = count_parts(model, (1280, 800))["head"]
    assert round(sum(counts.values()) / 1e9, 2) == 100.79
    # The products with the stack of interactive features are traced as matrix products.
    assert round((counts["conv"] + counts["matmul"]) / 1e9, 3) == 100.693
    assert round(counts["bias"] / 1e9, 3) == 0.005
    assert count_parameters(model.head) == (4_823_790, 4_823_790)
    assert count_parameters(model) == (32_200_494, 31_975_150)


def test_training_flops_of_frozen_stages_count_once(tiny_cfg):
    tiny_cfg.MODEL.BACKBONE.FREEZE_AT = 2
    frozen = build_model(tiny_cfg)
    tiny_cfg.MODEL.BACKBONE.FREEZE_AT = 0
    trainable = build_model(tiny_cfg)
    once = count_parts(trainable, (64, 64))["model"]["conv"]
    assert count_training_flops(trainable, (64, 64))["conv"] == 3 * once
    stem = 64 * 3 * 49 * 32 * 32 + 4 * 64 * 64 * 9 * 16 * 16  # and both blocks of res2
    assert count_training_flops(frozen, (64, 64))["conv"] == 3 * once - 2 * stem


def test_parts_sum_up_to_the_model(tiny_cfg):
    rows = {name: values for name, *values in describe(build_model(tiny_cfg).eval(), (100, 70))}
    assert list(rows) == ["backbone", "FPN", "head", "model"]
    assert all(len(values) + 1 == len(COLUMNS) == len(FLOAT_FORMATS) for values in rows.values())
    for *parts, model in zip(*rows.values(), strict=True):
        assert sum(parts) == pytest.approx(model)


def test_sizes_are_padded_as_the_model_pads_them(tiny_cfg):
    """P6 and P7 need no more than the multiple of 32 that the FPN needs."""
    model = build_model(tiny_cfg).eval()
    assert count_parts(model, (60, 33)) == count_parts(model, (64, 64))


def test_model_without_a_dense_core(make_cfg):
    with pytest.raises(ConfigError, match="RetinaNet"):
        describe(build_model(make_cfg(*RETINANET)), (64, 64))


def test_model_without_a_head():
    """detectron2's default Faster R-CNN, smaller, has no ``head`` and no FPN."""
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    model = build_model(cfg)
    for count in (describe, count_parts, count_training_flops):
        with pytest.raises(ConfigError, match="Cannot count the FLOPs of GeneralizedRCNN"):
            count(model, (64, 64))
