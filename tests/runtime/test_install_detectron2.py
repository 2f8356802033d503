"""Installing detectron2: which way is taken, and what is said."""

import subprocess
import sys
import zipfile

import pytest

from tests.helpers import ROOT
from tood_runtime import install_detectron2
from tood_runtime.detectron2_wheel import PURE_VERSION
from tood_runtime.git_tree import zip_tree_hash


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


@pytest.mark.parametrize("way, code", [("index", 0), ("source", 2)])
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


@pytest.fixture
def github(monkeypatch, tmp_path):
    """Delivers an archive of one file, whose tree is the pinned one; and pip's calls."""
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("detectron2-02b5c4e/setup.py", "print()")
    monkeypatch.setattr(install_detectron2, "SOURCE_URL", archive.as_uri())
    monkeypatch.setattr(install_detectron2, "SOURCE_TREE", zip_tree_hash(archive))
    calls = []
    monkeypatch.setattr(install_detectron2, "pip", lambda *args: not calls.append(args))
    return archive, calls


def test_official_source_comes_with_a_setuptools_that_fits(github):
    _, calls = github
    assert install_detectron2.install_source()
    assert "setuptools<81" in calls[0]
    assert "--no-build-isolation" in calls[1]
    assert calls[1][-1].endswith(f"detectron2-{install_detectron2.SOURCE_COMMIT}.zip")


def test_source_with_another_tree_is_not_installed(github, capsys):
    archive, calls = github
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("detectron2-02b5c4e/evil.py", "print()")
    assert not install_detectron2.install_source()
    archive.write_bytes(b"no zip")
    assert not install_detectron2.install_source()
    archive.unlink()
    assert not install_detectron2.install_source()
    assert calls == []
    out = capsys.readouterr().out
    assert "has the tree" in out and "is damaged" in out and "cannot be reached" in out


def test_it_runs_by_its_path_without_any_package(tmp_path):
    """Only the standard library: -S leaves out all installed packages."""
    program = [sys.executable, "-S", "-E", str(ROOT / "tools/install_detectron2.py"), "--help"]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "--way" in done.stdout, done.stderr


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
