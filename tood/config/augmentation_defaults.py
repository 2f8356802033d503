"""The config keys of augmentation, all off by default, in addition to detectron2's ``INPUT``."""

from detectron2.config import CfgNode


def add_augmentation_config(cfg: CfgNode) -> None:
    """Add the keys to a config made by detectron2's ``get_cfg()``.

    Args:
        cfg: changed in place.
    """
    _add_single_image_keys(cfg)
    _add_multi_image_keys(cfg)


def _add_single_image_keys(cfg: CfgNode) -> None:
    # ---- Augmentation of one image ----
    # Large-scale jitter. (INPUT.CROP and INPUT.RANDOM_FLIP are detectron2's.)
    cfg.INPUT.LSJ = CfgNode()
    # Large-scale jitter instead of resizing to INPUT.MIN_SIZE_TRAIN: the image is scaled to fit a
    # random fraction of SIZE, and cropped or padded to SIZE (detectron2's ResizeScale and
    # FixedSizeCrop).
    cfg.INPUT.LSJ.ENABLED = False
    # Height and width of the result, in pixels.
    cfg.INPUT.LSJ.SIZE = (1024, 1024)
    # The smallest scale: with 0.1, the image fits a tenth of SIZE.
    cfg.INPUT.LSJ.MIN_SCALE = 0.1
    # The largest scale; what is above 1 is cropped.
    cfg.INPUT.LSJ.MAX_SCALE = 2.0
    cfg.INPUT.COLOR_JITTER = CfgNode()
    # Change brightness, contrast and saturation of each image, in this order (detectron2's
    # RandomBrightness, RandomContrast and RandomSaturation).
    cfg.INPUT.COLOR_JITTER.ENABLED = False
    # Multiply pixels by a factor between 1 - BRIGHTNESS and 1 + BRIGHTNESS; 0 leaves it out.
    cfg.INPUT.COLOR_JITTER.BRIGHTNESS = 0.2
    # Multiply differences from the mean of all pixels likewise.
    cfg.INPUT.COLOR_JITTER.CONTRAST = 0.2
    # Multiply differences from the gray image likewise; gray images (INPUT.FORMAT L) have none.
    cfg.INPUT.COLOR_JITTER.SATURATION = 0.2


def _add_multi_image_keys(cfg: CfgNode) -> None:
    # ---- Augmentation of several images ----
    # The epochs at the end of training in which neither mosaic nor mix-up is used, also a fraction.
    cfg.INPUT.MULTI_IMAGE_OFF_EPOCHS = 1.0
    cfg.INPUT.MOSAIC = CfgNode()
    # Replace an image by four around a random point, the image itself and three others, each
    # augmented on its own. The result has the size that the image would have.
    cfg.INPUT.MOSAIC.ENABLED = False
    # The fraction of the images that are replaced.
    cfg.INPUT.MOSAIC.PROB = 0.5
    # The smallest and the largest scale of the four images, relative to the size that each would
    # have alone; drawn for each.
    cfg.INPUT.MOSAIC.SCALE = (0.5, 1.0)
    # The smallest and the largest position of the point, in x and in y, as fractions of the size.
    cfg.INPUT.MOSAIC.CENTER = (0.25, 0.75)
    # A box that is cut stays a GT box if at least this fraction of its area is visible.
    cfg.INPUT.MOSAIC.MIN_VISIBLE = 0.1
    cfg.INPUT.MIXUP = CfgNode()
    # Blend an image, after the mosaic if it is one, with another; GT boxes are those of both.
    cfg.INPUT.MIXUP.ENABLED = False
    # The fraction of the images that are blended.
    cfg.INPUT.MIXUP.PROB = 0.15
    # The weight of the image is drawn from Beta(ALPHA, ALPHA): the larger ALPHA, the nearer to 0.5.
    cfg.INPUT.MIXUP.ALPHA = 8.0
