#!/usr/bin/env python3
"""Train or evaluate TOOD; the same program as ``tood train``."""

from tood.cli.train import main

if __name__ == "__main__":
    main()
