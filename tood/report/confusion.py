"""Which class is taken for which: the confusion matrix at one score threshold."""

import numpy as np
import numpy.typing as npt

from ..data.dataset import DetectionDataset
from .detections import DetectionRows
from .matching import FALSE_POSITIVE, FOREGROUND_IOU, TRUE_POSITIVE, Matches, box_ious

Ints = npt.NDArray[np.int64]


def confusion_matrix(
    dataset: DetectionDataset, rows: DetectionRows, matches: Matches, threshold: float
) -> Ints:
    """Count what objects of each class are detected as.

    True positives of COCO's matching are on the diagonal. The other detections then take the GT
    boxes of other classes that are left, in the order of their scores, each the one with the
    largest IoU of at least 0.5. What is left is background: duplicates and detections of nothing in
    its row, GT boxes that were not detected in its column. Detections in crowd regions count
    nowhere.

    Args:
        dataset: the ground truth.
        rows: the detections.
        matches: what `tood.report.matching.match_detections` returned for both.
        threshold: detections with at least this score count; NaN for none.

    Returns:
        (K + 1, K + 1): GT classes in rows, detected classes in columns, background last.
    """
    num_classes = len(dataset.class_names)
    matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    chosen = rows.scores >= threshold
    is_true = chosen & (matches.status == TRUE_POSITIVE)
    left = ~dataset.is_crowd  # GT boxes that no detection has taken
    left[matches.gt[is_true]] = False
    np.add.at(matrix, (rows.class_ids[is_true], rows.class_ids[is_true]), 1)
    wrong = np.flatnonzero(chosen & (matches.status == FALSE_POSITIVE))
    taken = np.full(len(wrong), -1, np.int64)
    images = rows.image_index[wrong]
    starts = np.searchsorted(images, np.arange(len(dataset) + 1))
    for image in np.flatnonzero(np.diff(starts)).tolist():
        gt = np.arange(dataset.offsets[image], dataset.offsets[image + 1])
        gt = gt[left[gt]]
        part = wrong[starts[image] : starts[image + 1]]
        if len(gt):
            columns = _take(rows, part, dataset, gt)
            taken[starts[image] : starts[image + 1]] = columns
            left[columns[columns >= 0]] = False
    labels = np.where(taken >= 0, np.append(dataset.class_ids, num_classes)[taken], num_classes)
    np.add.at(matrix, (labels, rows.class_ids[wrong]), 1)
    matrix[:, num_classes] += np.bincount(dataset.class_ids[left], minlength=num_classes + 1)
    return matrix


def _take(rows: DetectionRows, part: Ints, dataset: DetectionDataset, gt: Ints) -> Ints:
    """The GT box of another class that each detection of an image takes; -1 for none."""
    ious = box_ious(rows.boxes[part], dataset.boxes[gt])
    ious[rows.class_ids[part][:, None] == dataset.class_ids[gt][None]] = 0
    taken = np.full(len(part), -1, np.int64)
    for row in np.flatnonzero(ious.max(axis=1) >= FOREGROUND_IOU).tolist():
        column = int(ious[row].argmax())
        if ious[row, column] >= FOREGROUND_IOU:
            taken[row] = gt[column]
            ious[:, column] = 0
    return taken


def largest_confusions(matrix: Ints, count: int) -> list[tuple[int, int, int]]:
    """The most frequent (GT class, detected class, number) off the diagonal, without background."""
    between = matrix[:-1, :-1].copy()
    np.fill_diagonal(between, 0)
    flat = np.argsort(-between, axis=None, kind="stable")[:count]
    pairs = [divmod(int(index), len(between)) for index in flat]
    counted = [(row, column, int(between[row, column])) for row, column in pairs]
    return [entry for entry in counted if entry[2]]


def most_confused_classes(matrix: Ints, count: int) -> Ints:
    """The classes with the most confusions, in the order of their numbers."""
    between = matrix[:-1, :-1].copy()
    np.fill_diagonal(between, 0)
    total = between.sum(axis=0) + between.sum(axis=1)
    order = np.argsort(-total, kind="stable")[:count]
    return np.sort(order).astype(np.int64)


def reduce_matrix(matrix: Ints, shown: Ints) -> Ints:
    """Join the rows and columns of all classes but some.

    Args:
        matrix: (K + 1, K + 1).
        shown: the S classes that keep their own.

    Returns:
        The matrix of these classes, the others, and background: (S + 2, S + 2). Without others,
        (S + 1, S + 1).
    """
    num_classes, count = len(matrix) - 1, len(shown)
    has_others = count < num_classes
    position = np.full(num_classes + 1, count)
    position[shown] = np.arange(count)
    position[num_classes] = count + has_others
    reduced = np.zeros((count + has_others + 1,) * 2, np.int64)
    np.add.at(reduced, (position[:, None], position[None]), matrix)
    return reduced
