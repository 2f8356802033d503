"""Gradient accumulation in trainings: processes, the loss scale, errors, a resume."""

from contextlib import nullcontext

import pytest
import torch
import torch.multiprocessing as mp
from detectron2.engine import AMPTrainer
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import nn

from tests.engine.helpers import read_metrics, train_without_tests
from tests.engine.parts import FLOAT32, assert_equal_gradients, build_batch, gradients, make_small
from tood.engine import Trainer, TrainingDivergedError
from tood.engine.accumulation import GradientAccumulator, accumulate_gradients, split_batch
from tood.errors import ConfigError


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


@pytest.mark.slow
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
    quick_cfg.SOLVER.IMS_PER_BATCH = 4
    clip = quick_cfg.SOLVER.CLIP_GRADIENTS
    # So small that nearly all gradients are cut: those of the parts would be cut at other values.
    clip.ENABLED, clip.CLIP_TYPE, clip.CLIP_VALUE = True, "value", 1e-3
    quick_cfg.SOLVER.EMA.ENABLED = True
    quick_cfg.SOLVER.BASE_LR = 0.0001  # a large one amplifies rounding
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


@pytest.mark.parametrize("phase", ["warmup", "aligned"])
def test_autocast(small_cfg, make_input, phase):
    """Parts differ less from the whole batch than autocast does from float32."""
    model = build_model(small_cfg).train()
    model.set_phase(phase)
    batch = build_batch(make_input)
    exact = flat_gradient(model, [batch], nullcontext)
    whole, parts = (
        flat_gradient(model, split_batch(batch, n), lambda: torch.autocast("cpu", torch.bfloat16))
        for n in (1, 4)
    )
    assert 0 < (parts - whole).norm() < (whole - exact).norm()


def flat_gradient(model, parts, autocast):
    model.zero_grad()
    accumulate_gradients(model, parts, autocast=autocast)
    return torch.cat([p.grad.flatten().double() for p in model.parameters() if p.grad is not None])


def test_images_have_to_divide_into_parts(quick_cfg):
    quick_cfg.SOLVER.ACCUMULATE = 3
    with pytest.raises(ConfigError, match=r"2 images on each GPU.*3 parts \(SOLVER.ACCUMULATE\)"):
        Trainer(quick_cfg)
    with pytest.raises(ConfigError, match="A batch of 4 images"):
        split_batch([1, 2, 3, 4], 3)
    quick_cfg.SOLVER.ACCUMULATE = 0
    with pytest.raises(ConfigError, match="SOLVER.ACCUMULATE"):
        Trainer(quick_cfg)
