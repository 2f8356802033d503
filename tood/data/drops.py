"""Counts the objects that augmentation leaves out of the training images."""

import logging

from .fetching import Fetched

# With detectron2's loggers of data: such details go to log.txt, not to the terminal.
_detail_logger = logging.getLogger("detectron2.data.tood")


class DropCounter:
    """Logs once in an epoch how many objects were left out, if there were any.

    Args:
        num_images: that are drawn in an epoch, by all processes.

    Attributes:
        num_objects: annotated objects of the images so far.
        num_dropped: how many of them were left out.
    """

    def __init__(self, num_images: int) -> None:
        self.num_objects = 0
        self.num_dropped = 0
        self._epoch = num_images
        self._images = 0
        self._logged = (0, 0)

    def add(self, fetched: Fetched) -> None:
        """Count the objects of an image."""
        self.num_objects += fetched.num_objects
        self.num_dropped += fetched.num_dropped

    def finish_batch(self, batch_size: int) -> None:
        """Count a batch of all processes, and log if it is the last one of an epoch."""
        self._images += batch_size
        if self._images < self._epoch:
            return
        objects, dropped = self.num_objects - self._logged[0], self.num_dropped - self._logged[1]
        if dropped:
            _detail_logger.info(
                "Augmentation has cut away %d of %d objects in the last %d images, of which too "
                "little was left (counted in this process).",
                dropped,
                objects,
                self._images,
            )
        self._images, self._logged = 0, (self.num_objects, self.num_dropped)
