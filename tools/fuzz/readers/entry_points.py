"""Reads cases the way the commands do: `READERS` by kind, and the errors that they may raise."""

import functools
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from tood.checkpoint.checkpointer import TOODCheckpointer
from tood.checkpoint.info import read_iteration
from tood.checkpoint.loading import read_checkpoint
from tood.checkpoint.safe_load import is_whole, peek_file
from tood.cli.check_data import check_sets, prepare_splits, print_report
from tood.cli.common import USER_ERRORS
from tood.config.loading import load_config, load_config_text
from tood.config.validation import validate_solver
from tood.data.image_headers import check_header
from tood.data.loaders import build_test_loader, build_train_loader
from tood.data.model_input import ModelInput
from tood.data.near_duplicates import fingerprint
from tood.data.registration import setup_datasets
from tood.export.torch_backends import open_any_backend
from tood.model_zoo import resolve
from tood_runtime.backends import PYTORCH_SUFFIXES
from tood_runtime.detector import RuntimeDetector
from tood_runtime.image_header import is_animated, read_header
from tood_runtime.image_io import decode_image, read_image
from tood_runtime.model_files import read_model_info

from .samples.checkpoints import small_model
from .samples.configs import NARROW
from .samples.images import sample_image
from .worker import Step

OWN_ERRORS = USER_ERRORS

# Larger models take seconds to build; sizes are the user's decision.
_MAX_WEIGHTS = 30_000_000
_Options = Mapping[str, Any]


@functools.cache
def _base_config() -> CfgNode:
    text = NARROW.replace("_BASE_: TOOD-R50-1x\n", "").replace("CLASS_NAMES", "# ")
    text = text.replace("NUM_CLASSES: 3", "NUM_CLASSES: 80")
    cfg = load_config("TOOD-R50-1x", cfg=None)
    own = load_config_text(text, "the fuzzer")
    cfg.merge_from_other_cfg(own)
    return cfg


@functools.cache
def _model_input() -> ModelInput:
    return ModelInput.from_config(_base_config())


def _data_config(folder: Path, target: str, options: _Options) -> CfgNode:
    cfg = _base_config().clone()
    for split in ("TRAIN", "TEST"):
        cfg.DATASETS[f"{split}_ANNOTATIONS"] = str(folder / target) if target else str(folder)
        cfg.DATASETS[f"{split}_SPLIT"] = "train"
        if options.get("images"):
            cfg.DATASETS[f"{split}_IMAGES"] = str(folder / options["images"])
    cfg.MODEL.MASK_ON = bool(options.get("masks"))
    if options.get("keypoints"):
        cfg.MODEL.KEYPOINT_ON = True
        cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = options["keypoints"]
        cfg.TEST.KEYPOINT_OKS_SIGMAS = [0.1] * options["keypoints"]
    return cfg


def read_dataset(folder: Path, target: str, options: _Options) -> Iterator[Step]:
    """``tood check-data``, then the loaders of ``tood train`` and ``tood eval``."""

    def check() -> None:
        cfg = _data_config(folder, target, options)
        problems = prepare_splits(cfg)
        print_report(*check_sets(cfg, problems, _model_input()))

    def train() -> None:
        cfg = _data_config(folder, target, options)
        setup_datasets(cfg)
        for _ in itertools.islice(build_train_loader(cfg), 2):
            pass
        for _ in build_test_loader(cfg, cfg.DATASETS.TEST[0]):
            pass

    yield Step("check-data", check)
    yield Step("train", train)


def read_config(folder: Path, target: str, options: _Options) -> Iterator[Step]:
    """``tood info`` and the checks at the start of ``tood train``."""
    loaded: list[CfgNode] = []
    yield Step("load", lambda: loaded.append(load_config(folder / target)))
    if loaded:
        yield Step("resolve", lambda: resolve(str(folder / target)).load_config())
        valid: list[bool] = []
        yield Step("validate", lambda: valid.append(validate_solver(loaded[0]) is None))
        if valid and options.get("build") and _is_small(loaded[0]):
            yield Step("build", lambda: build_model(loaded[0]))


def _is_small(cfg: CfgNode) -> bool:
    with torch.device("meta"):
        cfg = cfg.clone()
        channels = max(cfg.MODEL.FPN.OUT_CHANNELS, cfg.MODEL.TOOD.HEAD.CHANNELS)
        convs = cfg.MODEL.TOOD.HEAD.NUM_CONVS
    return channels**2 * 9 * (convs + 4) < _MAX_WEIGHTS and cfg.MODEL.TOOD.NUM_CLASSES < 10_000


@functools.cache
def _small_model() -> torch.nn.Module:
    return small_model()


def read_weights(folder: Path, target: str, options: _Options) -> Iterator[Step]:
    """``tood info``, ``convert``, ``train`` and ``detect`` with a checkpoint."""
    path = str(folder / target)
    yield Step("is_whole", lambda: is_whole(path))
    yield Step("peek", lambda: read_iteration(peek_file(path)))
    yield Step("resolve", lambda: resolve(path).load_config())
    yield Step("read", lambda: read_checkpoint(path))
    for strict in (False, True):
        checkpointer = TOODCheckpointer(_small_model(), strict=strict)
        yield Step(f"load, strict={strict}", lambda loader=checkpointer: loader.load(path))


def read_exported(folder: Path, target: str, options: _Options) -> Iterator[Step]:
    """``tood detect`` and ``python -m tood_runtime`` with an exported file."""
    path = folder / target
    yield Step("info", lambda: read_model_info(path))
    yield Step("resolve", lambda: resolve(str(path)).load_config())

    def detect() -> None:
        backend = open_any_backend(path, runtime=options.get("runtime"), threads=1)
        RuntimeDetector(backend)(sample_image(0), score_threshold=0.5)

    # TorchScript and torch.export files are programs; see SECURITY.md.
    yield Step("detect", detect, in_runtime=True, runs_code=path.suffix in PYTORCH_SUFFIXES)


def read_image_file(folder: Path, target: str, options: _Options) -> Iterator[Step]:
    """Images as training, ``tood detect``, ``tood check-data`` and the server read them."""
    path = folder / target
    yield Step("header", lambda: read_header(path))
    yield Step("check", lambda: check_header(str(path), (48, 40)))
    yield Step("frames", lambda: is_animated(path))
    yield Step("image", lambda: read_image(path))
    yield Step("fingerprint", lambda: fingerprint(str(path)))
    if path.is_file():
        yield Step("upload", lambda: decode_image(path.read_bytes(), "upload"))


READERS = {
    **dict.fromkeys(("coco", "yolo", "voc", "openimages"), read_dataset),
    "config": read_config,
    "checkpoint": read_weights,
    "exported": read_exported,
    "image": read_image_file,
}
