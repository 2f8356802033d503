#!/usr/bin/env python3
"""Install detectron2: ``tood install-detectron2`` for a checkout that is not installed yet."""

import runpy
from pathlib import Path

PROGRAM = Path(__file__).resolve().parents[1] / "tood_runtime" / "install_detectron2.py"

if __name__ == "__main__":
    runpy.run_path(str(PROGRAM), run_name="__main__")
