"""The runtime works where neither torch nor detectron2 is installed."""

import json
import subprocess
import sys
import venv

import pytest

from tests.helpers import ROOT
from tood_runtime.detector import RuntimeDetector

# Importing any of these raises ImportError. onnxruntime's tools look for some of them.
BLOCK = """
import sys
for name in ("torch", "torchvision", "detectron2", "fvcore", "cv2", "matplotlib", "yaml", "onnx",
             "scipy", "tqdm", "tabulate", "pycocotools", "tood"):
    sys.modules[name] = None
"""

CODE = """
import dataclasses, importlib, pkgutil
import tood_runtime
assert not {"numpy", "PIL"} & set(sys.modules), "the package itself must import nothing"
for module in pkgutil.walk_packages(tood_runtime.__path__, "tood_runtime."):
    importlib.import_module(module.name)
assert not {"onnxruntime", "openvino"} & set(sys.modules), "runtimes are imported when needed"
assert not any(name.startswith("tood.") for name in sys.modules)

import numpy as np
from tood_runtime.detections import Detections
image = np.zeros((64, 64, 3), np.uint8)
boxes = np.array([[4, 4, 40, 40]], np.float32)
found = Detections(boxes, np.ones(1, np.float32), np.zeros(1, np.int64), ["caf\\u00e9"], (64, 64))
assert found.draw(image).size == (480, 480)
masks = np.zeros((1, 64, 64), bool)
masks[:, 4:20, 4:40] = True
found = dataclasses.replace(found, mask=masks)
assert found.draw(image).size == (480, 480) and found[0].mask.area.tolist() == [576]
try:
    found.to_coco(1, [1])
except ImportError as error:
    assert "pip install pycocotools" in str(error)
    print("done")
"""

DETECT = """
import runpy
runpy.run_module("tood_runtime", run_name="__main__")
"""


def run(*command, **options) -> str:
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_runtime_without_torch():
    assert run(sys.executable, "-c", BLOCK + CODE).strip() == "done"


def expected_results(exported, image) -> list[dict]:
    """What the program must print for an image, from a detector in this process."""
    detector = RuntimeDetector(exported.path, threads=1)
    return detector(image, score_threshold=0.02).to_coco(1, detector.category_ids)


def test_program_detects_without_torch(exported_onnx, photos, tmp_path):
    image = photos / "1.png"
    arguments = [exported_onnx.path, image, "--json", "-", "--output", tmp_path]
    arguments += ["--score-threshold", 0.02, "--threads", 1]
    out = run(sys.executable, "-c", BLOCK + DETECT, *arguments)
    assert json.loads(out) == expected_results(exported_onnx, image)
    assert (tmp_path / "1.png").is_file()


@pytest.mark.slow
@pytest.mark.network
def test_program_detects_where_three_packages_are_installed(exported_onnx, photos, tmp_path):
    """In a new environment with NumPy, Pillow and ONNX Runtime, and what these need."""
    venv.create(tmp_path / "venv", with_pip=True, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "numpy", "Pillow", "onnxruntime")
    names = {item["name"] for item in json.loads(run(python, "-m", "pip", "list", "--format=json"))}
    assert not {"torch", "detectron2", "opencv-python", "PyYAML", "onnx"} & names
    image = photos / "1.png"
    arguments = [exported_onnx.path, image, "--json", "-", "--score-threshold", 0.02]
    out = run(python, "-m", "tood_runtime", *arguments, "--threads", 1)
    for actual, expected in zip(
        json.loads(out), expected_results(exported_onnx, image), strict=True
    ):
        assert actual["category_id"] == expected["category_id"]
        assert actual["bbox"] == pytest.approx(expected["bbox"], abs=1e-2)
        assert actual["score"] == pytest.approx(expected["score"], abs=1e-5)
