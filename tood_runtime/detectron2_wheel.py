"""Rebuild detectron2 0.4 from a wheel for Windows as a wheel that works everywhere.

The package index has detectron2's own Python code of June 2021 inside ``geoai-detectron2`` 0.4, a
wheel for Windows. The compiled library is dropped, ``PATCHES`` make the code run on today's NumPy,
Pillow, torch and setuptools, and ``STAND_IN`` takes the place of the compiled operators.
"""

import base64
import hashlib
import re
import zipfile
from pathlib import Path

# Increment whenever PATCHES or STAND_IN change: older wheels are then replaced.
PURE_VERSION = "0.4+pure.2"
REQUIREMENTS = (
    "termcolor>=1.1",
    "Pillow>=7.1",
    "yacs>=0.1.8",
    "tabulate",
    "cloudpickle",
    "matplotlib",
    "tqdm>4.29.0",
    "tensorboard",
    "fvcore>=0.1.5,<0.1.6",
    "iopath>=0.1.7,<0.1.11",
    "pycocotools>=2.0.2",
    "omegaconf>=2.1,<2.4",
    "hydra-core>=1.1",
)

PATCHES = (
    # Names that Pillow and NumPy have removed, and a default that torch is about to change.
    (rb"\bImage\.LINEAR\b", rb"Image.BILINEAR"),
    (rb"\bnp\.(bool|int|float)\b", rb"\1"),
    (rb"\btorch\.meshgrid\((\w+), (\w+)\)", rb'torch.meshgrid(\1, \2, indexing="ij")'),
    # setuptools has removed pkg_resources.
    (rb"(?m)^import pkg_resources$", rb"import importlib.resources"),
    (
        rb'pkg_resources\.resource_filename\(\s*("[\w.]+"), ([^\n]+)\n?\s*\)(?=\n)',
        rb"str(importlib.resources.files(\1).joinpath(\2))",
    ),
    # torch has removed caffe2. detectron2 main guards the import in the same way.
    (
        rb"(?m)^from \.api import \*$",
        rb"try:\n    from caffe2.proto import caffe2_pb2\n    from caffe2.python import core\n"
        rb"except ImportError:\n    pass\nelse:\n    from .api import *",
    ),
)

# Stands in for the compiled library: declares what detectron2 registers, so that everything
# imports, and raises when compiled code is called.
STAND_IN = '''\
"""Stand-in for detectron2's compiled operators: this detectron2 was installed as pure Python."""

import torch

_MESSAGE = (
    "detectron2._C.{} needs detectron2's compiled operators, and this detectron2 is pure Python. {}"
)
_EVALUATION = (
    "Evaluate with COCOEvaluator(..., use_fast_impl=False), or with "
    "tood.evaluation.FastCOCOEvaluator."
)
_COMPILE = (
    "Install the official source with a C++ compiler: "
    "pip install --no-build-isolation git+https://github.com/facebookresearch/detectron2.git"
)
_EVALUATION_NAMES = ("InstanceAnnotation", "COCOevalEvaluateImages", "COCOevalAccumulate")

_library = torch.library.Library("detectron2", "DEF")
_library.define("nms_rotated(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor")
_library.define("box_iou_rotated(Tensor boxes1, Tensor boxes2) -> Tensor")


def _unavailable(name):
    def operator(*args, **kwargs):
        advice = _EVALUATION if name in _EVALUATION_NAMES else _COMPILE
        raise RuntimeError(_MESSAGE.format(name, advice))

    return operator


for _name in ("nms_rotated", "box_iou_rotated"):
    _library.impl(_name, _unavailable(_name), "CompositeExplicitAutograd")


def has_cuda():
    return False


def get_cuda_version():
    return "not compiled"


get_compiler_version = get_cuda_version


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return _unavailable(name)
'''


def patch(data: bytes) -> bytes:
    """Apply ``PATCHES`` to the source of one module."""
    data = data.replace(b"\r\n", b"\n")
    for pattern, replacement in PATCHES:
        data = re.sub(pattern, replacement, data)
    return data


def rebuild_as_pure_wheel(source: Path, folder: Path) -> Path:
    """Write a pure-Python wheel of the Python code in the Windows wheel.

    Args:
        source: the wheel ``geoai_detectron2-0.4`` as downloaded. Its RECORD does not match its
            content, so it is read as a plain zip file.
        folder: where the new wheel goes.

    Returns:
        The path of the new wheel.
    """
    entries: dict[str, bytes] = {}
    info = f"detectron2-{PURE_VERSION}.dist-info"
    with zipfile.ZipFile(source) as old:
        for name in old.namelist():
            data = old.read(name)
            if name.startswith("detectron2/") and not name.endswith((".pyd", "/")):
                entries[name] = patch(data) if name.endswith(".py") else data
            elif name.endswith(".dist-info/LICENSE"):
                entries[f"{info}/LICENSE"] = data
    entries["detectron2/_C.py"] = STAND_IN.encode()
    metadata = ["Metadata-Version: 2.1", "Name: detectron2", f"Version: {PURE_VERSION}"]
    metadata += ["Summary: detectron2 0.4 (June 2021) as pure Python, without its compiled code"]
    metadata += ["License: Apache-2.0", "Requires-Python: >=3.9"]
    metadata += [f"Requires-Dist: {requirement}" for requirement in REQUIREMENTS]
    entries[f"{info}/METADATA"] = ("\n".join(metadata) + "\n").encode()
    entries[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: install_detectron2\n"
        b"Root-Is-Purelib: true\nTag: py3-none-any\n"
    )
    entries[f"{info}/top_level.txt"] = b"detectron2\n"

    record = []
    for name, data in entries.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record.append(f"{name},sha256={digest},{len(data)}")
    record.append(f"{info}/RECORD,,")
    entries[f"{info}/RECORD"] = ("\n".join(record) + "\n").encode()

    wheel = folder / f"detectron2-{PURE_VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in entries.items():
            new.writestr(name, data)
    return wheel
