"""The wheel and the source distribution: what they hold, what they ask for, and that they work."""

import ast
import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.helpers import CONFIGS, ROOT
from tood import __version__

pytest.importorskip("build")

PACKAGES = ("tood", "tood_runtime")
INFO = f"tood_detectron2-{__version__}.dist-info"

# Packages by the names that they are imported by, where these differ.
IMPORT_NAMES = {"PIL": "pillow", "cv2": "opencv-python", "yaml": "pyyaml"}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the repository without what git ignores, so that nothing is built in place."""
    folder = tmp_path_factory.mktemp("source") / "repository"
    ignored = (".*", "__pycache__", "*.egg-info", "build", "dist", "output", "datasets")
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*ignored))
    return folder


def build(source: Path, kind: str, target: Path) -> Path:
    """Build with the tools of this environment, so that nothing is downloaded."""
    command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "-o", str(target)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = target.iterdir()
    return path


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    return build(source, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def content(wheel) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as file:
        return {name: file.read(name) for name in file.namelist()}


@pytest.fixture(scope="module")
def metadata(content) -> email.message.Message:
    return email.message_from_bytes(content[f"{INFO}/METADATA"])


def test_files(content):
    """The packages, the configs, and nothing else."""
    expected = {
        path.relative_to(ROOT).as_posix(): path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix == ".py" or path.name == "py.typed" or path.parent.name == "static"
    }
    for path in CONFIGS.rglob("*.yaml"):
        expected[f"tood/configs/{path.relative_to(CONFIGS).as_posix()}"] = path
    found = {name for name in content if not name.startswith(f"{INFO}/")}
    assert found == set(expected)
    assert "tood/configs/ablations/ATSS-Parallel.yaml" in found
    assert "tood/configs/quickstart/TOOD-R18-shapes.yaml" in found
    assert "tood/configs/custom/TOOD-R50.yaml" in found
    assert {"tood/py.typed", "tood_runtime/py.typed"} < found
    assert all(content[name] == path.read_bytes() for name, path in expected.items())


def test_entry_point_and_license(content):
    assert content[f"{INFO}/entry_points.txt"].decode().split("\n")[:2] == [
        "[console_scripts]",
        "tood = tood_runtime.cli:main",
    ]
    assert content[f"{INFO}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()


def test_metadata(metadata):
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.10"
    extras = {"dev", "docs", "mmdet", "onnx", "openvino", "quantize", "ray", "safetensors"}
    extras |= {"dataset", "fusion", "mlflow", "serve", "timm", "track", "video", "wandb"}
    assert extras == set(metadata.get_all("Provides-Extra"))
    pythons = [line.split(" :: ")[-1] for line in metadata.get_all("Classifier") if "3." in line]
    assert pythons[0] == "3.10" and pythons == sorted(pythons, key=lambda name: int(name[2:]))


def imported_packages(folder: Path) -> set[str]:
    """Top-level names that the files of a package import, others than Python's and ours."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - set(PACKAGES)


def test_dependencies_are_what_is_imported(metadata):
    """No package is missing, none is listed needlessly, and none is pinned."""
    required = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    names = {re.match(r"[\w-]+", line)[0].lower() for line in required}
    imported = imported_packages(ROOT / "tood") | imported_packages(ROOT / "tood_runtime")
    imported = {IMPORT_NAMES.get(name, name.replace("_", "-")) for name in imported}
    # No package index has detectron2. It brings yacs, termcolor, and iopath with portalocker.
    optional = {"safetensors", "onnx", "onnxruntime", "openvino", "nncf"}
    optional |= {"fastapi", "starlette", "uvicorn"}
    assert (
        imported - names <= {"detectron2", "yacs", "iopath", "portalocker", "termcolor"} | optional
    )
    assert names - imported == set()
    assert all(re.fullmatch(r"[\w-]+>=[\d.]+(\.post\d+)?", line) for line in required), (
        "a version is pinned"
    )


def test_constraints_cover_the_dependencies(metadata):
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split(";")[0].split("==") for line in lines if not line.startswith("#"))
    for line in metadata.get_all("Requires-Dist"):
        requirement, _, marker = line.lower().partition(";")
        if ("extra ==" not in marker or '"dev"' in marker) and ">=" in requirement:
            name, oldest = requirement.replace("[python]", "").split(">=")
            name = name.strip()
            if name == "setuptools":  # detectron2's installer decides
                continue
            parts = [[int(x) for x in v.split(".") if x.isdigit()] for v in (pinned[name], oldest)]
            assert parts[0] >= parts[1], line


def test_pre_commit_uses_the_same_ruff():
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    revision = re.search(r"ruff-pre-commit\n\s+rev: v([\d.]+)", text)[1]
    assert f'"ruff=={revision}"' in (ROOT / "pyproject.toml").read_text()


def test_installed_package_works(wheel, tmp_path):
    """Unpacked elsewhere, the package finds its own configs and runs its command."""
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    code = """
import tood
from tood.config.files import config_folder, config_names
from tood.model_zoo import MODELS, get_config
from tood_runtime.cli import main
print(tood.__file__)
print(config_folder())
print(len(config_names()), [get_config(info.name).MODEL.META_ARCHITECTURE for info in MODELS])
raise SystemExit(main(["--version"]))
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    if "PYTHONPATH" in os.environ:  # another detectron2, perhaps
        environment["PYTHONPATH"] += os.pathsep + os.environ["PYTHONPATH"]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == str(tmp_path / "site" / "tood" / "__init__.py")
    assert lines[1] == str(tmp_path / "site" / "tood" / "configs")
    number = sum(not path.name.startswith("Base-") for path in CONFIGS.rglob("*.yaml"))
    assert lines[2] == f"{number} {['TOOD'] * 7}"


def test_source_distribution(source, tmp_path):
    """It holds what a test run and a build need."""
    with tarfile.open(build(source, "sdist", tmp_path)) as file:
        names = {name.split("/", 1)[1] for name in file.getnames() if "/" in name}
    for name in ("configs/Base-TOOD.yaml", "tests/golden/full_R50.npz", "tests/helpers.py"):
        assert name in names
    for name in ("LICENSE", "README.md", "CITATION.cff", "constraints.txt", "train_net.py"):
        assert name in names
    for name in ("docs/images/NOTICE.md", "tools/install_detectron2.py", "demo/demo.py"):
        assert name in names
    assert not any("__pycache__" in name for name in names)
