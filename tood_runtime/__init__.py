"""The part of TOOD that runs without PyTorch: results, drawing, image files, command line.

This module imports nothing, so that the installer and ``tood --help`` start before numpy, Pillow or
torch are installed. Every module below it needs at most numpy and Pillow.
"""
