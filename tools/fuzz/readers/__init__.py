"""Attacks what reads files: datasets, configs, checkpoints, exported models and images.

``python -m tools.fuzz.readers --cases 1000 --seed 0 --output DIR`` makes small valid inputs
(`samples`), damages them (`mutations`), and has a watched process (`worker`, `watcher`) read each
the way the project's commands do (`entry_points`). Only the project's own errors may come out, in
bounded time and memory, with nothing executed and nothing written elsewhere.
"""
