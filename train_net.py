#!/usr/bin/env python3
"""Train or evaluate TOOD; the same program as ``tood train``."""

import sys

from tood_runtime.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]], prog="train_net.py"))
