"""detectron2's own end-to-end tests, on this project's configs.

They are in detectron2's repository but not in its package: a checkout of it has to be the one that
is imported, for example with PYTHONPATH.
"""

import importlib.util
import sys
import types
import unittest
from pathlib import Path
from unittest import mock

import detectron2
import pytest
from detectron2.modeling import build_model

from tests.helpers import CONFIGS, PUBLISHED
from tood.config.loading import load_config

UPSTREAM = Path(detectron2.__file__).parents[1] / "tests/modeling/test_model_e2e.py"

pytestmark = [
    pytest.mark.detectron2_main,
    pytest.mark.slow,
    pytest.mark.skipif(
        not UPSTREAM.is_file(),
        reason=f"{UPSTREAM} is not there: an installed detectron2 comes without its tests",
    ),
]

# Ablations have the parts of these in other combinations, which other tests train.
ONE_STAGE = [
    *PUBLISHED,
    *(f"timm/{path.stem}" for path in sorted((CONFIGS / "timm").glob("*.yaml"))),
    "small/TOOD-EfficientNetLite0-320",
    "quickstart/TOOD-R18-shapes",
    "ablations/Centerness-Parallel",
]
# Not with keypoints, which the objects of these tests do not have.
TWO_STAGE = [
    "two_stage/TOOD-FasterRCNN-R50-1x",
    "two_stage/TOOD-CascadeRCNN-R50-1x",
    "two_stage/TOOD-MaskRCNN-R50-1x",
    "two_stage/TOOD-CascadeMaskRCNN-R50-1x",
    "quickstart/TOOD-MaskRCNN-R18-shapes",
]
# These call detectron2's second stage with the maps P2 to P6, and ours reads P3 to P7.
OTHER_MAPS = {"test_roiheads_inf_nan_data"}


def build(name: str):
    """Build a model of this project without weights, on the CPU, and with classes for the tests."""
    options = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""]
    options += ["MODEL.TOOD.NUM_CLASSES", 80, "MODEL.ROI_HEADS.NUM_CLASSES", 80]
    return build_model(load_config(str(CONFIGS / f"{name}.yaml"), options))


@pytest.fixture(scope="module")
def upstream():
    """The module of the tests, which build our models: that is all they take from `testing`."""
    testing = types.ModuleType("detectron2.utils.testing")
    testing.get_model_no_weights = build
    spec = importlib.util.spec_from_file_location("detectron2_model_e2e", UPSTREAM)
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, {testing.__name__: testing}):
        spec.loader.exec_module(module)
    return module


def run(upstream, name: str, case: str, without: set[str] = frozenset()) -> set[str]:
    """Run the tests of a class on a config; return the names of those that were not skipped."""
    if name.startswith(("timm/", "small/")):
        pytest.importorskip("timm")
    base = getattr(upstream, case)
    bases = (base,) if issubclass(base, unittest.TestCase) else (base, unittest.TestCase)
    cls = type(case, bases, {"CONFIG_PATH": name})
    names = [x for x in unittest.defaultTestLoader.getTestCaseNames(cls) if x not in without]
    result = unittest.TestResult()
    unittest.TestSuite(map(cls, names)).run(result)
    assert result.wasSuccessful(), "\n".join(text for _, text in result.errors + result.failures)
    return set(names) - {test._testMethodName for test, _ in result.skipped}


@pytest.mark.parametrize("name", ONE_STAGE)
def test_one_stage(upstream, name):
    """Batches without objects are trained on and detected in."""
    assert "test_empty_data" in run(upstream, name, "InstanceModelE2ETest")


@pytest.mark.parametrize("name", TWO_STAGE)
def test_two_stages(upstream, name):
    """The same, and a batch of which one image has no objects."""
    ran = run(upstream, name, "MaskRCNNE2ETest", OTHER_MAPS)
    assert {"test_empty_data", "test_half_empty_data"} <= ran
