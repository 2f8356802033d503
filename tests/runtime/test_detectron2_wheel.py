"""Rebuilding the package index's wheel of detectron2 0.4 as pure Python."""

import base64
import hashlib
import importlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import detectron2
import pytest

from tood.environment import version_of
from tood_runtime.detectron2_wheel import PURE_VERSION, rebuild_as_pure_wheel

OLD_MODEL_ZOO = """\
import os
import pkg_resources

def get_config_file(config_path):
    cfg_file = pkg_resources.resource_filename(
        "detectron2.model_zoo", os.path.join("configs", config_path)
    )
    if not os.path.exists(cfg_file):
        raise RuntimeError("{} not available in Model Zoo!".format(config_path))
    return cfg_file
"""

SOURCES = {
    "__init__.py": "__version__ = '0.4'\r\n",
    "old.py": (
        "a = np.bool\nb = np.bool_\nc = np.int\nd = Image.LINEAR\ne = torch.meshgrid(y, x)\n"
    ),
    "model_zoo/__init__.py": "from .model_zoo import *\n",
    "model_zoo/model_zoo.py": OLD_MODEL_ZOO.replace("\n", "\r\n"),
    "model_zoo/configs/x.yaml": "a: 1",
    "export/__init__.py": (
        "# -*- coding: utf-8 -*-\n\nfrom .api import *\nfrom .flatten import TracingAdapter\n"
    ),
    "export/api.py": "from caffe2.proto import caffe2_pb2\n",
    "export/flatten.py": "TracingAdapter = 'an adapter'\n",
}


@pytest.fixture
def wheel(tmp_path):
    source = tmp_path / "geoai_detectron2-0.4-cp37-cp37m-win_amd64.whl"
    with zipfile.ZipFile(source, "w") as file:
        for name, text in SOURCES.items():
            file.writestr(f"detectron2/{name}", text)
        file.writestr("detectron2/_C.cp37-win_amd64.pyd", b"\x00")
        file.writestr("stray.txt", "at the root")
        file.writestr("geoai_detectron2-0.4.dist-info/LICENSE", "Apache")
        file.writestr("geoai_detectron2-0.4.dist-info/RECORD", "wrong")
    return rebuild_as_pure_wheel(source, tmp_path)


@pytest.fixture
def unpacked(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    return tmp_path / "site"


def python(code: str, folder) -> subprocess.CompletedProcess:
    """Run code in a fresh interpreter that finds only ``folder`` and what is installed."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_content(wheel):
    assert wheel.name == f"detectron2-{PURE_VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        assert "stray.txt" not in names and not any(n.endswith(".pyd") for n in names)
        assert {"detectron2/_C.py", "detectron2/model_zoo/configs/x.yaml"} <= names
        assert file.read("detectron2/old.py") == (
            b"a = bool\nb = np.bool_\nc = int\nd = Image.BILINEAR\n"
            b'e = torch.meshgrid(y, x, indexing="ij")\n'
        )
        metadata = file.read(f"detectron2-{PURE_VERSION}.dist-info/METADATA").decode()
        assert f"Name: detectron2\nVersion: {PURE_VERSION}\n" in metadata
        assert file.read(f"detectron2-{PURE_VERSION}.dist-info/LICENSE") == b"Apache"


def test_record_matches(wheel):
    with zipfile.ZipFile(wheel) as file:
        record = file.read(f"detectron2-{PURE_VERSION}.dist-info/RECORD").decode().splitlines()
        assert {line.split(",")[0] for line in record} == set(file.namelist())
        for line in record[:-1]:
            name, digest, size = line.split(",")
            data = file.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
            assert digest == f"sha256={expected.decode()}" and int(size) == len(data)


def test_model_zoo_needs_no_pkg_resources(unpacked):
    code = (
        "import sys; sys.modules['pkg_resources'] = None\n"
        "from detectron2.model_zoo.model_zoo import get_config_file\n"
        "print(get_config_file('x.yaml'))\n"
    )
    done = python(code, unpacked)
    assert done.stdout.strip().endswith("detectron2/model_zoo/configs/x.yaml"), done.stderr


def test_export_needs_no_caffe2(unpacked):
    code = (
        "import sys; sys.modules['caffe2'] = None\n"
        "from detectron2.export import TracingAdapter\n"
        "print(TracingAdapter)\n"
    )
    assert python(code, unpacked).stdout == "an adapter\n"


def test_export_uses_caffe2_if_it_is_there(unpacked):
    for name in ("proto/caffe2_pb2.py", "python/core.py"):
        path = unpacked / "caffe2" / name
        path.parent.mkdir(parents=True)
        path.write_text("")
    done = python("import detectron2.export; print(detectron2.export.api.caffe2_pb2)", unpacked)
    assert "caffe2_pb2" in done.stdout, done.stderr


def test_stand_in_says_what_is_missing(unpacked):
    code = (
        "import torch; from detectron2 import _C\n"
        "calls = [lambda: _C.deform_conv_forward(1), lambda: torch.ops.detectron2.nms_rotated("
        "torch.zeros(1, 5), torch.zeros(1), 0.5), lambda: _C.InstanceAnnotation(1, 2)]\n"
        "for call in calls:\n"
        "    try:\n        call()\n"
        "    except RuntimeError as error:\n        print(error)\n"
    )
    done = python(code, unpacked)
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    assert all("needs detectron2's compiled operators" in line for line in lines)
    assert "pip install --no-build-isolation git+https" in lines[0]
    # COCOEvaluator's fast implementation is the one that people meet.
    assert "COCOEvaluator(..., use_fast_impl=False)" in lines[2]
    assert "tood.evaluation.FastCOCOEvaluator" in lines[2]


@pytest.mark.skipif(
    version_of("detectron2") != PURE_VERSION or not Path(detectron2.__path__[0], "_C.py").exists(),
    reason="another detectron2 is installed, or a checkout comes first on the path",
)
@pytest.mark.parametrize(
    "module", ["model_zoo", "utils.testing", "utils.analysis", "export", "evaluation", "engine"]
)
def test_installed_rebuild_imports(module):
    """The real wheel, in the environment that the installer made."""
    importlib.import_module(f"detectron2.{module}")
