"""The runtime works where neither torch nor detectron2 is installed."""

import subprocess
import sys

from tests.helpers import ROOT

CODE = """
import importlib, pkgutil, sys
for name in ("torch", "torchvision", "detectron2", "cv2", "matplotlib"):
    sys.modules[name] = None  # importing it raises ImportError
import tood_runtime
assert not {"numpy", "PIL"} & set(sys.modules), "the package itself must import nothing"
for module in pkgutil.walk_packages(tood_runtime.__path__, "tood_runtime."):
    importlib.import_module(module.name)
assert not any(name == "tood" or name.startswith("tood.") for name in sys.modules)

import numpy as np
from tood_runtime.detections import Detections
image = np.zeros((64, 64, 3), np.uint8)
boxes = np.array([[4, 4, 40, 40]], np.float32)
found = Detections(boxes, np.ones(1, np.float32), np.zeros(1, np.int64), ["caf\\u00e9"], (64, 64))
assert found.draw(image).size == (480, 480)
print("done")
"""


def test_runtime_without_torch():
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "done"
