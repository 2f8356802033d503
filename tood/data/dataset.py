"""A detection dataset in the normalized form that training, evaluation and checks share."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from detectron2.structures import BoxMode

from .keypoint_arrays import Points, coco_keypoints, join_points

FileId = int | str

# As the reference implementation: its training skips boxes with a smaller side (pixels).
MIN_BOX_SIDE = 1.0


@dataclass
class ChangeLog:
    """What reading changed or dropped, for one line in the log and for ``tood check-data``.

    Attributes:
        counts: how often, by what was done, such as "missing areas set to width * height".
        examples: one place for each of them, such as "annotation 7".
        warnings: sentences about what was kept but looks wrong.
        lost: what of it means that boxes or images of the data are not used.
        unreadable: paths of images that were left out, because they are missing or unreadable and
            nothing else says their size; empty unless `DataSource.keep_unreadable`.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    unreadable: list[str] = field(default_factory=list)

    def add(self, what: str, example: object, count: int = 1, lost: bool = False) -> None:
        """Count a change; the first example of each kind is kept.

        Args:
            what: was done, in the plural.
            example: a place.
            count: how often.
            lost: whether boxes or images that may be correct are not used. That is a warning.
        """
        if count:
            if lost:
                self.lost.add(what)
            self.counts[what] += count
            self.examples.setdefault(what, str(example)[:200])

    def format(self) -> str:
        """One line, empty if nothing was changed."""
        return "; ".join(
            f"{what}: {count} (for example {self.examples[what]})"
            for what, count in self.counts.items()
        )


@dataclass(frozen=True)
class DetectionDataset:
    """Images and boxes in normalized form: N images, M boxes, K classes.

    Boxes are finite, have positive sides and are sorted by image. Everything that grows with the
    data lies in arrays: a million boxes take 50 MB, which the workers of a data loader share.

    Attributes:
        source: what it was read from, for messages.
        class_names: K names by class index, all different.
        category_ids: K ids of the file, by class index; all different.
        file_names: N paths of images.
        image_ids: N ids of the file, all different: all whole numbers, or all text.
        heights: (N,) int32, pixels, after the EXIF orientation.
        widths: (N,) int32.
        offsets: (N + 1,) int64: the boxes of image i are rows ``offsets[i]:offsets[i + 1]``.
        boxes: (M, 4) float64, [x, y, width, height] in pixels.
        class_ids: (M,) int32 class indices.
        is_crowd: (M,) bool: regions that are neither trained on nor counted as missed (COCO's
            ``iscrowd``, Pascal VOC's ``difficult``, Open Images' ``IsGroupOf``).
        areas: (M,) float64: of the object where the file knows it, else of the box; the COCO
            evaluation sorts objects into small, medium and large by it.
        segmentations: M masks in COCO's format where masks are used, else None.
        keypoints: (M, P, 3) float32 x, y in pixels and visibility (0 not labeled, 1 hidden, 2
            visible), in detectron2's convention; None where keypoints are not used.
        keypoint_names: P names; none where they are not known.
        changes: what reading changed.
        annotated: False for images whose annotations are not known, as of COCO's test-dev: they can
            be predicted on, but neither trained on nor evaluated.
    """

    source: str
    class_names: list[str]
    category_ids: list[FileId]
    file_names: list[str]
    image_ids: list[FileId]
    heights: npt.NDArray[np.int32]
    widths: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float64]
    class_ids: npt.NDArray[np.int32]
    is_crowd: npt.NDArray[np.bool_]
    areas: npt.NDArray[np.float64]
    segmentations: list[Any] | None = None
    keypoints: Points | None = None
    keypoint_names: list[str] = field(default_factory=list)
    changes: ChangeLog = field(default_factory=ChangeLog)
    annotated: bool = True

    def __len__(self) -> int:
        return len(self.file_names)

    @property
    def num_boxes(self) -> int:
        """M, crowds included."""
        return len(self.boxes)

    @property
    def image_index(self) -> npt.NDArray[np.int64]:
        """(M,) the image of each box."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @property
    def is_outside(self) -> npt.NDArray[np.bool_]:
        """(M,) which boxes have no pixel in their image."""
        index = self.image_index
        x, y, width, height = self.boxes.T
        return (
            (x >= self.widths[index])
            | (y >= self.heights[index])
            | (x + width <= 0)
            | (y + height <= 0)
        )

    @property
    def is_small(self) -> npt.NDArray[np.bool_]:
        """(M,) which boxes have a side below :data:`MIN_BOX_SIDE`.

        The sides count as they were annotated: adding them to x and y would round 1.0 to less.
        """
        return np.asarray((self.boxes[:, 2:] < MIN_BOX_SIDE).any(axis=1))

    @property
    def is_object(self) -> npt.NDArray[np.bool_]:
        """(M,) which boxes training uses: not crowds, large enough, in their image."""
        return ~(self.is_crowd | self.is_small | self.is_outside)

    @property
    def num_objects_by_class(self) -> npt.NDArray[np.int64]:
        """(K,) boxes of each class, without crowds."""
        return np.bincount(self.class_ids[~self.is_crowd], minlength=len(self.class_names))

    def ignore_outside_boxes(self) -> "DetectionDataset":
        """Return the dataset as it is evaluated: boxes outside of their image are crowds.

        Detections are clipped to the image, so none can match them. As crowds, they are not counted
        as missed, and a detection there is not wrong either.
        """
        outside = self.is_outside
        return replace(self, is_crowd=self.is_crowd | outside) if outside.any() else self

    def record(self, index: int) -> dict[str, Any]:
        """Return an image as one of detectron2's dataset dicts."""
        rows = range(self.offsets[index], self.offsets[index + 1])
        return {
            "file_name": self.file_names[index],
            "image_id": self.image_ids[index],
            "height": int(self.heights[index]),
            "width": int(self.widths[index]),
            "annotations": [self._annotation(row) for row in rows],
        }

    def _annotation(self, row: int) -> dict[str, Any]:
        annotation = {
            "bbox": self.boxes[row].tolist(),
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": int(self.class_ids[row]),
            "iscrowd": int(self.is_crowd[row]),
        }
        if self.segmentations is not None:
            annotation["segmentation"] = self.segmentations[row]
        if self.keypoints is not None:
            annotation["keypoints"] = self.keypoints[row].reshape(-1).tolist()
        return annotation

    def dicts(self) -> list[dict[str, Any]]:
        """Return all images as detectron2's dataset dicts, for its ``DatasetCatalog``."""
        return [self.record(index) for index in range(len(self))]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self.record, range(len(self)))

    def select_boxes(self, keep: npt.NDArray[np.bool_]) -> "DetectionDataset":
        """Return the dataset with the boxes (M,) that are to be kept; all images stay."""
        kept_before = np.concatenate([[0], np.cumsum(keep)])
        segmentations = self.segmentations
        if segmentations is not None:
            segmentations = [segmentations[row] for row in np.flatnonzero(keep)]
        return replace(
            self,
            offsets=kept_before[self.offsets],
            boxes=self.boxes[keep],
            class_ids=self.class_ids[keep],
            is_crowd=self.is_crowd[keep],
            areas=self.areas[keep],
            segmentations=segmentations,
            keypoints=None if self.keypoints is None else self.keypoints[keep],
        )

    def select_images(self, keep: npt.NDArray[np.bool_]) -> "DetectionDataset":
        """Return the dataset with the images (N,) that are to be kept, and their boxes."""
        counts = np.diff(self.offsets)
        selected = self.select_boxes(np.repeat(keep, counts))
        indices = np.flatnonzero(keep)
        return replace(
            selected,
            file_names=[self.file_names[i] for i in indices],
            image_ids=[self.image_ids[i] for i in indices],
            heights=self.heights[keep],
            widths=self.widths[keep],
            offsets=np.concatenate([[0], np.cumsum(counts[keep])]),
        )

    def to_coco(self) -> dict[str, list[dict[str, Any]]]:
        """Return the content of a COCO file, with ids from 1 by position.

        pycocotools does not count annotations with the id 0, and its speed and its C++
        replacements depend on what ids are, so the ids of the file stay outside of the evaluation.
        """
        image_index = self.image_index
        annotations = [
            {
                "id": row + 1,
                "image_id": int(image_index[row]) + 1,
                "category_id": int(self.class_ids[row]) + 1,
                "bbox": self.boxes[row].tolist(),
                "area": float(self.areas[row]),
                "iscrowd": int(self.is_crowd[row]),
            }
            for row in range(self.num_boxes)
        ]
        for row, segmentation in enumerate(self.segmentations or ()):
            annotations[row]["segmentation"] = segmentation
        for row, points in enumerate(() if self.keypoints is None else self.keypoints):
            annotations[row].update(coco_keypoints(points))
        return {
            "images": [
                {
                    "id": index + 1,
                    "file_name": name,
                    "height": int(self.heights[index]),
                    "width": int(self.widths[index]),
                }
                for index, name in enumerate(self.file_names)
            ],
            "annotations": annotations,
            "categories": [
                {"id": index + 1, "name": name} for index, name in enumerate(self.class_names)
            ],
        }


def concatenate(datasets: Sequence[DetectionDataset]) -> DetectionDataset:
    """Join datasets of the same classes, such as the training sets of a config.

    Image ids of different datasets may be equal, so the result is for training only.
    """
    first = datasets[0]
    if len(datasets) == 1:
        return first
    starts = np.cumsum([0] + [dataset.num_boxes for dataset in datasets])
    offsets = [
        dataset.offsets[:-1] + start for dataset, start in zip(datasets, starts, strict=False)
    ]
    segmentations = None
    if all(dataset.segmentations is not None for dataset in datasets):
        segmentations = [mask for dataset in datasets for mask in dataset.segmentations or ()]
    return DetectionDataset(
        source=", ".join(dataset.source for dataset in datasets),
        class_names=first.class_names,
        category_ids=first.category_ids,
        file_names=[name for dataset in datasets for name in dataset.file_names],
        image_ids=[image_id for dataset in datasets for image_id in dataset.image_ids],
        heights=np.concatenate([dataset.heights for dataset in datasets]),
        widths=np.concatenate([dataset.widths for dataset in datasets]),
        offsets=np.concatenate([*offsets, starts[-1:]]),
        boxes=np.concatenate([dataset.boxes for dataset in datasets]),
        class_ids=np.concatenate([dataset.class_ids for dataset in datasets]),
        is_crowd=np.concatenate([dataset.is_crowd for dataset in datasets]),
        areas=np.concatenate([dataset.areas for dataset in datasets]),
        segmentations=segmentations,
        keypoints=join_points([dataset.keypoints for dataset in datasets]),
        keypoint_names=first.keypoint_names,
    )
