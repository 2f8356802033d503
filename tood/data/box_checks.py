"""Checks of images and boxes that need the annotations only."""

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from .dataset import MIN_BOX_SIDE, DetectionDataset
from .filtering import MIN_IMAGE_SIDE
from .findings import Finding, FindingKind, find, one_line

# Boxes of one image are the same from this IoU on.
SAME_BOX_IOU = 0.99
# Rounding puts corners beyond the image by up to this (pixels).
_ROUNDING = 1.0

_LOST = FindingKind(
    "dropped-in-reading",
    "warning",
    "",
    "They are not used. Correct or remove them in the annotations, or add what they lack.",
)
_CHANGED = FindingKind("changed-in-reading", "note", "")
_SUSPICIOUS = FindingKind("suspicious", "warning", "")
UNKNOWN = FindingKind(
    "no-annotations",
    "note",
    "images without known annotations",
    "Detections on them are written, but not evaluated.",
)
NO_BOXES = FindingKind("no-boxes", "error", "no boxes at all", "Name annotations with boxes.")
ONLY_CROWDS = FindingKind(
    "only-crowds",
    "error",
    "only crowd regions (iscrowd, difficult, IsGroupOf), which are neither trained on nor counted",
    "Correct the annotations.",
)
EMPTY_IMAGES = FindingKind(
    "images-without-boxes",
    "note",
    "images without boxes",
    "Training skips them unless DATALOADER.FILTER_EMPTY_ANNOTATIONS is False; in evaluation, "
    "detections on them are false positives.",
)
EMPTY_CLASSES = FindingKind(
    "classes-without-boxes",
    "warning",
    "classes without boxes",
    "They cannot be learned from this set, and their AP on it is NaN.",
)
SMALL_IMAGES = FindingKind(
    "small-images",
    "warning",
    f"images with a side below {MIN_IMAGE_SIDE} pixels",
    "Training skips them.",
)
SMALL_BOXES = FindingKind(
    "small-boxes",
    "warning",
    f"boxes with a side below {MIN_BOX_SIDE:g} pixel",
    "Training skips them; in evaluation they count.",
)
OUTSIDE_BOXES = FindingKind(
    "boxes-outside",
    "warning",
    "boxes outside of their image",
    "Training skips them, and evaluation ignores them. Correct them.",
)
LEAVING_BOXES = FindingKind(
    "boxes-beyond",
    "warning",
    "boxes that end more than a pixel beyond their image",
    "Training clips them; evaluation does not, so the detections, which are clipped, match "
    "less well.",
)
REPEATED_BOXES = FindingKind(
    "repeated-boxes",
    "warning",
    f"boxes that repeat another of their class (IoU above {SAME_BOX_IOU})",
    "NMS keeps one detection, so the others count as missed. Remove them.",
)
TWO_CLASSES = FindingKind(
    "boxes-with-two-classes",
    "warning",
    f"boxes that repeat another of a different class (IoU above {SAME_BOX_IOU})",
    "Keep one class for each object.",
)
REPEATED_NAMES = FindingKind(
    "repeated-images", "warning", "images listed more than once", "Merge their annotations."
)


def check_annotations(dataset: DetectionDataset) -> list[Finding]:
    """Return what looks wrong in images and boxes, and what reading has changed."""
    if not dataset.annotated:
        return find(UNKNOWN, len(dataset), [one_line(dataset.source)])
    return [
        *_reading(dataset),
        *_counts(dataset),
        *_images(dataset),
        *_places(dataset),
        *_repetitions(dataset),
    ]


def describe_box(dataset: DetectionDataset, row: int) -> str:
    """Name a box: class, [x, y, width, height] and file."""
    image = int(np.searchsorted(dataset.offsets, row, side="right")) - 1
    box = ", ".join(f"{value:.6g}" for value in dataset.boxes[row])
    name = one_line(dataset.class_names[dataset.class_ids[row]])
    return f"{name} [{box}] in {one_line(dataset.file_names[image])}"


def find_boxes(
    kind: FindingKind,
    dataset: DetectionDataset,
    rows: npt.NDArray[np.int64],
    describe: Callable[[int], str] | None = None,
) -> list[Finding]:
    """Return a finding about boxes, or nothing where there are none.

    Args:
        kind: what is wrong with them.
        dataset: to which they belong.
        rows: of the boxes, sorted.
        describe: names a box; by default :func:`describe_box`.
    """
    text = describe or (lambda row: describe_box(dataset, row))
    images = dict.fromkeys(dataset.image_index[rows[:1000]].tolist())
    return find(kind, len(rows), (text(int(row)) for row in rows), images)


def find_images(
    kind: FindingKind,
    dataset: DetectionDataset,
    mask: npt.NDArray[np.bool_],
    details: Callable[[int], str] = lambda index: "",
) -> list[Finding]:
    """Return a finding about the images in a mask (N,), or nothing where there are none."""
    indices = np.flatnonzero(mask)
    names = (f"{one_line(dataset.file_names[i])}{details(int(i))}" for i in indices)
    return find(kind, len(indices), names, indices)


def _reading(dataset: DetectionDataset) -> Iterable[Finding]:
    changes = dataset.changes
    for what, count in changes.counts.items():
        base = _LOST if what in changes.lost else _CHANGED
        kind = FindingKind(base.name, base.severity, one_line(what), base.fix)
        yield Finding(kind, count, (one_line(changes.examples[what]),))
    for text in changes.warnings:
        yield Finding(FindingKind(_SUSPICIOUS.name, _SUSPICIOUS.severity, one_line(text)), 1, ())


def _counts(dataset: DetectionDataset) -> list[Finding]:
    if not dataset.num_boxes:
        return find(NO_BOXES, len(dataset), [one_line(dataset.source)])
    if dataset.is_crowd.all():
        return find(ONLY_CROWDS, dataset.num_boxes, [one_line(dataset.source)])
    objects = dataset.num_objects_by_class
    missing = [
        one_line(name) for name, n in zip(dataset.class_names, objects, strict=True) if n == 0
    ]
    return find(EMPTY_CLASSES, len(missing), missing)


def _images(dataset: DetectionDataset) -> Iterable[Finding]:
    yield from find_images(EMPTY_IMAGES, dataset, np.diff(dataset.offsets) == 0)
    yield from find_images(
        SMALL_IMAGES,
        dataset,
        np.minimum(dataset.heights, dataset.widths) < MIN_IMAGE_SIDE,
        lambda index: f" ({dataset.widths[index]}x{dataset.heights[index]})",
    )
    seen: set[str] = set()
    repeated = np.zeros(len(dataset), bool)
    for index, name in enumerate(dataset.file_names):
        repeated[index] = name in seen
        seen.add(name)
    yield from find_images(REPEATED_NAMES, dataset, repeated)


def _places(dataset: DetectionDataset) -> Iterable[Finding]:
    index = dataset.image_index
    limits = np.stack([dataset.widths, dataset.heights], 1)[index]
    low, size = dataset.boxes[:, :2], dataset.boxes[:, 2:]
    high = low + size
    outside = dataset.is_outside
    small = dataset.is_small & ~outside
    beyond = ((low < -_ROUNDING) | (high > limits + _ROUNDING)).any(1) & ~outside & ~small
    for kind, mask in ((SMALL_BOXES, small), (OUTSIDE_BOXES, outside), (LEAVING_BOXES, beyond)):

        def describe(row: int) -> str:
            width, height = limits[row]
            return f"{describe_box(dataset, row)} ({width}x{height})"

        yield from find_boxes(kind, dataset, np.flatnonzero(mask), describe)


def _repetitions(dataset: DetectionDataset) -> Iterable[Finding]:
    first, second = same_boxes(dataset)
    same_class = dataset.class_ids[first] == dataset.class_ids[second]
    yield from find_boxes(REPEATED_BOXES, dataset, np.unique(second[same_class]))
    pairs = {int(b): int(a) for a, b in zip(first[~same_class], second[~same_class], strict=True)}

    def describe(row: int) -> str:
        other = one_line(dataset.class_names[dataset.class_ids[pairs[row]]])
        return f"{describe_box(dataset, row)}, also {other}"

    yield from find_boxes(TWO_CLASSES, dataset, np.unique(second[~same_class]), describe)


def same_boxes(
    dataset: DetectionDataset, min_iou: float = SAME_BOX_IOU
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Find pairs of boxes of one image that are the same, crowds left out.

    Returns:
        The rows of each pair (P,), the smaller one first.
    """
    boxes, index = dataset.boxes, dataset.image_index
    order = np.lexsort([boxes[:, 0], index])
    order = order[~dataset.is_crowd[order]]
    x1, image, width = boxes[order, 0], index[order], boxes[order, 2]
    # With an IoU above t, left edges differ by less than (1 / t - 1) widths of either box.
    reach = x1 + (1 / min_iou - 1) * width
    pairs = []
    active = np.arange(len(order))
    step = 1
    while len(active):
        active = active[active + step < len(order)]
        following = active + step
        near = (image[active] == image[following]) & (x1[following] <= reach[active])
        active = active[near]
        a, b = order[active], order[active + step]
        same = _iou(boxes[a], boxes[b]) > min_iou
        pairs.append(np.stack([np.minimum(a, b), np.maximum(a, b)], 1)[same])
        step += 1
    found = np.concatenate(pairs) if pairs else np.zeros((0, 2), np.int64)
    found = found[np.lexsort([found[:, 0], found[:, 1]])]
    return found[:, 0], found[:, 1]


def _iou(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """IoU (P,) of boxes (P, 4), [x, y, width, height] with positive sides."""
    low = np.maximum(first[:, :2], second[:, :2])
    high = np.minimum(first[:, :2] + first[:, 2:], second[:, :2] + second[:, 2:])
    common = np.prod((high - low).clip(min=0), axis=1)
    union = first[:, 2:].prod(1) + second[:, 2:].prod(1) - common
    return np.asarray(common / union)
