"""Installing detectron2, and rebuilding the package index's wheel as pure Python."""

import base64
import hashlib
import os
import subprocess
import sys
import zipfile

import pytest

from tests.helpers import ROOT
from tood_runtime import install_detectron2
from tood_runtime.detectron2_wheel import PURE_VERSION, rebuild_as_pure_wheel

OLD_MODEL_ZOO = """\
import os
import pkg_resources
import torch

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


def test_wheel_with_another_hash_is_not_installed(monkeypatch, capsys):
    def pip(*args):
        assert args[0] == "download", "it went on to install"
        folder = args[args.index("-d") + 1]
        with open(f"{folder}/geoai_detectron2-0.4.whl", "wb") as file:
            file.write(b"something else")
        return True

    monkeypatch.setattr(install_detectron2, "pip", pip)
    assert install_detectron2.install_index() is False
    assert "not installed" in capsys.readouterr().out


# ---- Which way ----------------------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch):
    """A machine that only answers what a test says; ``machine.tried`` lists the ways tried."""

    class Machine:
        tried: list[str]
        detectron2 = (False, "No module named 'detectron2'")
        torch = (True, "")
        package_version = ""
        model_zoo = (True, "")

        def probe(self, code):
            if "importlib.metadata" in code:
                return bool(self.package_version), self.package_version
            if "model_zoo" in code:
                return self.model_zoo
            return self.torch if "torch" in code else self.detectron2

    machine = Machine()
    machine.tried = []

    def way(name, works):
        def install():
            machine.tried.append(name)
            if works:
                machine.detectron2 = (True, "0.4 in x")
            return works

        return install

    monkeypatch.setattr(install_detectron2, "probe", machine.probe)
    ways = {"source": way("source", False), "index": way("index", True)}
    monkeypatch.setattr(install_detectron2, "WAYS", ways)
    return machine


def test_what_imports_is_kept(machine, capsys):
    machine.detectron2 = (True, "0.6 in y")
    assert install_detectron2.install() == 0
    assert machine.tried == []
    out = capsys.readouterr().out
    assert "kept detectron2 0.6 in y" in out and "setuptools" not in out


def test_source_is_tried_before_the_index(machine, capsys):
    assert install_detectron2.install() == 0
    assert machine.tried == ["source", "index"]
    assert "way: index" in capsys.readouterr().out


@pytest.mark.parametrize("way, code", [("index", 0), ("source", 1)])
def test_chosen_way_is_the_only_one(machine, way, code):
    machine.detectron2 = (True, "0.6 in y")
    assert install_detectron2.main(["--way", way]) == code
    assert machine.tried == [way]


@pytest.mark.parametrize("version", ["0.4+pure", "0.4+pure.1"])
def test_older_rebuild_is_replaced(machine, version, capsys):
    machine.detectron2, machine.package_version = (True, "0.4 in x"), version
    assert install_detectron2.install() == 0
    assert machine.tried == ["index"]
    assert "replacing" in capsys.readouterr().out


@pytest.mark.parametrize("version", [PURE_VERSION, "0.6", "0.4"])
def test_other_versions_are_kept(machine, version):
    machine.detectron2, machine.package_version = (True, "0.4 in x"), version
    assert install_detectron2.install() == 0
    assert machine.tried == []


def test_without_torch_it_names_the_command(machine, capsys):
    machine.torch = (False, "ModuleNotFoundError: No module named 'torch'")
    assert install_detectron2.install() == 2
    assert machine.tried == []
    assert "pip install torch torchvision" in capsys.readouterr().out


def test_kept_detectron2_that_needs_an_older_setuptools(machine, capsys):
    machine.detectron2 = (True, "0.6 in y")
    machine.model_zoo = (False, "ModuleNotFoundError: No module named 'pkg_resources'")
    assert install_detectron2.install() == 0
    assert 'pip install "setuptools<81"' in capsys.readouterr().out


def test_official_source_comes_with_a_setuptools_that_fits(monkeypatch):
    calls = []
    monkeypatch.setattr(install_detectron2, "source_is_reachable", lambda: True)
    monkeypatch.setattr(install_detectron2, "pip", lambda *args: not calls.append(args))
    assert install_detectron2.install_source()
    assert "setuptools<81" in calls[0]
    assert "--no-build-isolation" in calls[1]


def test_it_runs_by_its_path_without_any_package(tmp_path):
    """Only the standard library: -S leaves out all installed packages."""
    program = [sys.executable, "-S", "-E", str(ROOT / "tools/install_detectron2.py"), "--help"]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "--way" in done.stdout, done.stderr
