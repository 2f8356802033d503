"""What images come from: files, folders, patterns, lists, URLs, videos, streams and cameras."""

from .files import IMAGE_SUFFIXES, SourceError, collect_images, make_image_ids, numeric_ids
from .inputs import collect_inputs, images_of
from .items import ImageInput, Input, VideoInput

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageInput",
    "Input",
    "SourceError",
    "VideoInput",
    "collect_images",
    "collect_inputs",
    "images_of",
    "make_image_ids",
    "numeric_ids",
]
