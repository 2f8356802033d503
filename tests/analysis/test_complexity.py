"""tools/model_info.py: what it counts, by hand and against the paper's Table 1."""

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from tests.helpers import CONFIGS, load_program, published_cfg
from tood.modeling.layers import ModulatedDeformConv


@pytest.fixture(scope="module")
def program():
    return load_program("tood/analysis/complexity.py")


def test_operations_by_hand(program):
    """3x3, 4 to 8 channels, 5x6 cells; bias; normalization; a matrix product."""
    x = torch.randn(1, 4, 5, 6)
    conv = nn.Conv2d(4, 8, 3, padding=1)
    assert program.count_flops(conv, x) == {"conv": 4 * 8 * 9 * 30, "bias": 8 * 30}
    grouped = nn.Conv2d(4, 8, 3, padding=1, groups=2, bias=False)
    assert program.count_flops(grouped, x) == {"conv": 4 * 8 * 9 * 30 / 2}
    assert program.count_flops(nn.GroupNorm(2, 4), x) == {"norm": 2 * 4 * 30}
    assert program.count_flops(nn.BatchNorm2d(4).eval(), x) == {"norm": 2 * 4 * 30}


def test_deformable_convolution_counts_as_a_convolution(program):
    """The same product as a plain one, and the convolution that predicts the offsets."""
    counts = program.count_flops(
        ModulatedDeformConv(4, 8, deform_groups=2), torch.randn(1, 4, 5, 6)
    )
    assert counts["matmul"] == 4 * 8 * 9 * 30
    assert counts["conv"] == 4 * (3 * 2 * 9) * 9 * 30 and counts["bias"] == 3 * 2 * 9 * 30


def test_head_of_the_paper(program):
    """4.82 M parameters, 100.79 G at 1280x800 (Table 1, T-head)."""
    model = build_model(published_cfg("TOOD-R50-1x")).eval()
    counts = program.count_parts(model, (1280, 800))["head"]
    assert round(sum(counts.values()) / 1e9, 2) == 100.79
    assert round(counts["conv"] / 1e9, 3) == 100.693
    assert round(counts["bias"] / 1e9, 3) == 0.005
    assert program.count_parameters(model.head) == (4_823_790, 4_823_790)
    assert program.count_parameters(model) == (32_200_494, 31_975_150)


def test_training_counts_what_is_frozen_once(program, tiny_cfg):
    tiny_cfg.MODEL.BACKBONE.FREEZE_AT = 2
    frozen = build_model(tiny_cfg)
    tiny_cfg.MODEL.BACKBONE.FREEZE_AT = 0
    free = build_model(tiny_cfg)
    once = program.count_parts(free, (64, 64))["model"]["conv"]
    assert program.count_training_flops(free, (64, 64))["conv"] == 3 * once
    stem = 64 * 3 * 49 * 32 * 32 + 4 * 64 * 64 * 9 * 16 * 16  # and both blocks of res2
    assert program.count_training_flops(frozen, (64, 64))["conv"] == 3 * once - 2 * stem


def test_table(program, monkeypatch, capsys):
    """Parts sum up to the model, and a size that is no multiple of 32 is padded."""
    config = str(CONFIGS / "quickstart" / "TOOD-R18-shapes.yaml")
    monkeypatch.setattr("sys.argv", ["model_info.py", config, "--size", "100x70"])
    program.main()
    lines = capsys.readouterr().out.splitlines()
    assert "TOOD-R18-shapes, 100x70" in lines
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in lines if "|" in line}
    values = {name: [float(x) for x in rows[name]] for name in ("backbone", "FPN", "head", "model")}
    for column in range(5):
        parts = sum(values[name][column] for name in ("backbone", "FPN", "head"))
        assert parts == pytest.approx(values["model"][column], abs=2e-3)
