"""Training and evaluation on a GPU that is not there: what makes the host wait, and how often."""

import pytest
from detectron2.engine import HookBase

from tests.fake_gpu import GROUND_TRUTH, IMAGES, fake_gpu
from tests.modeling.test_fake_gpu import DETECTIONS
from tood.engine import Trainer

FINITE, LOSSES = "AMP asks if gradients are finite", "detectron2 collects the losses of a step"
STEP = {
    ("_local_scalar_dense", "engine/trainer.py", "run_step"): FINITE,
    ("cuda to cpu", "engine/trainer.py", "run_step"): LOSSES,
}
ACCUMULATED_STEP = {
    ("_local_scalar_dense", "engine/accumulation.py", "run_step"): FINITE,
    ("cuda to cpu", "engine/accumulation.py", "run_step"): LOSSES,
}
EVALUATION = {
    **DETECTIONS,
    ("cuda to cpu", "evaluation/coco_evaluator.py", "process"): "detections go to the results",
    ("_local_scalar_dense", "evaluation/loss_evaluator.py", "evaluate"): "sums, once at the end",
    ("synchronize", "engine/trainer.py", "test"): "detectron2 measures the time of a batch",
}
START = {("cpu to cuda", "engine/resumable_trainer.py", "__init__"): "the weights"}
BATCH = {**IMAGES, **GROUND_TRUTH}
STATISTICS = {
    ("_local_scalar_dense", "modeling/assignment_stats.py", "compute_and_reset"): "every 20th step",
}


@pytest.fixture
def cfg(quick_cfg, monkeypatch):
    """A training with everything that runs in each step; no checkpoint, which holds values."""
    monkeypatch.setattr(Trainer, "save_checkpoint", lambda *_, **__: None)
    cfg = quick_cfg
    cfg.MODEL.DEVICE = "cuda"
    cfg.MODEL.TOOD.WARMUP.EPOCHS = 0.25
    cfg.SOLVER.MAX_ITER = 2
    cfg.SOLVER.EMA.ENABLED = cfg.SOLVER.AMP.ENABLED = cfg.TEST.LOSS = True
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED, cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = True, "norm"
    return cfg


@pytest.mark.parametrize("parts, step", [(1, STEP), (2, ACCUMULATED_STEP)])
def test_training_and_evaluation(cfg, parts, step):
    """EMA, gradient clipping, the schedule and both phases wait for nothing."""
    cfg.SOLVER.ACCUMULATE = parts
    with fake_gpu({**START, **BATCH, **step, **EVALUATION}) as gpu:
        trainer = Trainer(cfg)
        trainer.train()
    assert trainer.iter == 2 and trainer._average.num_updates == 2
    finite, losses = (gpu.waits[wait] for wait in step)
    assert finite == 2 and losses == 2 * 2  # of two losses
    assert sum(gpu.waits[x] for x in EVALUATION if x[0] == "synchronize") == 2  # images


class EveryStep(HookBase):
    """Lets each step be the 20th."""

    def before_step(self):
        self.trainer.storage.iter = 19


def test_statistics_of_assignments(cfg):
    """Written every 20th step: one of the two steps here."""
    cfg.SOLVER.AMP.ENABLED = False
    cfg.DATASETS.TEST = ()
    known = {**START, **BATCH, ("cuda to cpu", "engine/trainer.py", "run_step"): LOSSES}
    with fake_gpu({**known, **STATISTICS}) as gpu:
        trainer = Trainer(cfg)
        trainer.register_hooks([EveryStep()])
        trainer.train()
    assert all(gpu.waits[x] == 2 * 9 for x in STATISTICS)  # 3 sizes by 3 numbers
