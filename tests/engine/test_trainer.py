"""Training: the phase hook, real runs on the shapes, resume, several processes."""

import json
import logging
import os
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
import torch.multiprocessing as mp
from detectron2.engine import DefaultTrainer
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm
from torch import nn

from tood.data import setup_datasets
from tood.data.synthetic import write_dataset
from tood.engine import PhaseHook, Trainer, epochs_to_iters
from tood.engine.trainer import TrainingDivergedError
from tood.errors import ConfigError


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("shapes"), num_train=8, num_val=2, size=64)


@pytest.fixture
def run_cfg(tiny_cfg, shapes, tmp_path):
    """8 pictures, batches of 2, 1 epoch of warm-up: 4 iterations of 6."""
    cfg = tiny_cfg
    cfg.DATASETS.TRAIN_ANNOTATIONS, cfg.DATASETS.TEST_ANNOTATIONS = (
        str(shapes / f"{split}.json") for split in ("train", "val")
    )
    cfg.DATASETS.TRAIN_IMAGES = cfg.DATASETS.TEST_IMAGES = str(shapes / "images")
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (64,), 64
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS = 6, ()
    cfg.SOLVER.CHECKPOINT_PERIOD = 3
    cfg.TEST.EVAL_PERIOD = 0
    cfg.MODEL.TOOD.WARMUP.EPOCHS = 1
    cfg.OUTPUT_DIR = str(tmp_path)
    cfg.SEED = 1
    setup_datasets(cfg)
    return cfg


class Recorder:
    """A model that notes the phases it is set to."""

    def __init__(self):
        self.phase, self.calls = "warmup", []

    def set_phase(self, phase):
        self.phase = phase
        self.calls.append(phase)


def run_hook(hook, model, iterations, start=0):
    hook.trainer = SimpleNamespace(
        model=model, iter=start, start_iter=start, max_iter=10, storage=mock.Mock()
    )
    hook.before_train()
    for hook.trainer.iter in iterations:
        hook.before_step()
    return [call.args[1] for call in hook.trainer.storage.put_scalar.call_args_list]


@pytest.mark.parametrize(
    "epochs, images, batch, expected",
    [(4, 117266, 16, 29317), (4, 117266, 2, 234532), (0, 100, 8, 0), (1, 10, 4, 3), (4, 8, 8, 4)],
)
def test_length_of_the_warmup(epochs, images, batch, expected):
    assert epochs_to_iters(epochs, images, batch) == expected


def test_phase_at_every_iteration(caplog):
    caplog.set_level(logging.INFO, logger="tood")
    model = Recorder()
    scalars = run_hook(PhaseHook(3), model, range(6))
    assert model.calls == ["warmup"] * 3 + ["aligned"] * 3
    assert scalars == [0, 0, 0, 1, 1, 1]
    assert caplog.text.count("task alignment learning.") == 1  # the switch, once
    assert "until iteration 3 of 10" in caplog.text


@pytest.mark.parametrize("start, expected", [(2, "warmup"), (3, "aligned"), (7, "aligned")])
def test_first_step_after_a_resume(start, expected):
    model = Recorder()
    run_hook(PhaseHook(3), model, [start], start)
    assert model.calls == [expected]


def test_no_warmup(caplog):
    caplog.set_level(logging.INFO, logger="tood")
    model = Recorder()
    run_hook(PhaseHook(0), model, range(2))
    assert model.calls == ["aligned"] * 2
    assert "from the first iteration on" in caplog.text


def test_warmup_longer_than_training(caplog):
    run_hook(PhaseHook(10), Recorder(), [0])
    assert "never reaches task alignment learning" in caplog.text


def test_hook_sees_through_distributed_data_parallel():
    wrapped = SimpleNamespace(module=Recorder())
    run_hook(PhaseHook(1), wrapped, range(2))
    assert wrapped.module.calls == ["warmup", "aligned"]


def read_metrics(folder) -> list[dict]:
    return [json.loads(x) for x in (folder / "metrics.json").read_text().splitlines()]


def test_training_evaluation_and_files(run_cfg, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="tood")
    run_cfg.SOLVER.MAX_ITER = 20
    trainer = Trainer(run_cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert trainer.model.phase == "aligned"
    assert "until iteration 4 of 20" in caplog.text
    assert caplog.text.count("Iteration 4: task alignment learning") == 1
    merged = {k: v for row in read_metrics(tmp_path) for k, v in row.items()}
    assert {"total_loss", "loss_cls", "loss_box_reg", "phase_aligned", "bbox/AP"} <= set(merged)
    assert {"assign/pos_per_gt", "assign/gt_without_pos_frac"} <= set(merged)
    assert (tmp_path / "model_final.pth").is_file()
    assert any(f.name.startswith("events.out.tfevents") for f in tmp_path.iterdir())

    run_cfg.MODEL.WEIGHTS = str(tmp_path / "model_final.pth")
    results = Trainer.evaluate_checkpoint(run_cfg)
    again = Trainer.evaluate_checkpoint(run_cfg, resume=True)
    assert again["bbox"]["AP"] == results["bbox"]["AP"]
    assert results["bbox"]["AP"] == pytest.approx(merged["bbox/AP"], nan_ok=True)


@pytest.mark.parametrize("stop, phase", [(3, "warmup"), (5, "aligned")])
def test_resume_in_either_phase(run_cfg, tmp_path, stop, phase):
    """The first step after a resume has the phase of its iteration."""
    run_cfg.SOLVER.CHECKPOINT_PERIOD = stop
    trainer = Trainer(run_cfg)
    trainer.max_iter = stop
    trainer.resume_or_load(resume=False)
    with mock.patch.object(Trainer, "test", return_value={}):
        trainer.train()
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    momenta = [s["momentum_buffer"] for s in trainer.optimizer.state.values()]

    phases = []

    class Watched(Trainer):
        def run_step(self):
            phases.append((self.iter, self.model.phase))
            super().run_step()

    again = Watched(run_cfg)
    again.resume_or_load(resume=True)
    assert again.start_iter == stop
    assert all(torch.equal(before[k], v) for k, v in again.model.state_dict().items())
    loaded = [s["momentum_buffer"] for s in again.optimizer.state.values()]
    assert any(m.abs().sum() > 0 for m in momenta)
    assert len(loaded) == len(momenta)
    assert all(torch.equal(a, b) for a, b in zip(momenta, loaded, strict=True))
    with mock.patch.object(Trainer, "test", return_value={}):
        again.train()
    assert phases[0] == (stop, phase)
    assert phases[-1] == (5, "aligned")


def test_reference_world_size(run_cfg):
    """Written for 4 processes, run by 1: batch / 4, iterations and warm-up phase x 4."""
    run_cfg.SOLVER.REFERENCE_WORLD_SIZE = 4
    run_cfg.SOLVER.IMS_PER_BATCH = 8
    trainer = Trainer(run_cfg)
    assert trainer.cfg.SOLVER.IMS_PER_BATCH == 2
    assert trainer.max_iter == 24
    (hook,) = [h for h in trainer._hooks if isinstance(h, PhaseHook)]
    assert hook.warmup_iters == 4  # one epoch of 8 pictures, 2 at a time


def test_published_configs_set_the_reference_world_size(tiny_cfg):
    from tests.helpers import CONFIGS
    from tood.config.loading import load_config

    cfg = load_config(str(CONFIGS / "TOOD-R50-1x.yaml"), [])
    assert cfg.SOLVER.REFERENCE_WORLD_SIZE == 8
    one = DefaultTrainer.auto_scale_workers(cfg, 1)
    assert (one.SOLVER.IMS_PER_BATCH, one.SOLVER.MAX_ITER) == (2, 720000)
    assert pytest.approx(0.00125) == one.SOLVER.BASE_LR
    assert epochs_to_iters(4, 117266, one.SOLVER.IMS_PER_BATCH) == 234532


@pytest.mark.parametrize(
    "changes, message",
    [
        (["TEST.AUG.ENABLED", True], "TEST.AUG.ENABLED"),
        (["SOLVER.AMP.ENABLED", True], "there is no GPU"),
        (["MODEL.TOOD.WARMUP.EPOCHS", -1], "WARMUP.EPOCHS is -1"),
        (["SOLVER.REFERENCE_WORLD_SIZE", 8], "add SOLVER.REFERENCE_WORLD_SIZE 0"),
    ],
)
def test_settings_that_cannot_work(run_cfg, changes, message):
    run_cfg.merge_from_list(changes)
    with pytest.raises(ConfigError, match=message):
        Trainer(run_cfg)


@pytest.mark.parametrize("warmup_epochs", [0, 1])
def test_divergence_gives_advice(run_cfg, warmup_epochs):
    """A learning rate far too large, in either phase: no error from inside of torch."""
    run_cfg.SOLVER.BASE_LR, run_cfg.SOLVER.WARMUP_ITERS = 1e8, 0
    run_cfg.SOLVER.MAX_ITER = 40
    run_cfg.MODEL.TOOD.WARMUP.EPOCHS = warmup_epochs * 20
    with pytest.raises(TrainingDivergedError, match="(.|\n)*SOLVER.BASE_LR"):
        Trainer(run_cfg).train()


def test_checkpoint_without_optimizer(run_cfg, caplog):
    """As detectron2 0.4 alone writes it."""
    trainer = Trainer(run_cfg)
    trainer.iter = 3
    state = trainer.state_dict()
    del state["_trainer"]
    Trainer(run_cfg).load_state_dict(state)
    assert "no optimizer state" in caplog.text


def test_evaluation_settings_that_cannot_work(run_cfg):
    run_cfg.TEST.AUG.ENABLED = True
    with pytest.raises(ConfigError, match="TEST.AUG.ENABLED"):
        Trainer.evaluate_checkpoint(run_cfg)
    run_cfg.TEST.AUG.ENABLED, run_cfg.DATASETS.TEST = False, ()
    with pytest.raises(ConfigError, match="nothing to evaluate on"):
        Trainer.evaluate_checkpoint(run_cfg)


def test_optimizer_decays_norms_and_biases(run_cfg):
    trainer = Trainer(run_cfg)
    decays = {group["weight_decay"] for group in trainer.optimizer.param_groups}
    assert decays == {run_cfg.SOLVER.WEIGHT_DECAY} == {1e-4}


# ---- several processes -----------------------------------------------------------------------


def ddp_batch(rank: int):
    """Rank 0 has one ground truth, rank 1 two."""
    torch.manual_seed(rank)
    instances = Instances((64, 64))
    boxes = [[4.0, 6.0, 50.0, 40.0], [10.0, 20.0, 60.0, 62.0]][: rank + 1]
    instances.gt_boxes = Boxes(torch.tensor(boxes))
    instances.gt_classes = torch.tensor([1, 2][: rank + 1])
    return [{"image": torch.rand(3, 64, 64) * 255, "instances": instances}]


def ddp_worker(rank, cfg, init_file, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{init_file}", rank=rank, world_size=2
    )
    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(build_model(cfg), broadcast_buffers=False)
    assert comm.get_world_size() == 2
    result = {}
    for phase, iteration in (("warmup", 0), ("aligned", 5)):
        run_hook(PhaseHook(5), model, [iteration], iteration)
        assert model.module.phase == phase
        model.zero_grad()
        losses = model(ddp_batch(rank))
        sum(losses.values()).backward()
        grads = {n: p.grad.clone() for n, p in model.module.named_parameters() if p.requires_grad}
        result[phase] = ({k: v.detach() for k, v in losses.items()}, grads)
    torch.save(result, os.path.join(folder, f"{rank}.pth"))
    torch.distributed.destroy_process_group()


def test_distributed_data_parallel(tiny_cfg, tmp_path):
    """Two processes by gloo: the normalizer is the mean over both, the gradients are averaged."""
    mp.spawn(ddp_worker, (tiny_cfg, tmp_path / "init", tmp_path), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pth") for rank in (0, 1)]
    torch.manual_seed(0)
    model = build_model(tiny_cfg)
    for phase in ("warmup", "aligned"):
        sums = []
        original = model.losses
        model.losses = lambda s, sums=sums, original=original: sums.append(s) or original(s)
        model.set_phase(phase)
        model.zero_grad()
        for rank in (0, 1):
            model(ddp_batch(rank))
        model.losses = original
        means = {
            name: max((sums[0][name].normalizer + sums[1][name].normalizer).item() / 2, 1)
            for name in sums[0]
        }
        total = 0
        for rank in (0, 1):
            expected = {
                "loss_cls": sums[rank]["loss_cls"].total / means["loss_cls"],
                "loss_box_reg": 2 * sums[rank]["loss_box_reg"].total / means["loss_box_reg"],
            }
            total = total + sum(expected.values()) / 2
            for name, value in found[rank][phase][0].items():
                assert value.item() == pytest.approx(expected[name].item(), rel=1e-4), name
        total.backward()
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                gradient = found[0][phase][1][name]
                assert torch.equal(gradient, found[1][phase][1][name]), name
                torch.testing.assert_close(gradient, parameter.grad, rtol=1e-3, atol=1e-5)
