"""Gradient accumulation: a batch in parts has the gradient of the whole batch."""

import copy

import pytest
import torch
from detectron2.engine import SimpleTrainer
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import nn

from tests.engine.parts import FLOAT32, assert_equal_gradients, build_batch, gradients
from tood.engine.accumulation import GradientAccumulator, accumulate_gradients, split_batch
from tood.modeling import visualization
from tood.modeling.normalizers import BatchParts
from tood.modeling.structures import LossSum


@pytest.mark.parametrize("phase", ["warmup", "aligned"])
@pytest.mark.parametrize("num_parts", [2, 4])
def test_gradient_of_the_whole_batch(small_cfg, make_input, phase, num_parts):
    model = build_model(small_cfg).train()
    model.set_phase(phase)
    batch = build_batch(make_input)
    expected, losses = gradients(model, batch, 1)
    found, sums = gradients(model, batch, num_parts)
    assert_equal_gradients(found, expected, FLOAT32)
    exact = copy.deepcopy(model).double()
    assert_equal_gradients(gradients(exact, batch, num_parts)[0], gradients(exact, batch, 1)[0])
    assert sums.keys() == losses.keys()
    for name, loss in losses.items():
        assert sums[name].item() == pytest.approx(loss.item(), rel=1e-6), name
    # An average of the parts, each with its own normalizers, is something else.
    model.zero_grad()
    for part in split_batch(batch, num_parts):
        (sum(model(part).values()) / num_parts).backward()
    naive = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    with pytest.raises(AssertionError):
        assert_equal_gradients(naive, expected, 0.01)


@pytest.mark.parametrize(
    "options",
    [
        ["MODEL.TOOD.HEAD.NAME", "ParallelHead", "MODEL.TOOD.PARALLEL_HEAD.CENTERNESS", True],
        ["MODEL.TOOD.WARMUP.CRITERION", "QualityFocalCriterion"],
        ["MODEL.TOOD.WARMUP.CRITERION", "FoveaBoxCriterion"],
        ["MODEL.TOOD.WARMUP.CRITERION", "FocalCriterion"],
    ],
    ids=["centerness", "QFL", "FoveaBox", "focal"],
)
def test_every_criterion_in_float64(small_cfg, make_input, options):
    """In float64, because float32 rounds as much as the tolerance."""
    if "ParallelHead" in options:
        options = [*options, "MODEL.TOOD.ALIGNED.CRITERION", "CenternessFocalCriterion"]
    small_cfg.merge_from_list(options)
    model = build_model(small_cfg).double().train()
    model.set_phase("warmup")
    batch = build_batch(make_input)
    expected, _ = gradients(model, batch, 1)
    found, _ = gradients(model, batch, 4)
    assert_equal_gradients(found, expected)


@pytest.mark.parametrize("boxes", [[[]] * 4, [[], [], [], [[30.0, 30.0, 30.5, 30.5]]]])
def test_floor_of_the_normalizers(small_cfg, make_input, boxes):
    """It is that of the batch: not every part is divided by 1."""
    model = build_model(small_cfg).train()
    model.set_phase("aligned")
    batch = build_batch(make_input, boxes)
    expected, _ = gradients(model, batch, 1)
    found, _ = gradients(model, batch, 4)
    assert_equal_gradients(found, expected, FLOAT32)


def test_parts_below_the_floor():
    """Normalizers of 0.6 and 0.7 are 1.3 together, though each of them is below 1."""
    parts = BatchParts(2)
    divisors = []
    for _, own in zip(parts, (0.6, 0.7), strict=False):
        shared = torch.tensor(own)
        sums = {"a": LossSum(torch.tensor(1.0), shared), "b": LossSum(torch.tensor(1.0), shared)}
        divisors.append(parts.normalizers(sums))
    assert divisors[1]["a"].item() == pytest.approx(1.3)
    corrected = divisors[0]["a"] / parts.corrections["a"]
    assert corrected.item() == pytest.approx(1.3)
    assert parts.groups == [("a", "b")]


def test_floor_is_that_of_the_mean_over_processes(monkeypatch):
    """1.5 in this process and none in another are 0.75 on average, so 1 is divided by."""
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
    other = []
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda x: x.add_(other[-1]))
    for others, expected in ((0.0, 1.0), (2.5, 2.0)):
        other.append(others)
        parts = BatchParts(2)
        for _, own in zip(parts, (0.6, 0.9), strict=False):
            divisors = parts.normalizers({"a": LossSum(torch.tensor(1.0), torch.tensor(own))})
        assert divisors["a"].item() == pytest.approx(expected)
        assert parts.corrections["a"].item() == pytest.approx(64 / expected)


def test_parts_need_the_same_losses():
    parts = BatchParts(2)
    first, second = iter(parts), torch.tensor(1.0)
    next(first)
    parts.normalizers({"a": LossSum(second, second)})
    next(first)
    with pytest.raises(RuntimeError, match="same losses"):
        parts.normalizers({"b": LossSum(second, second)})


class Regression(nn.Module):
    """Has no core: the mean of its losses over the parts is the loss of the batch."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, batch):
        return {"loss": self.layer(torch.stack(batch)).square().mean()}


def test_other_models_average_their_losses():
    torch.manual_seed(0)
    model, batch = Regression(), list(torch.randn(6, 3))
    expected, losses = gradients(model, batch, 1)
    found, sums = gradients(model, batch, 3)
    assert_equal_gradients(found, expected)
    assert sums["loss"].item() == pytest.approx(losses["loss"].item())


class TwoLosses(nn.Module):
    """A detector with a loss that has no normalizer, as in a model with several parts."""

    def __init__(self, detector):
        super().__init__()
        self.detector = detector

    def forward(self, batch):
        losses = self.detector(batch)
        weight = next(p for p in self.parameters() if p.requires_grad)
        losses["loss_other"] = (
            weight.square().mean() * torch.stack([x["image"].mean() for x in batch]).mean()
        )
        return losses


@pytest.mark.parametrize("phase", ["warmup", "aligned"])
def test_losses_of_other_parts_of_a_model_are_averaged(small_cfg, make_input, phase):
    model = TwoLosses(build_model(small_cfg)).train()
    model.detector.set_phase(phase)
    batch = build_batch(make_input)
    expected, losses = gradients(model, batch, 1)
    found, sums = gradients(model, batch, 2)
    assert_equal_gradients(found, expected, FLOAT32)
    assert sums["loss_other"].item() == pytest.approx(losses["loss_other"].item(), rel=1e-6)


def test_statistics_and_drawings_are_made_once(small_cfg, make_input, monkeypatch):
    """Of all parts, and of the first image."""
    small_cfg.VIS_PERIOD = 1
    model = build_model(small_cfg).train()
    model.set_phase("warmup")
    batch = build_batch(make_input)
    drawn = []
    monkeypatch.setattr(
        "tood.modeling.meta_arch.draw_training_image",
        lambda image, *_: drawn.append(image) or visualization.np.zeros((2, 2, 3), "uint8"),
    )
    values = []
    for num_parts in (1, 4):
        model.assignment_statistics.compute_and_reset()
        with EventStorage(19) as storage:
            gradients(model, batch, num_parts)
            values.append({k: v for k, v in storage.latest().items() if "assign/" in k})
    assert values[0] and values[0] == values[1]
    assert [image is batch[0]["image"] for image in drawn] == [True, True]


def test_model_is_as_before_after_an_error(small_cfg, make_input):
    model = build_model(small_cfg).train()
    batch = build_batch(make_input)
    del batch[3]["instances"]
    with pytest.raises(ValueError, match="instances"):
        accumulate_gradients(model, split_batch(batch, 2))
    assert model.batch_parts is None


def test_other_trainers_of_detectron2(make_input):
    """The accumulator uses no part of Trainer."""
    model = Regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [list(torch.randn(4, 3)) for _ in range(2)]
    accumulator = GradientAccumulator(SimpleTrainer(model, batches, optimizer), 2)
    with EventStorage(0) as storage:
        accumulator.run_step(0)
        assert storage.latest()["total_loss"][0] > 0
