"""docs/reuse.md: its examples run, and its table points to what is there."""

import ast
import re

import pytest
import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from tests.helpers import ROOT

TEXT = (ROOT / "docs" / "reuse.md").read_text()
RETINANET, PLAIN_LOOP = re.findall(r"```python\n(.*?)```", TEXT, re.S)


def run(code: str) -> dict:
    names = {"__name__": "example"}
    exec(compile(code, "docs/reuse.md", "exec"), names)
    return names


def test_t_head_in_retinanet(monkeypatch):
    """It trains, every part of T-head gets a gradient, and it detects."""
    monkeypatch.chdir(ROOT)
    torch.manual_seed(0)
    model = run(RETINANET)["model"]
    instances = Instances((96, 128))
    instances.gt_boxes = Boxes(torch.tensor([[10.0, 12.0, 70.0, 80.0]]))
    instances.gt_classes = torch.tensor([2])
    inputs = [{"image": torch.rand(3, 96, 128) * 255, "instances": instances}]
    with EventStorage():  # RetinaNet logs while it trains
        losses = model.train()(inputs)
    assert set(losses) == {"loss_cls", "loss_box_reg"}
    sum(losses.values()).backward()
    gradients = {name: p.grad for name, p in model.head.named_parameters()}
    assert all(g is not None and torch.isfinite(g).all() for g in gradients.values())
    assert gradients["t_head.inter_convs.0.weight"].abs().max() > 0
    model.eval().test_score_thresh = 0.0
    with torch.no_grad():
        found = model(inputs)[0]["instances"]
    assert len(found) and found.pred_classes.max() < 3
    assert torch.isfinite(found.pred_boxes.tensor).all()


def test_plain_loop():
    """The loss falls, and both objects are found where they are."""
    names = run(PLAIN_LOOP)
    losses = names["losses"]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    boxes, scores = names["boxes"].detach(), names["scores"].detach()
    for box, label in zip(names["gt_boxes"], names["gt_classes"], strict=True):
        best = boxes[scores[:, label].argmax()]
        assert (best - box).abs().max() < 6, (best, box)


ROWS = re.findall(r"^\| (\(.*?|section.*?) \| .*? \| (.*) \|$", TEXT, re.M)


@pytest.mark.parametrize("equation, where", ROWS, ids=[row[0] for row in ROWS])
def test_table_points_to_what_is_there(equation, where):
    """Each file's names are defined in it: functions, classes, or attributes."""
    found = re.findall(
        r"`(tood/[\w/]+\.py)`: ((?:[^`]*`\w+`)+?)(?=; `tood|; read|$|; the|[;,] the)", where
    )
    assert found, where
    for path, names in found:
        tree = ast.walk(ast.parse((ROOT / path).read_text()))
        defined = {getattr(node, "name", getattr(node, "attr", None)) for node in tree}
        for name in re.findall(r"`(\w+)`", names):
            assert name in defined, f"{name} is not in {path}"


def test_every_equation_has_a_row():
    numbers = {int(n) for equation, _ in ROWS for n in re.findall(r"\((\d+)\)", equation)}
    assert numbers == set(range(1, 13))
