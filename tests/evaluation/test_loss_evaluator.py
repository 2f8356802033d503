"""The losses on a test set are those of training, and computing them leaves no trace."""

import pytest
import torch
from detectron2.evaluation import inference_on_dataset
from detectron2.modeling import build_model
from torch import nn

from tood.errors import ConfigError
from tood.evaluation import LossEvaluator


@pytest.fixture
def model(tiny_cfg):
    tiny_cfg.MODEL.TOOD.HEAD.NUM_CONVS = 1
    return build_model(tiny_cfg)


@pytest.fixture
def images(make_input):
    """Four images of one size: two boxes, none, one, three."""
    box = [(4.0, 6.0, 50.0, 40.0), (20.0, 20.0, 60.0, 62.0), (8.0, 30.0, 40.0, 60.0)]
    return [
        make_input(64, 64, box[:count], [1, 2, 0][:count]) for count in (2, 0, 1, 3)
    ]  # fmt: skip


def run(model, batches) -> dict[str, float]:
    return inference_on_dataset(model, batches, LossEvaluator(model))["validation"]


def training_losses(model, batch) -> dict[str, float]:
    model.train()
    losses = {name: float(loss) for name, loss in model(batch).items()}
    return {"total_loss": sum(losses.values()), **losses}


@pytest.mark.parametrize("phase", ["warmup", "aligned"])
def test_equals_training_of_one_batch(model, images, phase):
    """In batches of any size: also images without ground truth count with their background."""
    model.set_phase(phase)
    expected = training_losses(model, images)
    assert expected["loss_box_reg"] > 0
    for size in (1, 2, 4):
        batches = [images[i : i + size] for i in range(0, 4, size)]
        assert run(model, batches) == pytest.approx(expected, rel=1e-5), size


def test_no_ground_truth_at_all(model, images):
    """The normalizer is at least 1, as in training."""
    model.set_phase("aligned")
    expected = training_losses(model, images[1:2])
    assert run(model, [images[1:2]]) == pytest.approx(expected, rel=1e-5)
    assert expected["loss_box_reg"] == 0 and expected["loss_cls"] > 0


@pytest.mark.parametrize("training", [True, False])
def test_leaves_no_trace(model, images, training):
    model.set_phase("aligned")
    training_losses(model, images[:1])
    model.train(training)
    statistics = model.assignment_statistics.state_dict()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    run(model, [images])
    assert model.assignment_statistics.state_dict() == statistics != {"counts": []}
    assert model.training is training and model.phase == "aligned"
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert not model.head._forward_hooks


def test_processes_share_the_images(model, images, monkeypatch):
    """3 images in one process and 1 in the other: the mean is that over all images."""
    model.set_phase("aligned")
    expected = run(model, [[x] for x in images])
    parts = []
    monkeypatch.setattr(
        "tood.evaluation.loss_evaluator.comm.gather", lambda part: parts.append(part) or parts
    )
    run(model, [[x] for x in images[:3]])
    assert run(model, [images[3:]]) == pytest.approx(expected, rel=1e-6)


def test_other_models_have_no_losses():
    with pytest.raises(ConfigError, match="the losses of Linear cannot be computed"):
        LossEvaluator(nn.Linear(1, 1))
