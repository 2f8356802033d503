"""t = s^alpha * u^beta, and what overlaps of other kinds give for useless boxes."""

import pytest
import torch

from tood.modeling.assigners.alignment_metric import IOU_FUNCTIONS, alignment_metric


@pytest.mark.parametrize("exponent", [0, 0.5, *range(1, 11), 2.5, 6.0])
def test_powers(exponent):
    x = torch.linspace(0, 1, 11, dtype=torch.float64)
    ones = torch.ones_like(x)
    torch.testing.assert_close(alignment_metric(x.clone(), ones, exponent, 1), x**exponent)
    torch.testing.assert_close(alignment_metric(ones.clone(), x, 1, exponent), x**exponent)


def test_both_factors():
    t = alignment_metric(torch.tensor([0.5]), torch.tensor([0.8]), 1.0, 6.0)
    assert t.item() == pytest.approx(0.5 * 0.8**6)


@pytest.mark.parametrize("kind", ["giou", "diou", "ciou"])
def test_nan_is_worth_nothing(kind):
    box = torch.tensor([[0.0, 0.0, float("nan"), 10.0]])
    assert IOU_FUNCTIONS[kind](torch.tensor([[0.0, 0.0, 10.0, 10.0]]), box).item() == 0
