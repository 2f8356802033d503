"""tood_runtime.missing_packages: packages that are missing or too old."""

import re
import sys
from types import ModuleType

import pytest

from tests.helpers import ROOT
from tood_runtime import missing_packages
from tood_runtime.missing_packages import OLDEST_VERSIONS, MissingPackageError, import_optional

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def test_oldest_versions_are_those_of_the_extras():
    """Of every extra that users install; "dev" may ask for newer ones."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    found = {}
    for extra in extras.keys() - {"dev", "docs", "mmdet", "ray"}:
        for requirement in extras[extra]:
            name, version = re.fullmatch(r"([\w-]+)>=([\d.]+)", requirement).groups()
            assert found.setdefault(name.replace("-", "_"), version) == version, requirement
    assert found == OLDEST_VERSIONS


@pytest.fixture
def pretend(monkeypatch):
    """Installs an empty package of a version."""

    def install(name: str, version: str | None) -> None:
        module = ModuleType(name)
        if version is not None:
            module.__version__ = version
        monkeypatch.setitem(sys.modules, name, module)

    return install


@pytest.mark.parametrize("version", ["1.16.9", "1.9", "0.99.post1", "1.16.2rc1"])
def test_too_old(pretend, version):
    pretend("onnx", version)
    with pytest.raises(MissingPackageError) as error:
        import_optional("onnx", "Exporting ONNX", '"tood-detectron2[onnx]"')
    assert str(error.value) == (
        f"Exporting ONNX needs onnx 1.17 or newer, and {version} is installed. Update it: "
        'pip install --upgrade "tood-detectron2[onnx]"'
    )


@pytest.mark.parametrize("version", ["1.17", "1.17.0", "1.17.0+cu1", "1.20rc1", "2", None])
def test_new_enough_or_not_known(pretend, monkeypatch, version):
    pretend("onnx", version)
    if version is None:
        monkeypatch.setattr(missing_packages.metadata, "version", lambda _: "1.18")
    assert import_optional("onnx", "Exporting ONNX") is sys.modules["onnx"]


def test_the_version_of_the_package_and_not_of_its_module(pretend):
    pretend("trackers", "2.3")
    pretend("trackers.core", "9")
    with pytest.raises(MissingPackageError, match=r"needs trackers 2.4 or newer, and 2.3 is"):
        import_optional("trackers.core", "--track")


def test_packages_without_a_limit(pretend):
    pretend("anything", "0.0.1")
    assert import_optional("anything", "This") is sys.modules["anything"]
