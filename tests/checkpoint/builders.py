"""Checkpoint files of other projects, built from random weights."""

import pickle

import torch

from tests.helpers import published_keys

META = {"mmdet_version": "2.18.1", "epoch": 12, "CLASSES": ("cat", "dog"), "config": "model = 1"}

BACKBONE_KINDS = [
    "torchvision",
    "mmdet without classifier",
    "mmpretrain",
    "detectron2.pkl",
    "detectron2 with its prefix",
    "detectron2 with a short prefix",
]


def equal_weights(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def save_contents(contents: object, path) -> str:
    """Write a .pth or .pkl file; returns its path."""
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(contents))
    else:
        torch.save(contents, path)
    return str(path)


def mmdet_weights(name: str) -> dict[str, torch.Tensor]:
    """Random weights with MMDetection's names and shapes of a published model."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for key, shape in published_keys(name)["state_dict"].items():
        if key.endswith("num_batches_tracked"):
            weights[key] = torch.zeros((), dtype=torch.int64)
        else:
            weights[key] = torch.rand(shape, generator=generator)
    return weights


def authors_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename from MMDetection's names to the authors'."""
    renamed = {}
    for key, value in weights.items():
        for old, new in (
            ("layer_attention.0", "la_conv1"),
            ("layer_attention.2", "la_conv2"),
            ("_module.0", "_conv1"),
            ("_module.2", "_conv2"),
        ):
            key = key.replace(old, new)
        renamed[key] = value
    return renamed


def backbone_contents(tiny_weights, kind: str) -> tuple[dict, str]:
    """The contents of a file with a tiny backbone, and the project whose names it has."""
    ours, weights = tiny_weights
    ours = {
        key.removeprefix("backbone.bottom_up."): value
        for key, value in ours.items()
        if key.startswith("backbone.bottom_up.")
    }
    theirs = {
        key.removeprefix("backbone."): value
        for key, value in weights.items()
        if key.startswith("backbone.")
    }
    classifier = {"fc.weight": torch.zeros(9, 512), "fc.bias": torch.zeros(9)}
    if kind == "torchvision":
        return {**theirs, **classifier}, "torchvision"
    if kind == "mmdet without classifier":
        return {"state_dict": theirs, "meta": META}, "torchvision"
    if kind == "mmpretrain":
        weights = {f"backbone.{key}": value for key, value in theirs.items()}
        weights.update({f"head.{key}": value for key, value in classifier.items()})
        return {"state_dict": weights, "meta": META}, "MMDetection"
    if kind == "detectron2 with its prefix":
        return {"model": {f"backbone.bottom_up.{k}": v for k, v in ours.items()}}, "detectron2"
    if kind == "detectron2 with a short prefix":
        return {"model": {f"bottom_up.{k}": v for k, v in ours.items()}}, "detectron2"
    weights = {**ours, "stem.fc.weight": torch.zeros(9, 512)}
    arrays = {key: value.numpy() for key, value in weights.items()}
    return {"model": arrays, "__author__": "torchvision", "matching_heuristics": True}, "detectron2"
