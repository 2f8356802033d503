"""``tood eval``: the same as ``tood train --eval-only``, with the trained weights of MODEL."""

from .train import main

__all__ = ["main"]
