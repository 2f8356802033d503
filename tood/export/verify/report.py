"""The result of a verification: a verdict, a table for the terminal, and JSON next to the file."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

from tood_runtime.image_io import printable_path
from tood_runtime.model_info import ModelInfo

from ...checkpoint.saving import write_text
from ..files import file_parts, sha256
from .comparing import BatchComparison
from .matching import Limits

# Fewer detections than this are no evidence that a file is right.
MIN_DETECTIONS = 20
# Detections that may be near ties, of those in batches of one size. One image may have any number:
# where a near tie in NMS swaps two boxes, what they suppress changes with them.
MAX_NEAR_TIE_SHARE = 1e-3
# Smallest share of confident detections that match.
MIN_MATCHED_SHARE = {"float16": 0.9, "bfloat16": 0.85, "int8": 0.75}


@dataclass
class VerificationReport:
    """What the comparison of a file with its model found.

    Attributes:
        path: of the file.
        info: its metadata.
        runtime: name and version of what ran it.
        versions: of the programs, by name.
        limits: largest differences of float32 files.
        confident_threshold: score of the detections that half and int8 files are compared by; None
            for float32 files.
        comparisons: one per batch.
        problems: sentences about what is wrong with the file itself.
    """

    path: Path
    info: ModelInfo
    runtime: str
    versions: dict[str, str]
    limits: Limits
    confident_threshold: float | None = None
    comparisons: list[BatchComparison] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether the file does what the model does."""
        return not self.failures()

    @property
    def matched_share(self) -> float:
        """Share of the confident detections that match; 1 if there are none."""
        total = sum(item.confident for item in self.comparisons)
        return sum(item.confident_matched for item in self.comparisons) / total if total else 1.0

    def failures(self) -> list[str]:
        """Sentences about why the file is not verified; none if it is."""
        failures = list(self.problems)
        where: dict[str, list[str]] = {}
        for item in self.comparisons:
            for problem in item.problems:
                where.setdefault(problem, []).append(_name(item))
        for problem, names in where.items():
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            failures.append(f"{names[0]}{more}: {problem}")
        exact = self.info.precision == "float32"
        compared = [item for item in self.comparisons if not item.problems]
        failures += self._differences(compared) if exact else self._lost_share()
        count = sum(item.detections for item in compared)
        if count < MIN_DETECTIONS and not failures:
            failures.append(
                f"The model has only {count} detections in all images, which are not enough to "
                f"compare (at least {MIN_DETECTIONS}). Use --images with images of its classes, or "
                "a lower MODEL.TOOD.SCORE_THRESH_TEST."
            )
        return failures

    def _differences(self, compared: list[BatchComparison]) -> list[str]:
        failures = []
        unmatched = sum(item.unmatched for item in compared)
        what = "points" if self.info.output == "raw" else "detections"
        if unmatched:
            failures.append(
                f"{unmatched} {what} of model and file differ by more than {self.limits.box:g} px "
                f"or {self.limits.score:g} in score; the largest differences are "
                f"{max(i.max_box for i in compared):.1e} px and "
                f"{max(i.max_score for i in compared):.1e}."
            )
        for size in sorted({len(item.batch.images) for item in compared}):
            items = [item for item in compared if len(item.batch.images) == size]
            ties, tied_images, total = (
                sum(getattr(item, name) for item in items)
                for name in ("near_ties", "tied_images", "detections")
            )
            if ties > MAX_NEAR_TIE_SHARE * total and tied_images > 1:
                failures.append(
                    f"{ties} of {total} detections in batches of {size}, in {tied_images} images, "
                    f"are near ties: more than {MAX_NEAR_TIE_SHARE:.1%}."
                )
        return failures

    def _lost_share(self) -> list[str]:
        floor = MIN_MATCHED_SHARE.get(self.info.precision, max(MIN_MATCHED_SHARE.values()))
        if self.matched_share >= floor:
            return []
        return [
            f"{self.matched_share:.1%} of the detections above {self.confident_threshold:.2f} "
            f"match: at least {floor:.0%} expected of {self.info.precision} files."
        ]

    def lines(self) -> list[str]:
        """A table of the differences, and the verdict."""
        header = ["batch", "images", "padded to", "detections"]
        exact = self.info.precision == "float32"
        header += ["unmatched", "near ties"] if exact else ["confident", "matched"]
        rows = [
            [
                len(item.batch.images),
                ", ".join(_size(image.size) for image in item.batch.images),
                _size(item.batch.padded_size),
                item.detections,
                *(
                    (item.unmatched, item.near_ties)
                    if exact
                    else (item.confident, item.confident_matched)
                ),
                f"{item.max_box:.1e}",
                f"{item.max_score:.1e}",
            ]
            for item in self.comparisons
            if not item.problems
        ]
        table = tabulate(
            rows, [*header, "box (px)", "score"], tablefmt="github", disable_numparse=True
        )
        return [*table.splitlines(), *self._verdict()]

    def _verdict(self) -> list[str]:
        name, failures = printable_path(self.path), self.failures()
        if failures:
            return [f"{name} is NOT verified with {self.runtime}:", *(f"- {f}" for f in failures)]
        count = sum(item.detections for item in self.comparisons)
        if self.info.precision == "float32":
            ties = sum(item.near_ties for item in self.comparisons)
            what = "points match" if self.info.output == "raw" else "detections match"
            return [
                f"{name} is verified with {self.runtime}: all {count} {what}, with {ties} near "
                "ties."
            ]
        return [
            f"{name} is verified with {self.runtime}: {self.matched_share:.1%} of the detections "
            f"above {self.confident_threshold:.2f} match. Measure its AP: tood eval --model {name}"
        ]

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON."""
        return {
            "file": self.path.name,
            "sha256": {x.name: sha256(x) for x in file_parts(self.path) if x.is_file()},
            "passed": self.passed,
            "failures": self.failures(),
            "output": self.info.output,
            "precision": self.info.precision,
            "runtime": self.runtime,
            "versions": self.versions,
            "thresholds": {
                "box_px": self.limits.box,
                "score": self.limits.score,
                "near_tie_share": MAX_NEAR_TIE_SHARE,
                "min_detections": MIN_DETECTIONS,
                "min_matched_share": MIN_MATCHED_SHARE.get(self.info.precision),
                "confident_score": self.confident_threshold,
            },
            "matched_share": None if self.info.precision == "float32" else self.matched_share,
            "batches": [item.to_dict() for item in self.comparisons],
        }


def report_path(path: str | os.PathLike[str]) -> Path:
    """Where the report of a file is: ``model.onnx.verify.json`` for ``model.onnx``."""
    path = Path(path)
    return path.with_name(f"{path.name}.verify.json")


def write_report(path: str | os.PathLike[str], report: VerificationReport) -> Path:
    """Write a report as JSON next to the exported file.

    Args:
        path: the exported file.
        report: of it.

    Returns:
        The file of the report, moved into place atomically.

    Raises:
        CheckpointError: it cannot be written.
    """
    target = report_path(path)
    text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False)
    write_text(target, text + "\n")
    return target


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def _name(item: BatchComparison) -> str:
    sizes = ", ".join(_size(image.size) for image in item.batch.images)
    return f"Batch of {len(item.batch.images)} ({sizes} pixels)"
