"""Reads Pascal VOC datasets: one XML file of boxes per image.

supervision's reader is not used: it decodes every image, ignores ``difficult``, and takes the order
of the classes from the order of the files, so that splits disagree.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tood_runtime.image_header import ImageHeader

from ...errors import DataError
from ..dataset import ChangeLog, DetectionDataset
from ..normalize import build_dataset
from .base import DATASET_FORMAT_REGISTRY, DatasetFormat, DataSource
from .files import NO_HEADER, image_ids, map_threads, read_headers, reading, sort_corners
from .json_file import printable
from .voc_files import find_images, find_layout, has_annotations, read_class_list
from .voc_xml import VocAnnotation, read_annotation

# Coordinates are numbers of pixels from 1, unless at least the first fraction of the objects begins
# below 1, or at least the second fraction has coordinates between pixels.
_FRACTION_BELOW_1 = 0.001
_FRACTION_BETWEEN = 0.5


@DATASET_FORMAT_REGISTRY.register()
class VocFormat(DatasetFormat):
    """A folder with ``Annotations`` and ``ImageSets``, or with XML files next to the images."""

    name = "voc"

    @staticmethod
    def matches(path: Path) -> bool:
        """Whether a path is a folder with XML files where annotations may be."""
        return path.is_dir() and has_annotations(path)

    @staticmethod
    def read(source: DataSource) -> DetectionDataset:
        """Read a split.

        Classes, and whether coordinates count from 0 or 1, are derived from all splits together,
        so that they agree.

        Raises:
            DataError: it cannot be read; the message names file, object and fix.
        """
        with reading(source.annotations):
            return _read(source)


def _read(source: DataSource) -> DetectionDataset:
    folder = Path(source.annotations)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. Name the folder of the Pascal VOC dataset.")
    changes = ChangeLog()
    layout = find_layout(folder, source.split, changes)
    parsed = map_threads(read_annotation, layout.all_files)
    by_path = {annotation.path: annotation for annotation in parsed}
    classes = read_class_list(layout.root) or _sorted_names(parsed)
    annotations = [by_path[path] for path in layout.files]
    images = find_images(layout, annotations, source.images, changes, source.keep_unreadable)
    kept = [i for i, image in enumerate(images) if image is not None]
    return _build(
        f"{folder} ({source.split})" if layout.has_splits else str(folder),
        layout.root,
        classes,
        [annotations[i] for i in kept],
        [str(images[i]) for i in kept],
        _is_zero_based(parsed),
        source,
        changes,
    )


def _sorted_names(annotations: Sequence[VocAnnotation]) -> list[str]:
    return sorted({item.name for annotation in annotations for item in annotation.objects})


def _is_zero_based(annotations: Sequence[VocAnnotation]) -> bool:
    """Whether coordinates are distances from the image's edge, not pixel numbers from 1.

    Pascal VOC numbers the pixels from 1: xmin 1 and xmax W are the whole width. labelImg and
    supervision write that. CVAT (Datumaro) and others write distances from the edge. Nothing in a
    file says which; the values do. Pascal VOC 2012 has a few coordinates between pixels.
    """
    corners = [item.corners for annotation in annotations for item in annotation.objects]
    if not corners:
        return False
    values = np.array(corners)
    below = (values[:, :2] < 1).any(axis=1).mean()
    between = (values % 1 > 0).any(axis=1).mean()
    return bool(below >= _FRACTION_BELOW_1 or between >= _FRACTION_BETWEEN)


def _build(
    name: str,
    root: Path,
    classes: list[str],
    annotations: list[VocAnnotation],
    images: list[str],
    zero_based: bool,
    source: DataSource,
    changes: ChangeLog,
) -> DetectionDataset:
    objects = [item for annotation in annotations for item in annotation.objects]
    counts = [len(annotation.objects) for annotation in annotations]
    owners = np.repeat(np.arange(len(annotations)), counts)
    firsts = np.concatenate([[0], np.cumsum(counts)])

    def describe(row: int) -> str:
        image = owners[row]
        return f"{annotations[image].path}, object {row - firsts[image] + 1}"

    corners = np.array([item.corners for item in objects], np.float64).reshape(-1, 4)
    corners = sort_corners(corners, describe, changes, pixel=0 if zero_based else 1)
    if zero_based:
        changes.add("objects with coordinates that count from 0", f"all of {root}", len(objects))
    else:
        corners[:, :2] -= 1  # pixel x, counted from 1, covers x - 1 to x
    polygons = [row for row, item in enumerate(objects) if item.from_polygon]
    if polygons:
        changes.add("polygons replaced by their boxes", describe(polygons[0]), len(polygons))
    headers = read_headers(images, name, source.keep_unreadable)
    sizes = _image_sizes(annotations, headers, corners, firsts, source, changes)
    return build_dataset(
        source=name,
        class_names=classes,
        category_ids=list(range(1, len(classes) + 1)),
        file_names=images,
        image_ids=image_ids(images, root),
        heights=sizes[:, 1],
        widths=sizes[:, 0],
        image_index=owners,
        class_ids=_class_ids(classes, annotations, root),
        boxes=np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1),
        is_crowd=[item.difficult for item in objects],
        describe=describe,
        changes=changes,
    )


def _class_ids(classes: list[str], annotations: list[VocAnnotation], root: Path) -> list[int]:
    index = {name: i for i, name in enumerate(classes)}
    for annotation in annotations:
        for item in annotation.objects:
            if item.name not in index:
                raise DataError(
                    f"{annotation.path}: the class '{printable(item.name)}' is not in the list "
                    f"of classes in {root}. Add it there, or correct the annotation."
                )
    return [index[item.name] for annotation in annotations for item in annotation.objects]


def _image_sizes(
    annotations: list[VocAnnotation],
    headers: list[ImageHeader],
    corners: npt.NDArray[np.float64],
    firsts: npt.NDArray[np.int64],
    source: DataSource,
    changes: ChangeLog,
) -> npt.NDArray[np.int32]:
    """Return widths and heights (N, 2) of the images.

    Raises:
        DataError: a file says another size and its boxes do not fit the image.
    """
    sizes = []
    for i, (annotation, header) in enumerate(zip(annotations, headers, strict=True)):
        size = header.size if source.apply_exif else header.stored_size
        written, rows = annotation.size, corners[firsts[i] : firsts[i + 1]]
        if header is NO_HEADER:
            size = written or size
        sizes.append(size)
        if written == size or header is NO_HEADER:
            continue
        if written is None:
            changes.add("missing image sizes read from the images", annotation.path)
            continue
        # One pixel for the tools that count from 0 where others count from 1.
        turned = written == size[::-1] and header.orientation > 1
        if len(rows) and (turned or (rows[:, 2:].max(axis=0) > np.add(size, 1)).any()):
            fix = "Resize the boxes with the image, or correct <size>."
            if turned:
                other = not source.apply_exif
                fix = f"Its EXIF tag turns it: set INPUT.APPLY_EXIF_ORIENTATION {other}."
            raise DataError(
                f"{annotation.path} is for {written[0]}x{written[1]} pixels, but its image has "
                f"{size[0]}x{size[1]}, so the boxes are unclear. {fix}"
            )
        changes.add("wrong sizes of images in the file", annotation.path)
    return np.array(sizes, np.int32).reshape(-1, 2)
