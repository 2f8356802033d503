"""Converts between epochs and iterations."""

import math


def epochs_to_iters(epochs: float, num_images: int, images_per_batch: int) -> int:
    """Convert a number of epochs to iterations, rounded up.

    Args:
        epochs: at least 0; fractions are allowed.
        num_images: images in an epoch: the training set after filtering.
        images_per_batch: over all processes (``SOLVER.IMS_PER_BATCH``).

    Returns:
        The number of iterations, which is also the first iteration after these epochs.
    """
    # Multiply first, so that the result is rounded up only once.
    return math.ceil(epochs * num_images / images_per_batch)


def iters_to_epochs(iters: int, num_images: int, images_per_batch: int) -> float:
    """Convert a number of iterations to epochs; the arguments as in `epochs_to_iters`."""
    return iters * images_per_batch / num_images
