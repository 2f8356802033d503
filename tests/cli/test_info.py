"""tood info."""

import json

import pytest
from torch import nn

from tood.cli import info
from tood.model_zoo import MODELS


def test_table_and_numbers(tood, config, tmp_path, capsys):
    path = tmp_path / "numbers.json"
    assert tood("info", config, "--size", "128x64", "--json", path) == 0
    out = capsys.readouterr().out
    assert f"{config}, 128x64" in out and "| head" in out
    numbers = json.loads(path.read_text())[config]
    assert set(numbers) == {"backbone", "FPN", "head", "model"}
    parts = sum(numbers[part]["params M"] for part in ("backbone", "FPN", "head"))
    assert numbers["model"]["params M"] == pytest.approx(parts)
    # Twice the pixels, twice the work, but for layer attention.
    tood("info", "--config-file", config, "--size", "128x128", "--json", path)
    twice = json.loads(path.read_text())[config]["model"]["FLOPs G"]
    assert twice == pytest.approx(2 * numbers["model"]["FLOPs G"], rel=1e-3)


def test_options_reach_the_model(tood, config, tmp_path):
    sizes = []
    for convs in (1, 3):
        path = tmp_path / "numbers.json"
        opts = ["--opts", "MODEL.TOOD.HEAD.NUM_CONVS", convs]
        tood("info", config, "--size", "64x64", "--json", path, *opts)
        sizes.append(json.loads(path.read_text())[config]["head"]["params M"])
    assert sizes[0] < sizes[1]


def test_published_models_by_default(tood, config, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(info, "load_model_config", lambda args, **_: seen.append(args.model))
    monkeypatch.setattr(info, "build_model", lambda cfg: nn.Identity())
    monkeypatch.setattr(info, "describe", lambda model, size: [])
    assert tood("info") == 0
    assert seen == [model.name for model in MODELS] and len(seen) == 7


def test_unknown_model(tood, errors):
    assert tood("info", "TOOD-R51-1x") == 2
    (error,) = errors()
    assert "TOOD-R50-1x" in error


def test_unknown_device_is_one_line(tood, errors):
    assert tood("info", "TOOD-R50-1x", "--device", "gpu") == 2
    assert errors() == ["error: Unknown device 'gpu'. Available: cpu, cuda, cuda:N, auto."]
