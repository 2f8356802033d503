#!/usr/bin/env python3
"""``tood install-detectron2`` for a checkout that is not installed yet."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    command = [sys.executable, "-m", "tood_runtime.install_detectron2", *sys.argv[1:]]
    sys.exit(subprocess.call(command, cwd=ROOT))
