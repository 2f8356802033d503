"""The start-up benchmark runs and prints what it promises; its times are not tested."""

import re
import sys

import pytest

from tools.benchmark import startup

pytest.importorskip("onnxruntime")


@pytest.mark.slow
def test_startup(exported_onnx, capsys, monkeypatch):
    image = "docs/images/quickstart.jpg"
    monkeypatch.setattr(sys, "argv", ["startup", str(exported_onnx.path), image, "--rounds", "1"])
    startup.main()
    load, detect, difference, network = re.findall(
        r"^ *(-?\d+\.\d+) ", capsys.readouterr().out, re.M
    )
    assert float(detect) - float(load) == pytest.approx(float(difference), abs=2e-3)
    assert float(network) > 0
