"""Checkpoints of a small model: of this project and of others, in each file format."""

import io
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from detectron2.modeling import build_model

from tood.checkpoint.info import INFO_KEY, CheckpointInfo
from tood.config.loading import load_config

from ..files import Case

# A bottleneck network with few channels, so that files are small.
_OPTIONS = [
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.RESNETS.DEPTH", 50),
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", 4, "MODEL.RESNETS.RES2_OUT_CHANNELS", 4),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", 2, "MODEL.FPN.OUT_CHANNELS", 32),
    *("MODEL.TOOD.HEAD.CHANNELS", 32, "MODEL.TOOD.HEAD.NUM_CONVS", 1),
    *("MODEL.TOOD.NUM_CLASSES", 3, "SOLVER.REFERENCE_WORLD_SIZE", 0),
    *("INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 96),
]


def small_config() -> Any:
    """The config of the model that the checkpoints are of."""
    return load_config("TOOD-R50-1x", _OPTIONS)


def small_model() -> torch.nn.Module:
    """The model that the checkpoints are of, with the same weights each time."""
    torch.manual_seed(0)
    return build_model(small_config()).eval()


def _saved(content: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def checkpoint_cases() -> list[Case]:
    """See the module. The larger ones come first, so that there are more mutations of the small."""
    from safetensors.torch import save as save_safetensors

    weights = OrderedDict(small_model().state_dict())
    few = OrderedDict(list(weights.items())[:12])
    names = ["cat", "dog", "no"]
    info = CheckpointInfo(small_config().dump(), names, [1, 2, 7], "warmup", 9, "run", {}, False)
    extras = {"iteration": 9, "optimizer": {"state": {0: {"step": 1}}, "param_groups": []}}
    whole = {"model": weights, INFO_KEY: info.to_dict(), **extras}
    tiny = {"model": few, INFO_KEY: info.to_dict(), **extras}
    mmdet = {"state_dict": few, "meta": {"CLASSES": ("a", "b", "c"), "epoch": 12, "config": "x"}}
    arrays = {"model": {k: v.numpy() for k, v in few.items()}, "__author__": "x"}
    odd = {"model": {"a": next(iter(few.values())).half(), "b": torch.arange(3)}}
    odd["model"] |= {"c": torch.zeros(2, 3).t(), "d": np.float32(1.5)}
    files = {
        "whole.pth": _saved(whole),
        "tiny.pth": _saved(tiny),
        "legacy.pth": _saved(tiny, _use_new_zipfile_serialization=False),
        "mmdet.pth": _saved(mmdet),
        "a.pkl": pickle.dumps(arrays, protocol=2),
        "five.pkl": pickle.dumps(arrays, protocol=5),
        "odd.pt": _saved(odd),
        "a.safetensors": save_safetensors(dict(few)),
    }
    return [Case("checkpoint", name, {name: data}) for name, data in files.items()]
