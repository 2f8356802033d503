#!/usr/bin/env python3
"""Detect objects in images; the same program as ``tood detect``."""

import sys

from tood_runtime.cli import main

if __name__ == "__main__":
    sys.exit(main(["detect", *sys.argv[1:]], prog="demo.py"))
