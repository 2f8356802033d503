"""A clear error where images are too small for a normalization."""

from collections.abc import Iterator
from contextlib import contextmanager

from detectron2.structures import ImageList

from ..errors import ConfigError


@contextmanager
def explain_small_maps(images: ImageList) -> Iterator[None]:
    """Say what helps where a map of one cell leaves a normalization a single value.

    Args:
        images: of the batch that is processed meanwhile.

    Raises:
        ConfigError: a normalization got a single value per channel.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        height, width = images.tensor.shape[-2:]
        raise ConfigError(
            f"A batch normalization got a map of one cell, of one image of {width}x{height} pixels "
            "with its padding. Use a larger INPUT.MIN_SIZE_TRAIN, more images per GPU "
            "(SOLVER.IMS_PER_BATCH), or FrozenBN or GN in the NORM keys."
        ) from error
