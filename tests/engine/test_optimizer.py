"""Frozen parts and learning rates by part."""

import copy
from collections import Counter

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler
from detectron2.solver import build_optimizer as build_detectron2_optimizer
from torch import nn

from tests.engine.helpers import train_without_tests
from tood.engine import Trainer
from tood.engine.optimizer import build_optimizer, freeze_parameters, parameter_names
from tood.errors import CheckpointError, ConfigError

STEM = "backbone.bottom_up.stem.*"


@pytest.fixture
def bn_cfg(tiny_cfg):
    """A backbone whose normalization layers learn their statistics."""
    tiny_cfg.MODEL.RESNETS.NORM, tiny_cfg.MODEL.BACKBONE.FREEZE_AT = "BN", 0
    return tiny_cfg


def settings_by_name(optimizer, model) -> dict[str, tuple]:
    names = iter(parameter_names(optimizer, model))
    return {
        next(names): (group["lr"], group["weight_decay"], group["momentum"])
        for group in optimizer.param_groups
        for _ in group["params"]
    }


def test_frozen_parameters(bn_cfg):
    """Not in the optimizer; everything else is as detectron2 builds it."""
    model = build_model(bn_cfg)
    whole = settings_by_name(build_detectron2_optimizer(bn_cfg, model), model)
    bn_cfg.SOLVER.FREEZE = [STEM, "backbone.fpn_*"]
    found = settings_by_name(build_optimizer(bn_cfg, model), model)
    frozen = {name for name in whole if name.startswith((STEM[:-1], "backbone.fpn_"))}
    assert len(frozen) > 10 and found == {k: v for k, v in whole.items() if k not in frozen}
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (name not in frozen), name


def test_frozen_statistics(make_input):
    """Weights and statistics of the frozen part are bit-equal after training steps."""
    from tests.conftest import make_tiny_cfg

    cfg = make_tiny_cfg()
    cfg.MODEL.RESNETS.NORM, cfg.MODEL.BACKBONE.FREEZE_AT = "BN", 0
    cfg.SOLVER.FREEZE = ["backbone.bottom_up.*"]
    model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    model.train()
    assert not model.backbone.bottom_up.stem.conv1.norm.training
    before = copy.deepcopy(model.state_dict())
    copied = copy.deepcopy(model)
    for trained in (model, copied):  # a copy, as of an average of the weights, is frozen too
        trained.eval()
        trained.train()
        sum(trained([make_input()]).values()).backward()
    optimizer.step()
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed and all(not name.startswith("backbone.bottom_up.") for name in changed)
    for name, value in copied.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_part_of_a_norm_is_not_frozen():
    """With its scale alone, the statistics are learned on."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.BatchNorm2d(2, affine=False))
    freeze_parameters(model, ["1.weight"])
    model.train()
    assert model[1].training and model[2].training
    freeze_parameters(model, ["1.*"])
    model.train()
    assert not model[1].training and model[2].training
    # A layer without parameters is named by its statistics.
    freeze_parameters(model, ["1.*", "[12].*"])
    assert not model.train()[2].training


def test_learning_rates_by_part(bn_cfg):
    """The last pattern counts. Weight decay of norms and biases is that of detectron2's rules."""
    solver = bn_cfg.SOLVER
    solver.WEIGHT_DECAY_NORM, solver.WEIGHT_DECAY_BIAS, solver.BIAS_LR_FACTOR = 0.0, 0.5, 2.0
    model = build_model(bn_cfg)
    plain = settings_by_name(build_detectron2_optimizer(bn_cfg, model), model)
    assert len(set(plain.values())) == 3
    solver.LR_FACTORS = [["backbone.*", 0.1], [STEM, 0.01], ["head.*.bias", 3]]
    optimizer = build_optimizer(bn_cfg, model)
    found = settings_by_name(optimizer, model)
    assert found.keys() == plain.keys() == {name for name, _ in model.named_parameters()}
    used = Counter()
    for name, (rate, *others) in plain.items():
        factor = 0.1 if name.startswith("backbone.") else 1
        factor = 0.01 if name.startswith(STEM[:-1]) else factor
        factor = 3 if name.startswith("head.") and name.endswith(".bias") else factor
        assert found[name] == (pytest.approx(rate * factor), *others), name
        used[factor] += 1
    assert len(used) == 4
    assert [group["lr"] for group in optimizer.param_groups if not group["params"]] == []


def test_adamw_has_the_groups_of_sgd(bn_cfg):
    """The rates and decays of every parameter, clipping, and rates by part."""
    solver = bn_cfg.SOLVER
    solver.WEIGHT_DECAY_NORM, solver.BIAS_LR_FACTOR, solver.LR_FACTORS = 0.0, 2.0, [["head.*", 3]]
    solver.CLIP_GRADIENTS.ENABLED, solver.CLIP_GRADIENTS.CLIP_VALUE = True, 0.5
    model = build_model(bn_cfg)
    settings = []
    for solver.OPTIMIZER in ("SGD", "AdamW"):
        optimizer = build_optimizer(bn_cfg, model)
        names = iter(parameter_names(optimizer, model))
        settings.append(
            {
                next(names): (group["lr"], group["weight_decay"])
                for group in optimizer.param_groups
                for _ in group["params"]
            }
        )
    assert settings[0] == settings[1] and len(set(settings[0].values())) >= 6
    assert isinstance(optimizer, torch.optim.AdamW)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 100.0)
    optimizer.step()
    assert all((parameter.grad == 0.5).all() for parameter in model.parameters())


def test_adamw_with_cosine_is_resumed_exactly(quick_cfg, tmp_path):
    cfg = quick_cfg
    solver = cfg.SOLVER
    solver.OPTIMIZER, solver.BASE_LR, solver.LR_SCHEDULER_NAME = "AdamW", 1e-3, "WarmupCosineLR"
    solver.WARMUP_ITERS, solver.EPOCHS = 2, 2
    cfg.OUTPUT_DIR = str(tmp_path / "whole")
    whole = train_without_tests(cfg)
    assert whole.max_iter == 8
    cfg.OUTPUT_DIR = str(tmp_path / "parts")
    train_without_tests(cfg, until=3)
    again = train_without_tests(cfg, resume=True)
    assert again.start_iter == 3
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    # The end of the half cosine: 0 in both versions.
    assert all(abs(group["lr"]) < 1e-9 for group in again.optimizer.param_groups)
    # The state of one kind of optimizer is not that of another.
    solver.OPTIMIZER = "SGD"
    with pytest.raises(CheckpointError, match="another kind of optimizer, without momentum"):
        Trainer(cfg).resume_or_load(resume=True)


@pytest.mark.parametrize(
    "warmup, places",
    [(0, {0: 1.0, 500: 0.5, 1000: 0.0, 250: 0.853553, 750: 0.146447})],
)
def test_cosine_of_both_versions(tiny_cfg, warmup, places):
    solver = tiny_cfg.SOLVER
    solver.LR_SCHEDULER_NAME, solver.MAX_ITER, solver.WARMUP_ITERS = "WarmupCosineLR", 1000, warmup
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    multiplier = build_lr_scheduler(tiny_cfg, optimizer)._multiplier
    for place, factor in places.items():
        assert multiplier(place / 1000) == pytest.approx(factor, abs=1e-6)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("FREEZE", ["backbon.*"], r"'backbon\.\*', which matches no parameter .* Did you mean b"),
        ("FREEZE", ["backbone"], r"Did you mean backbone\.\*"),
        ("FREEZE", ["Head.*"], r"Did you mean head\.\*"),
        ("FREEZE", ["zzz"], r"Available: head\.\*, backbone\.\*\."),
        ("FREEZE", ["*"], "leaves no parameter of the model to train"),
        ("LR_FACTORS", [["head.tod_cls.weight", 2]], r"LR_FACTORS .* Did you mean .*tood_cls\.we"),
    ],
)
def test_patterns_that_match_nothing(tiny_cfg, key, value, message):
    tiny_cfg.SOLVER[key] = value
    with pytest.raises(ConfigError, match=message) as error:
        build_optimizer(tiny_cfg, build_model(tiny_cfg))
    assert "\n" not in str(error.value)


def test_a_factor_of_frozen_parameters_is_said(tiny_cfg, caplog):
    tiny_cfg.SOLVER.FREEZE, tiny_cfg.SOLVER.LR_FACTORS = ["backbone.*"], [["backbone.fpn*", 2]]
    build_optimizer(tiny_cfg, build_model(tiny_cfg))
    assert "'backbone.fpn*' matches frozen parameters only" in caplog.text


def test_resume_is_exact(run_cfg, tmp_path):
    """With a frozen part and two rates: the weights of an uninterrupted training, bit for bit."""
    cfg = run_cfg
    cfg.MODEL.RESNETS.NORM, cfg.MODEL.BACKBONE.FREEZE_AT = "BN", 0
    cfg.SOLVER.FREEZE, cfg.SOLVER.LR_FACTORS = [STEM], [["head.*", 2.0]]
    cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.BASE_LR = 2, 1e-3
    cfg.OUTPUT_DIR = str(tmp_path / "whole")
    initial = {k: v.clone() for k, v in Trainer(cfg).model.state_dict().items()}
    whole = train_without_tests(cfg)
    cfg.OUTPUT_DIR = str(tmp_path / "parts")
    train_without_tests(cfg, until=3)
    again = train_without_tests(cfg, resume=True)
    assert again.start_iter == 3
    assert {group["lr"] for group in again.optimizer.param_groups} == {1e-3, 2e-3}
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    assert initial.keys() == whole.model.state_dict().keys()
    norm = again.model.backbone.bottom_up.stem.conv1.norm
    assert torch.equal(norm.running_mean, torch.zeros_like(norm.running_mean))
    # The states of an optimizer are saved by position, so those of other parameters are refused.
    for key, value in (("FREEZE", ["backbone.*"]), ("FREEZE", [])):
        other = cfg.clone()
        other.SOLVER[key] = value
        with pytest.raises(CheckpointError, match=r"SOLVER\.FREEZE"):
            Trainer(other).resume_or_load(resume=True)
    state = again.state_dict()
    state["parameter_names"] = state["parameter_names"][::-1]
    with pytest.raises(CheckpointError, match="belongs to other parameters"):
        again.validate_state_dict(state)
