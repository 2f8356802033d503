"""Rebuilding the package index's detectron2 as a pure-Python wheel."""

import base64
import hashlib
import subprocess
import sys
import zipfile

import pytest

from tests.helpers import load_program


@pytest.fixture(scope="module")
def installer():
    return load_program("tood_runtime/install_detectron2.py")


@pytest.fixture
def wheel(installer, tmp_path):
    source = tmp_path / "geoai_detectron2-0.4-cp37-cp37m-win_amd64.whl"
    with zipfile.ZipFile(source, "w") as file:
        file.writestr("detectron2/__init__.py", "__version__ = '0.4'\r\n")
        file.writestr("detectron2/_C.cp37-win_amd64.pyd", b"\x00")
        file.writestr(
            "detectron2/old.py",
            "a = np.bool\nb = np.bool_\nc = np.int\nd = Image.LINEAR\ne = torch.meshgrid(y, x)\n",
        )
        file.writestr("detectron2/model_zoo/configs/x.yaml", "a: 1")
        file.writestr("stray.txt", "at the root")
        file.writestr("geoai_detectron2-0.4.dist-info/LICENSE", "Apache")
        file.writestr("geoai_detectron2-0.4.dist-info/RECORD", "wrong")
    return installer.rebuild_as_pure_wheel(source, tmp_path)


def test_content(wheel):
    assert wheel.name == "detectron2-0.4+pure-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        assert "stray.txt" not in names and not any(n.endswith(".pyd") for n in names)
        assert {"detectron2/_C.py", "detectron2/model_zoo/configs/x.yaml"} <= names
        assert file.read("detectron2/old.py") == (
            b"a = bool\nb = np.bool_\nc = int\nd = Image.BILINEAR\n"
            b'e = torch.meshgrid(y, x, indexing="ij")\n'
        )
        metadata = file.read("detectron2-0.4+pure.dist-info/METADATA").decode()
        assert "Name: detectron2\nVersion: 0.4+pure\n" in metadata
        assert file.read("detectron2-0.4+pure.dist-info/LICENSE") == b"Apache"


def test_record_matches(wheel):
    with zipfile.ZipFile(wheel) as file:
        record = file.read("detectron2-0.4+pure.dist-info/RECORD").decode().splitlines()
        assert {line.split(",")[0] for line in record} == set(file.namelist())
        for line in record[:-1]:
            name, digest, size = line.split(",")
            data = file.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
            assert digest == f"sha256={expected.decode()}" and int(size) == len(data)


def test_stand_in_says_what_is_missing(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    code = (
        "import torch; from detectron2 import _C\n"
        "calls = [lambda: _C.deform_conv_forward(1), lambda: torch.ops.detectron2.nms_rotated("
        "torch.zeros(1, 5), torch.zeros(1), 0.5)]\n"
        "for call in calls:\n"
        "    try:\n        call()\n"
        "    except RuntimeError as error:\n        print(str(error)[:90])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "site", capture_output=True, text=True
    )
    assert done.stdout.count("needs detectron2's compiled operators") == 2, done.stderr


def test_a_wheel_with_another_hash_is_not_installed(installer, monkeypatch, capsys):
    def pip(*args):
        assert args[0] == "download", "it went on to install"
        folder = args[args.index("-d") + 1]
        with open(f"{folder}/geoai_detectron2-0.4.whl", "wb") as file:
            file.write(b"something else")
        return True

    monkeypatch.setattr(installer, "pip", pip)
    assert installer.install_index() is False
    assert "not installed" in capsys.readouterr().out


def test_what_imports_is_kept(installer, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["install_detectron2.py"])
    monkeypatch.setattr(installer, "pip", lambda *args: pytest.fail("nothing is to be installed"))
    assert installer.main() == 0
    assert "kept detectron2" in capsys.readouterr().out


def test_order_of_the_ways(installer, monkeypatch, capsys):
    tried = []
    monkeypatch.setattr(sys, "argv", ["install_detectron2.py"])
    monkeypatch.setattr(installer, "installed_detectron2", lambda: (bool(tried[1:]), "0.4 in x"))
    monkeypatch.setattr(installer, "install_source", lambda: bool(tried.append("source")))
    monkeypatch.setattr(installer, "install_index", lambda: not tried.append("index"))
    assert installer.main() == 0
    assert tried == ["source", "index"]
    assert "way: index" in capsys.readouterr().out
