"""The start-up benchmark runs and prints what it promises; its times are not tested."""

import re
import sys

import pytest
import torch
from detectron2.modeling import build_model

from tools.benchmark import startup

IMAGE = "docs/images/quickstart.jpg"


@pytest.mark.slow
def test_startup_of_a_model(tiny_cfg, tmp_path, capsys, monkeypatch):
    (tmp_path / "config.yaml").write_text(tiny_cfg.dump())
    torch.save({"model": build_model(tiny_cfg).state_dict()}, tmp_path / "model_final.pth")
    monkeypatch.setattr(sys, "argv", ["startup", str(tmp_path), IMAGE, "--rounds", "1"])
    startup.main()
    lines = capsys.readouterr().out
    load, detect, difference, network = map(
        float, re.findall(r"^ *(-?\d+\.\d{3}) ", lines, re.M)[:4]
    )
    assert detect - load == pytest.approx(difference, abs=2e-3) and network > 0
    ratio = float(re.search(r"([\d.]+)x", lines)[1])
    assert ratio == pytest.approx((detect + network) / (load + network), abs=0.02)
    parts = lines.split("network\n")[-1]
    names = ["import torch", "import detectron2", "import tood", "build the model", "first detec"]
    assert [name for name in names if name in parts] == names


@pytest.mark.slow
def test_startup(exported_onnx, capsys, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(sys, "argv", ["startup", str(exported_onnx.path), IMAGE, "--rounds", "1"])
    startup.main()
    load, detect, difference, network = re.findall(
        r"^ *(-?\d+\.\d+) ", capsys.readouterr().out, re.M
    )[:4]
    assert float(detect) - float(load) == pytest.approx(float(difference), abs=2e-3)
    assert float(network) > 0
