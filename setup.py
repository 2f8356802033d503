"""Packaging of TOOD for detectron2: pure Python, built without torch and detectron2."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (HERE / "tood" / "version.py").read_text(encoding="utf-8"), re.M
).group(1)

setup(
    name="tood-detectron2",
    version=VERSION,
    description="TOOD: task-aligned one-stage object detection, as a detectron2 extension",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=("tood", "tood.*", "tood_runtime", "tood_runtime.*")),
    # detectron2 is missing here because no package index has it: tools/install_detectron2.py.
    install_requires=[
        # Before 2.6, torch.load(weights_only=True) could be made to run code (CVE-2025-32434).
        "torch>=2.6",
        "torchvision>=0.21",
        "fvcore>=0.1.5",
        "pycocotools>=2.0.7",
        "faster-coco-eval>=1.8",
        "opencv-python>=4.5",
        "iopath>=0.1.7",
        "yacs>=0.1.8",
        "numpy>=1.23",
        "PyYAML>=5.1",
        "matplotlib>=3.6",
        "tensorboard>=2.10",
        "tqdm>=4.60",
        "termcolor>=1.1",
        "tabulate>=0.8",
    ],
    extras_require={
        "dev": ["pytest>=7", "ruff==0.17.5"],
        # For tools/compare_with_mmdet.py alone.
        "mmdet": ["mmdet==3.3.0", "mmcv-lite==2.1.0", "mmengine==0.10.7", "six"],
    },
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
