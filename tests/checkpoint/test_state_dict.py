"""Weights are found in whatever programs wrap around them."""

import logging
from collections import OrderedDict

import pytest
import torch
from detectron2.modeling import build_model

from tests.checkpoint.builders import META, authors_names, equal_weights, save_contents
from tood.checkpoint import TOODCheckpointer
from tood.checkpoint.safe_load import load_file
from tood.checkpoint.state_dict import extract_state_dict, is_average_entry
from tood.errors import CheckpointError


def flat(weights):
    return {f"ema_{key.replace('.', '_')}": torch.zeros(()) for key in weights}


OPTIMIZER = {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.01}]}
STEPS = torch.tensor(5)
WRAPPED = {
    "bare": lambda w: w,
    "ordered": lambda w: OrderedDict(w),
    "state_dict": lambda w: {"meta": META, "state_dict": w, "optimizer": OPTIMIZER},
    "other entries among the weights": lambda w: {
        **w, "meta": META, "optimizer": OPTIMIZER, "epoch": 3,
    },
    "DistributedDataParallel": lambda w: {"state_dict": {f"module.{k}": v for k, v in w.items()}},
    "torch.compile": lambda w: {f"_orig_mod.{k}": v for k, v in w.items()},
    "copies of mmcv's EMA hook": lambda w: {"state_dict": {**w, **flat(w)}},
    "copies with dots": lambda w: {**w, **{f"ema_model.{k}": v * 0 for k, v in w.items()}},
    "only the average": lambda w: {f"ema_model.module.{k}": v for k, v in w.items()},
    "ema. as prefix": lambda w: {f"ema.{k}": v for k, v in w.items()},
    "MMEngine's EMA": lambda w: {
        "message_hub": {},
        "state_dict": w,
        "ema_state_dict": {"steps": STEPS, **{f"module.{k}": v * 0 for k, v in w.items()}},
    },
    "MMEngine's EMA alone": lambda w: {
        "ema_state_dict": {"steps": STEPS, **{f"module.{k}": v for k, v in w.items()}}
    },
    "model": lambda w: {"model": w, "optimizer": OPTIMIZER, "iteration": 9},
    "model is a name": lambda w: {"model": "tood_r50", "state_dict": w},
    "timm's EMA": lambda w: {"epoch": 3, "state_dict_ema": w},
    "an EMA object": lambda w: {"ema": {"module": w, "updates": 3}, "epoch": 3},
    "EMA next to the model": lambda w: {
        "ema_state": {k: v * 0 for k, v in w.items()}, "model": w,
    },
    "ema_state alone": lambda w: {"ema_state": w, "epoch": 3},
    "ema_model alone": lambda w: {"ema_model": {f"module.{k}": v for k, v in w.items()}},
    "EMA next to a DeepSpeed module": lambda w: {
        "ema": {k: v * 0 for k, v in w.items()}, "module": w,
    },
    "numpy": lambda w: {"model": {k: v.numpy() for k, v in w.items()}},
}  # fmt: skip


@pytest.mark.parametrize("names", ["mmdet", "authors", "tood"])
@pytest.mark.parametrize("wrapping", WRAPPED)
def test_wrapped_weights_are_found(tiny_weights, tiny_cfg, tmp_path, names, wrapping):
    ours, weights = tiny_weights
    weights = {"mmdet": weights, "authors": authors_names(weights), "tood": ours}[names]
    suffix = "pkl" if wrapping == "numpy" else "pth"
    path = save_contents(WRAPPED[wrapping](weights), tmp_path / f"file.{suffix}")
    model = build_model(tiny_cfg)
    TOODCheckpointer(model, strict=True).load(path)
    assert equal_weights(dict(model.state_dict()), ours)


def test_unused_entries_are_logged(tiny_weights, tiny_cfg, tmp_path, caplog):
    _, weights = tiny_weights
    caplog.set_level(logging.INFO)
    torch.save(WRAPPED["copies of mmcv's EMA hook"](weights) | {"meta": META}, tmp_path / "ema.pth")
    TOODCheckpointer(build_model(tiny_cfg), strict=True).load(str(tmp_path / "ema.pth"))
    assert f"{len(weights)} entries like ema_backbone_" in caplog.text and "meta" in caplog.text


def test_ignored_entries_are_listed():
    weights = {"a.weight": torch.zeros(1), "b.weight": torch.zeros(1)}
    averages = {f"ema_model.module.{key}": torch.zeros(1) for key in weights}
    data = {"state_dict": {**weights, **averages, "ema_model.steps": STEPS}, "optimizer": OPTIMIZER}
    tensors, ignored = extract_state_dict(data, "file")
    assert equal_weights(tensors, weights)
    copies = "2 entries like ema_model.module.a.weight, a copy of the weights"
    assert ignored == ["optimizer", copies, "ema_model.steps"]


def test_average_entries():
    averages = ["ema_state_dict", "state_dict_ema", "model_ema", "ema_model", "ema_state", "ema"]
    assert all(is_average_entry(key) for key in averages)
    assert not any(is_average_entry(key) for key in ["model", "state_dict", "optimizer", ""])


def test_file_without_a_dict_is_refused(model, tmp_path):
    torch.save([1, 2, 3], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="holds a list"):
        TOODCheckpointer(model).load(str(tmp_path / "list.pth"))
    torch.save({"a": "text"}, tmp_path / "texts.pth")
    with pytest.raises(CheckpointError, match="its entry a is not a tensor"):
        TOODCheckpointer(model).load(str(tmp_path / "texts.pth"))


def test_empty_file_contents_are_refused(tmp_path):
    torch.save({"model": {}}, tmp_path / "empty.pth")
    with pytest.raises(CheckpointError, match="holds no weights: it is empty"):
        extract_state_dict({}, "file")
    with pytest.raises(CheckpointError, match=r"holds no weights: its entry .* is not a tensor"):
        extract_state_dict({"model": {"epoch": 3}}, "file")
    with pytest.raises(CheckpointError, match="holds no weights"):
        extract_state_dict(load_file(str(tmp_path / "empty.pth")), "file")
