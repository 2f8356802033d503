"""Epochs and iterations."""

import logging
import math

logger = logging.getLogger(__name__)


def epochs_to_iters(epochs: float, num_images: int, images_per_batch: int) -> int:
    """Length of the warm-up phase in iterations.

    Args:
        epochs: its length in epochs; 0 for none.
        num_images: images of the training set that is really used, after filtering.
        images_per_batch: of all processes together.

    Returns:
        The first iteration of the aligned phase.
    """
    # The product first: 4 * 117266 / 16 is not to be rounded up twice.
    return math.ceil(epochs * num_images / images_per_batch)
