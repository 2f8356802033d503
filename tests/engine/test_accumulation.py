"""Gradient accumulation: a batch in parts has the gradient of the whole batch."""

import copy

import pytest
import torch
import torch.multiprocessing as mp
from detectron2.engine import AMPTrainer, SimpleTrainer
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import nn

from tests.engine.helpers import read_metrics, train_without_tests
from tests.helpers import ROOT
from tood.config.imports import import_custom
from tood.engine import Trainer, TrainingDivergedError
from tood.engine.accumulation import GradientAccumulator, accumulate_gradients, split_batch
from tood.errors import ConfigError
from tood.modeling import visualization
from tood.modeling.normalizers import BatchParts
from tood.modeling.structures import LossSum

# Each image has another number of GT boxes, so that no two parts have the same normalizers.
BOXES = [
    [[4.0, 6.0, 50.0, 40.0]],
    [],
    [[10.0, 20.0, 60.0, 62.0], [2.0, 2.0, 20.0, 30.0], [30.0, 5.0, 62.0, 44.0]],
    [[0.0, 0.0, 64.0, 64.0], [40.0, 40.0, 52.0, 50.0]],
]


@pytest.fixture
def small_cfg(tiny_cfg):
    return make_small(tiny_cfg)


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


def parallel_worker(rank, cfg, batch, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2
    )
    torch.manual_seed(0)
    module = build_model(make_small(cfg)).train()
    model = nn.parallel.DistributedDataParallel(module, broadcast_buffers=False)
    buckets, forwards = [], []
    handle = module.register_forward_hook(lambda *_: forwards.append(len(buckets)))

    def hook(state, bucket):
        buckets.append(bucket.index())
        work = torch.distributed.all_reduce(bucket.buffer().div_(2), async_op=True).get_future()
        return work.then(lambda result: result.value()[0])

    model.register_comm_hook(None, hook)
    result = {}
    for phase in ("warmup", "aligned"):
        module.set_phase(phase)
        buckets.clear(), forwards.clear()
        result[phase] = gradients(model, batch[rank * 2 : rank * 2 + 2], 2)
        result[phase] += (list(forwards), len(buckets))
    handle.remove()
    torch.save(result, f"{folder}/{rank}.pth")
    torch.distributed.destroy_process_group()


def test_two_processes(tiny_cfg, make_input, tmp_path):
    """Two parts in each have the gradient of one batch; it is exchanged once, at the end."""
    batch = build_batch(make_input)
    mp.spawn(parallel_worker, (tiny_cfg, batch, str(tmp_path)), nprocs=2)
    torch.manual_seed(0)
    model = build_model(make_small(tiny_cfg)).train()
    for phase in ("warmup", "aligned"):
        found = [torch.load(tmp_path / f"{rank}.pth")[phase] for rank in (0, 1)]
        model.set_phase(phase)
        expected, losses = gradients(model, batch, 1)
        for part_gradients, _, before, exchanged in found:
            assert_equal_gradients(
                {name.removeprefix("module."): g for name, g in part_gradients.items()},
                expected,
                FLOAT32,
            )
            assert before == [0, 0] and exchanged > 0
        for name, loss in losses.items():
            mean = (found[0][1][name] + found[1][1][name]) / 2
            assert mean.item() == pytest.approx(loss.item(), rel=1e-6)


def test_training_in_parts_is_the_training_of_the_whole(quick_cfg, tmp_path):
    """Over the switch of the phase, with clipping and an average; all count optimizer steps."""
    quick_cfg.SOLVER.IMS_PER_BATCH, quick_cfg.SOLVER.CLIP_GRADIENTS.ENABLED = 4, True
    quick_cfg.SOLVER.EMA.ENABLED = True
    weights, metrics = [], []
    for parts in (1, 2, 4):
        quick_cfg.SOLVER.ACCUMULATE = parts
        quick_cfg.OUTPUT_DIR = str(tmp_path / str(parts))
        trainer = train_without_tests(quick_cfg)
        assert trainer.iter == quick_cfg.SOLVER.MAX_ITER
        weights.append(flat_weights(trainer.model))
        metrics.append(read_metrics(tmp_path / str(parts))[-1])
    torch.manual_seed(0)
    change = (weights[0] - flat_weights(Trainer(quick_cfg).model)).norm()
    for other, line in zip(weights[1:], metrics[1:], strict=True):
        assert (other - weights[0]).norm() < 1e-3 * change
        assert line["iteration"] == metrics[0]["iteration"]
        assert line["total_loss"] == pytest.approx(metrics[0]["total_loss"], rel=1e-4)


def flat_weights(model):
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])


def test_number_of_parts_may_change_at_a_resume(quick_cfg, caplog):
    quick_cfg.SOLVER.ACCUMULATE = 2
    train_without_tests(quick_cfg, until=3)
    quick_cfg.SOLVER.ACCUMULATE = 1
    trainer = train_without_tests(quick_cfg, resume=True)
    assert trainer.iter == quick_cfg.SOLVER.MAX_ITER
    assert "ACCUMULATE" not in caplog.text


def test_divergence_is_found_in_any_part(quick_cfg):
    quick_cfg.SOLVER.ACCUMULATE = 2
    trainer = Trainer(quick_cfg)
    forward = trainer.model.forward
    calls = []

    def diverge(batch):
        calls.append(len(batch))
        return {name: loss * float("nan") for name, loss in forward(batch).items()}

    trainer.model.forward = diverge
    with pytest.raises(TrainingDivergedError, match="SOLVER.BASE_LR"):
        trainer.train()
    assert calls == [1, 1]


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


def amp_trainer(model, batch, scale):
    """detectron2's AMP trainer, whose own step needs a GPU."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000)
    trainer = AMPTrainer(model, [batch] * 2, optimizer, grad_scaler=scaler)
    trainer.precision = torch.bfloat16
    return trainer


@pytest.mark.parametrize("phase", ["warmup", "aligned"])
def test_loss_scale(small_cfg, make_input, phase):
    """The step is that without a loss scale, and an infinite gradient skips it."""
    batch = build_batch(make_input)
    states = []
    for scale in (1.0, 1024.0, 2.0**127):
        torch.manual_seed(0)
        model = build_model(small_cfg).train()
        model.set_phase(phase)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        trainer = amp_trainer(model, batch, scale)
        with EventStorage(0):
            GradientAccumulator(trainer, 2).run_step(0)
        states.append(model.state_dict())
        assert trainer.grad_scaler.get_scale() == (scale / 2 if scale > 1024 else scale)
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-4, atol=1e-6)
        assert torch.equal(states[2][name], before[name])


def test_images_have_to_divide_into_parts(quick_cfg):
    quick_cfg.SOLVER.ACCUMULATE = 3
    with pytest.raises(ConfigError, match=r"2 images on each GPU.*3 parts \(SOLVER.ACCUMULATE\)"):
        Trainer(quick_cfg)
    with pytest.raises(ConfigError, match="A batch of 4 images"):
        split_batch([1, 2, 3, 4], 3)
    quick_cfg.SOLVER.ACCUMULATE = 0
    with pytest.raises(ConfigError, match="SOLVER.ACCUMULATE"):
        Trainer(quick_cfg)


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
