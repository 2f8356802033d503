"""Dataset mappers: from a dataset dict to what the model gets."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import detectron2.data.transforms as T
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import detection_utils
from detectron2.data.detection_utils import SizeMismatchError
from detectron2.structures import Boxes, Instances

from tood_runtime.image_header import read_header
from tood_runtime.image_io import ImageReadError, printable_path, read_image

from ..errors import ConfigError, DataError
from .keypoint_flips import flip_indices
from .keypoints import validate_keypoint_keys
from .mosaic import LabeledImage
from .transforms import build_augmentations, convert_format
from .views import TestViews, to_tensor, with_views

# detectron2's models that train on "sem_seg".
_NEED_SEGMENTATION = ("PanopticFPN", "SemanticSegmentor")


class BadImageError(DataError):
    """An image of a dataset cannot be used: it is unreadable or has another size."""


class DetectionMapper:
    """Reads, augments and converts one image.

    With the defaults of TOOD's keys, it returns what detectron2's ``DatasetMapper`` does. Images
    are read with `read_image`, like everywhere in this project.

    Args:
        cfg: the config: ``INPUT``, ``MODEL.MASK_ON``, ``MODEL.KEYPOINT_ON``.
        is_train: augment the image and return its ground truth.
        with_ground_truth: return the ground truth of a test image too.
        views: of test-time augmentation, which are added to a test image.
        with_crowds: return the crowds too, as ``crowds``. The model does not read them.

    Raises:
        ConfigError: precomputed proposals are used, or segmentations of whole images, which
            datasets do not hold; or it is not known which keypoints a mirror exchanges.
    """

    def __init__(
        self,
        cfg: CfgNode,
        is_train: bool,
        with_ground_truth: bool = False,
        views: TestViews | None = None,
        with_crowds: bool = False,
    ) -> None:
        if cfg.MODEL.LOAD_PROPOSALS:
            raise ConfigError(
                "MODEL.LOAD_PROPOSALS is not supported: datasets hold no proposals. Set it to "
                "False."
            )
        if is_train and cfg.MODEL.META_ARCHITECTURE in _NEED_SEGMENTATION:
            raise ConfigError(
                f"MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE}, which learns from a "
                "segmentation of whole images, but datasets hold objects only. Override "
                "build_train_loader in a trainer of your own."
            )
        validate_keypoint_keys(cfg)
        self.is_train = is_train
        self.with_ground_truth = is_train or with_ground_truth
        self.views = views
        self.with_crowds = with_crowds
        self.image_format = cfg.INPUT.FORMAT
        self.apply_orientation = cfg.INPUT.APPLY_EXIF_ORIENTATION
        self.augmentations = T.AugmentationList(build_augmentations(cfg, is_train))
        self.use_masks = is_train and cfg.MODEL.MASK_ON
        self.use_keypoints = is_train and cfg.MODEL.KEYPOINT_ON
        self.flipped_keypoints = flip_indices(cfg) if is_train else None
        self.mask_format = cfg.INPUT.MASK_FORMAT
        # A cropped object may be smaller than its cropped box.
        crops = cfg.INPUT.CROP.ENABLED or cfg.INPUT.LSJ.ENABLED
        self.recompute_boxes = is_train and cfg.MODEL.MASK_ON and crops

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """Map a dataset dict, which is not changed.

        Returns:
            The dict without annotations, with ``image``, (C, H, W) uint8 in ``INPUT.FORMAT``, and
            with ground truth ``instances`` without crowds.

        Raises:
            ImageReadError: the image cannot be read.
            BadImageError: the image has another size than annotated.
        """
        pixels = self._read(record)
        augmented, transforms = _augment(pixels, self.augmentations)
        mapped = _sample(record, augmented)
        if self.with_ground_truth:
            objects, crowds = _split(record.get("annotations", ()))
            size = augmented.shape[:2]
            mapped["instances"] = self._instances(objects, transforms, size)
            if self.with_crowds:
                mapped["crowds"] = self._instances(crowds, transforms, size)
        return mapped if self.views is None else with_views(mapped, self.views, pixels)

    def label(
        self, record: dict[str, Any], augmentations: T.AugmentationList | None = None
    ) -> LabeledImage:
        """Read and augment an image that will be a part of another.

        Args:
            record: a dataset dict, which is not changed.
            augmentations: in the place of the mapper's.

        Raises:
            ImageReadError: the image cannot be read.
            BadImageError: the image has another size than annotated.
        """
        if augmentations is None:
            augmentations = self.augmentations
        pixels, transforms = _augment(self._read(record), augmentations)
        objects, crowds = _split(record.get("annotations", ()))
        size = pixels.shape[:2]
        groups = [
            self._instances(objects, transforms, size),
            self._instances(crowds, transforms, size),
        ]
        return LabeledImage(
            pixels,
            boxes=np.concatenate([group.gt_boxes.tensor.numpy() for group in groups]),
            classes=np.concatenate([group.gt_classes.numpy() for group in groups]),
            is_crowd=np.arange(sum(map(len, groups))) >= len(groups[0]),
        )

    def sample(self, record: dict[str, Any], labeled: LabeledImage) -> dict[str, Any]:
        """Return an image that was put together as ``__call__`` returns one.

        Args:
            record: the dataset dict that it is named after.
            labeled: the image.
        """
        mapped = _sample(record, labeled.pixels)
        mapped["instances"] = _to_instances(labeled.select(~labeled.is_crowd))
        if self.with_crowds:
            mapped["crowds"] = _to_instances(labeled.select(labeled.is_crowd))
        return mapped

    def _read(self, record: dict[str, Any]) -> np.ndarray:
        """The pixels of an image in ``INPUT.FORMAT``."""
        pixels = read_image(record["file_name"], self.apply_orientation)
        check_size(record, pixels.shape[:2], self.apply_orientation)
        return convert_format(pixels, self.image_format)

    def _instances(
        self,
        annotations: list[dict[str, Any]],
        transforms: T.TransformList,
        size: tuple[int, int],
    ) -> Instances:
        for annotation in annotations:
            if not self.use_masks:
                annotation.pop("segmentation", None)
            if not self.use_keypoints:
                annotation.pop("keypoints", None)
        transformed = [
            detection_utils.transform_instance_annotations(
                annotation, transforms, size, keypoint_hflip_indices=self.flipped_keypoints
            )
            for annotation in annotations
        ]
        instances = detection_utils.annotations_to_instances(transformed, size, self.mask_format)
        if self.recompute_boxes and instances.has("gt_masks"):
            instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        return detection_utils.filter_empty_instances(instances)


def _augment(
    pixels: np.ndarray, augmentations: T.AugmentationList
) -> tuple[np.ndarray, T.TransformList]:
    aug_input = T.AugInput(pixels)
    transforms = augmentations(aug_input)
    return aug_input.image, transforms


def _split(annotations: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], ...]:
    """Copies of the annotations of objects, and of those of crowds, without their masks."""
    objects: list[dict[str, Any]] = []
    crowds: list[dict[str, Any]] = []
    for annotation in map(copy.copy, annotations):
        if annotation.get("iscrowd", 0):
            annotation.pop("segmentation", None)  # of another format than that of objects
            crowds.append(annotation)
        else:
            objects.append(annotation)
    return objects, crowds


def _sample(record: dict[str, Any], pixels: np.ndarray) -> dict[str, Any]:
    """A dataset dict without annotations, with the image as the model gets it."""
    mapped = {key: value for key, value in record.items() if key != "annotations"}
    mapped["image"] = to_tensor(pixels)
    return mapped


def _to_instances(labeled: LabeledImage) -> Instances:
    instances = Instances(labeled.size)
    instances.gt_boxes = Boxes(torch.from_numpy(labeled.boxes))
    instances.gt_classes = torch.from_numpy(labeled.classes)
    return instances


def check_size(
    record: dict[str, Any], size: tuple[int, ...], apply_orientation: bool = True
) -> None:
    """Compare an image with its annotated size.

    Args:
        record: a dataset dict.
        size: (height, width) of the image.
        apply_orientation: whether the EXIF orientation was applied.

    Raises:
        BadImageError: the sizes differ; the message says how to fix it.
    """
    height, width = record["height"], record["width"]
    if (height, width) == tuple(size):
        return
    name = record["file_name"]
    message = (
        f"The image {printable_path(name)} has {size[1]}x{size[0]} pixels, but its annotations are "
        f"for {width}x{height}."
    )
    if (width, height) == tuple(size) and _swaps_sides(name):
        drawn_on, key = ("stored", "False") if apply_orientation else ("upright", "True")
        raise BadImageError(
            f"{message} It has an EXIF orientation tag, and its boxes seem to be drawn on the "
            f"{drawn_on} pixels: set INPUT.APPLY_EXIF_ORIENTATION {key} to use those for all "
            "images."
        )
    raise BadImageError(
        f"{message} Correct its width, height and boxes in the annotations, or restore the image "
        "that was annotated."
    )


def _swaps_sides(path: str) -> bool:
    try:
        return read_header(path).swaps_sides
    except ImageReadError:
        return False


class ErrorContextMapper:
    """Wraps a dataset mapper: an image that cannot be used is a `BadImageError`.

    Args:
        mapper: `DetectionMapper`, detectron2's ``DatasetMapper``, or your own.
    """

    def __init__(self, mapper: Callable[[dict[str, Any]], Any]) -> None:
        self.mapper = mapper

    def __call__(self, record: dict[str, Any]) -> Any:
        """Map one dataset dict.

        Raises:
            BadImageError: the image cannot be read, or its size is not the annotated one.
        """
        try:
            return self.mapper(record)
        except ImageReadError as error:
            raise BadImageError(
                f"{error} Replace it, or remove it from the annotations."
            ) from error
        except SizeMismatchError as error:
            raise BadImageError(
                f"The size of the image {printable_path(record['file_name'])} differs from the "
                f"annotations ({' '.join(str(error).split())})."
            ) from error
        except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError for broken PNG files
            raise BadImageError(
                f"The image {printable_path(record['file_name'])} cannot be read ({error}). "
                "Replace it, or remove it from the annotations."
            ) from error
