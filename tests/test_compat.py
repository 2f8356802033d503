"""Both branches of what depends on the detectron2 version, whichever is installed."""

from unittest import mock

import pytest
from detectron2.layers import FrozenBatchNorm2d
from detectron2.utils.events import EventStorage
from torch import nn

from tood import compat


class Saves:
    """detectron2 main's DefaultTrainer has the method itself."""

    def state_dict(self):
        return {}


class Inherits(Saves):
    """detectron2 0.4's has only that of its base class."""


def test_has_event_storage():
    assert not compat.has_event_storage()
    with EventStorage():
        assert compat.has_event_storage()


def test_only_frozen_batch_norm_loses_its_counter():
    frozen, plain = FrozenBatchNorm2d(4), nn.BatchNorm2d(4)
    frozen.register_buffer("num_batches_tracked", plain.num_batches_tracked)
    for module in (frozen, plain):
        compat.remove_num_batches_tracked(module)
    assert "num_batches_tracked" not in frozen.state_dict()
    assert "num_batches_tracked" in plain.state_dict()


@pytest.mark.parametrize("default_trainer, done_by_detectron2", [(Saves, True), (Inherits, False)])
def test_optimizer_is_saved_and_loaded_once(default_trainer, done_by_detectron2):
    assert compat.trainer_saves_optimizer(default_trainer) is done_by_detectron2
    inner = mock.Mock()
    state_dict = {"iteration": 3}
    compat.add_optimizer_state(state_dict, inner, default_trainer)
    assert ("_trainer" in state_dict) is not done_by_detectron2
    compat.load_optimizer_state({"_trainer": "state"}, inner, default_trainer)
    calls = [] if done_by_detectron2 else [mock.call("state")]
    assert inner.load_state_dict.call_args_list == calls
