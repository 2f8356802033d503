"""Repeats experiments of the paper."""
