"""Checks datasets before training: every problem once, with its count and examples."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from .box_checks import check_annotations
from .dataset import ChangeLog, DetectionDataset, concatenate
from .findings import MAX_EXAMPLES, Finding, FindingKind, find, one_line
from .image_headers import (
    MISSING,
    UNREADABLE,
    UNSUPPORTED,
    HeaderReport,
    check_header,
    check_image_headers,
)
from .keypoint_checks import check_keypoints
from .model_input import ModelInput
from .near_duplicates import (
    Fingerprints,
    Match,
    equal_files,
    near_duplicates,
    repeated_files,
)
from .size_checks import PERCENTILES, SizeSummary, check_sizes, summarize_sizes

REPEATED_FILES = FindingKind(
    "repeated-files",
    "warning",
    "images with the content of another image of the set",
    "Merge their annotations.",
)
LEAKED_FILES = FindingKind(
    "leaked-files",
    "error",
    "test images that are training images too (equal files)",
    "Remove them from one of the sets; results on them do not measure generalization.",
)
LEAKED_COPIES = FindingKind(
    "leaked-copies",
    "warning",
    "test images that look like a training image (resized, compressed or brightened copies)",
    "Compare them; move copies to one of the sets.",
)
DIFFERENT_CLASSES = FindingKind(
    "different-classes",
    "error",
    "classes that are not the same in both sets",
    "Training and test sets need the same classes in the same order.",
)
TEST_ONLY = FindingKind(
    "classes-in-test-only",
    "warning",
    "classes with boxes in the test set only",
    "They cannot be learned, so their AP will be near 0.",
)
TRAIN_ONLY = FindingKind(
    "classes-in-training-only",
    "warning",
    "classes with boxes in the training set only",
    "Their AP is NaN and not part of the mean.",
)


@dataclass(frozen=True)
class DatasetReport:
    """What one set contains, and what is wrong with it.

    Attributes:
        source: what it was read from.
        num_images: N.
        num_boxes: without crowds.
        num_crowds: crowd regions.
        num_empty_images: images without any box.
        class_counts: class name -> number of boxes, crowds left out.
        sizes: of the objects at the input sizes of the model.
        findings: errors first.
    """

    source: str
    num_images: int
    num_boxes: int
    num_crowds: int
    num_empty_images: int
    class_counts: dict[str, int]
    sizes: list[SizeSummary]
    findings: list[Finding]

    def as_dict(self) -> dict[str, object]:
        """The content as JSON."""
        return {
            **{name: getattr(self, name) for name in _NUMBERS},
            "sizes": [
                {
                    **asdict(summary),
                    "percentiles": dict(
                        zip(map(str, PERCENTILES), summary.percentiles, strict=False)
                    ),
                }
                for summary in self.sizes
            ],
            "findings": [finding.as_dict() for finding in self.findings],
        }


_NUMBERS = (
    *("source", "num_images", "num_boxes", "num_crowds", "num_empty_images", "class_counts"),
)
_ORDER = ("error", "warning", "note")


def sort_findings(findings: Sequence[Finding]) -> list[Finding]:
    """Return errors, then warnings, then notes; their order is kept otherwise."""
    return sorted(findings, key=lambda finding: _ORDER.index(finding.kind.severity))


def check_dataset(
    dataset: DetectionDataset,
    model_input: ModelInput,
    is_train: bool,
    fingerprints: Fingerprints | None = None,
    problems: Sequence[str] = (),
    num_threads: int = 8,
) -> DatasetReport:
    """Check a set: its annotations, and its image files by their headers.

    Args:
        dataset: the set.
        model_input: how the model will see it.
        is_train: whether it is trained on.
        fingerprints: of its images, if they were decoded; which of them could not be decoded is
            reported too.
        problems: why it cannot be used; see `tood.data.registration.read_datasets`.
        num_threads: how many files to read at once.
    """
    headers = check_image_headers(
        dataset, apply_exif=model_input.apply_exif, num_threads=num_threads
    )
    image_findings = _image_findings(dataset, headers, fingerprints)
    findings = [
        *(Finding(FindingKind("not-usable", "error", one_line(x)), 1, ()) for x in problems),
        *_with_left_out(image_findings, dataset),
        *check_annotations(dataset),
        *check_keypoints(dataset),
        *check_sizes(dataset, model_input, is_train),
        *_repeated_files(dataset),
    ]
    counts = dataset.num_objects_by_class
    return DatasetReport(
        source=dataset.source,
        num_images=len(dataset),
        num_boxes=int(counts.sum()),
        num_crowds=int(dataset.is_crowd.sum()),
        num_empty_images=int((np.diff(dataset.offsets) == 0).sum()),
        class_counts=dict(zip(dataset.class_names, counts.tolist(), strict=True)),
        sizes=summarize_sizes(dataset, model_input, is_train),
        findings=sort_findings(findings),
    )


def join_sets(datasets: Sequence[DetectionDataset]) -> DetectionDataset:
    """Join the sets of a config, with what reading changed in each, for one report."""
    changes = ChangeLog()
    for part in (dataset.changes for dataset in datasets):
        for what, count in part.counts.items():
            changes.add(what, part.examples[what], count, what in part.lost)
        changes.warnings += part.warnings
        changes.unreadable += part.unreadable
    annotated = all(dataset.annotated for dataset in datasets)
    return replace(concatenate(datasets), changes=changes, annotated=annotated)


def _image_findings(
    dataset: DetectionDataset, headers: HeaderReport, fingerprints: Fingerprints | None
) -> list[Finding]:
    """The findings of the headers, with the images that fail later on, when they are decoded."""
    if fingerprints is None:
        return headers.findings
    explained = {i for kind in (MISSING, UNSUPPORTED) for i in headers.images.get(kind, ())}
    indices = [i for i in sorted(fingerprints.unreadable) if i not in explained]
    names = (
        f"{one_line(dataset.file_names[i])} ({one_line(fingerprints.unreadable[i])})"
        for i in indices
    )
    others = [finding for finding in headers.findings if finding.kind is not UNREADABLE]
    return [*find(UNREADABLE, len(indices), names, indices), *others]


def _with_left_out(findings: list[Finding], dataset: DetectionDataset) -> list[Finding]:
    """Add the images that reading left out, because nothing says their size."""
    examples: dict[FindingKind, list[str]] = {}
    for path in dataset.changes.unreadable:
        for kind, details in check_header(path, (0, 0)):
            examples.setdefault(kind, []).append(f"{one_line(path)}{details}")
    joined = []
    for kind, names in examples.items():
        known = next((found for found in findings if found.kind is kind), None)
        texts = (*(known.examples if known else ()), *names)[:MAX_EXAMPLES]
        count = len(names) + (known.count if known else 0)
        joined.append(Finding(kind, count, texts, known.images if known else ()))
    return [*joined, *(found for found in findings if found.kind not in examples)]


def _repeated_files(dataset: DetectionDataset) -> list[Finding]:
    names = dataset.file_names
    # A file that is listed twice is another problem.
    pairs = [pair for pair in repeated_files(names) if names[pair.image] != names[pair.other]]
    return _find_pairs(REPEATED_FILES, dataset, dataset, pairs)


def compare_sets(
    train: DetectionDataset,
    test: DetectionDataset,
    fingerprints: tuple[Fingerprints, Fingerprints] | None = None,
) -> list[Finding]:
    """Return what is wrong between a training and a test set: other classes, and equal images.

    Args:
        train: the training set.
        test: the test set.
        fingerprints: of the images of both, if they were decoded; finds copies that are not equal
            files.
    """
    findings = _compare_classes(train, test)
    equal = equal_files(test.file_names, train.file_names)
    findings += _find_pairs(LEAKED_FILES, test, train, equal)
    if fingerprints is not None:
        known = {pair.image for pair in equal}
        near = near_duplicates(fingerprints[1], fingerprints[0])
        copies = [pair for pair in near if pair.image not in known]
        findings += _find_pairs(LEAKED_COPIES, test, train, copies)
    return sort_findings(findings)


def _find_pairs(
    kind: FindingKind, dataset: DetectionDataset, other: DetectionDataset, pairs: Sequence[Match]
) -> list[Finding]:
    names = (
        f"{one_line(dataset.file_names[pair.image])} = {one_line(other.file_names[pair.other])}"
        for pair in pairs
    )
    others = tuple(pair.other for pair in pairs[:MAX_EXAMPLES])
    found = find(kind, len(pairs), names, (pair.image for pair in pairs))
    return [replace(finding, other_images=others) for finding in found]


def _compare_classes(train: DetectionDataset, test: DetectionDataset) -> list[Finding]:
    if train.class_names != test.class_names:
        names = sorted(set(train.class_names) ^ set(test.class_names))
        # The same names in another order are as wrong.
        names = names or train.class_names
        return find(DIFFERENT_CLASSES, len(names), map(one_line, names))
    in_train, in_test = (x.num_objects_by_class > 0 for x in (train, test))
    findings = []
    for kind, mask in ((TEST_ONLY, in_test & ~in_train), (TRAIN_ONLY, in_train & ~in_test)):
        names = [one_line(train.class_names[index]) for index in np.flatnonzero(mask)]
        findings += find(kind, len(names), names)
    return findings
