"""Builders and comparisons that the tests of gradient accumulation share."""

import torch

from tests.helpers import ROOT
from tood.config.imports import import_custom
from tood.engine.accumulation import accumulate_gradients, split_batch

# Each image has another number of GT boxes, so that no two parts have the same normalizers.
BOXES = [
    [[4.0, 6.0, 50.0, 40.0]],
    [],
    [[10.0, 20.0, 60.0, 62.0], [2.0, 2.0, 20.0, 30.0], [30.0, 5.0, 62.0, 44.0]],
    [[0.0, 0.0, 64.0, 64.0], [40.0, 40.0, 52.0, 50.0]],
]


def make_small(cfg):
    import_custom(str(ROOT / "tests/tiny_backbone.py"))
    cfg.MODEL.BACKBONE.NAME = "build_tiny_backbone"
    cfg.MODEL.TOOD.HEAD.NUM_CONVS = 1
    return cfg


def build_batch(make_input, boxes=BOXES):
    generator = torch.Generator().manual_seed(3)
    batch = [make_input(64, 64, b, [i % 5 for i in range(len(b))]) for b in boxes]
    for x in batch:
        x["image"] = torch.rand(3, 64, 64, generator=generator) * 255
    return batch


def gradients(model, batch, num_parts):
    """Gradients and losses of a batch in parts; the model's own step for one part."""
    model.zero_grad()
    if num_parts == 1:
        losses = model(batch)
        sum(losses.values()).backward()
    else:
        losses = accumulate_gradients(model, split_batch(batch, num_parts))
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return found, {name: loss.detach() for name, loss in losses.items()}


def assert_equal_gradients(found, expected, tolerance=1e-6):
    """Up to a fraction of the norm, and of the largest value, of the whole gradient."""
    assert found.keys() == expected.keys()
    a, b = (torch.cat([g[n].flatten().double() for n in expected]) for g in (found, expected))
    assert (a - b).norm() <= tolerance * b.norm(), (a - b).norm() / b.norm()
    assert (a - b).abs().max() <= tolerance * b.abs().max(), (a - b).abs().max() / b.abs().max()


# In float32, the same batch in another order is 1.5e-6 off.
FLOAT32 = 4e-6
