"""The part of TOOD that runs without PyTorch."""
