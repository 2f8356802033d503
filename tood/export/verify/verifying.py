"""Comparison of an exported file with the model that it was written from."""

import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import nn

from tood_runtime.backends import Backend
from tood_runtime.backends.base import one_line

from ...checkpoint.info import current_versions
from ..torch_backends import open_any_backend
from .comparing import (
    BatchComparison,
    compare_detections,
    compare_loosely,
    compare_raw,
    count_confident,
)
from .file_checks import check_metadata, check_outputs, check_shapes
from .images import VerificationBatch, make_batches, prepare_images
from .matching import DEFAULT_LIMITS, Detected, Limits
from .reference import Reference, run_model
from .report import VerificationReport

logger = logging.getLogger(__name__)

BATCH_SIZES = (1, 3)
# Half and int8 files are compared by the detections above this score, or by this many of the best
# where few are above it.
CONFIDENT_SCORE, MIN_CONFIDENT = 0.3, 50


def verify_export(
    path: str | os.PathLike[str],
    model: nn.Module,
    cfg: CfgNode,
    *,
    images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None = None,
    open_backend: Callable[[str | os.PathLike[str]], Backend] = open_any_backend,
    limits: Limits = DEFAULT_LIMITS,
) -> VerificationReport:
    """Run an exported file and its model on the same images, and compare what they return.

    The model is run by :meth:`TOOD.inference`, on batches of one and of three images of different
    sizes; of a file with a fixed batch, on batches of that size.

    Args:
        path: the file.
        model: a TOOD in float32 and in evaluation mode, with the weights of the file.
        cfg: the config that it was built from.
        images: files, folders or glob patterns; at most 12 are taken. Images are drawn where there
            are fewer than 9.
        open_backend: opens the file.
        limits: largest differences of float32 files.

    Returns:
        The report, also of a file that is wrong or that cannot be run.

    Raises:
        ModelFileError: the file cannot be opened.
        SourceError: ``images`` names no image.
        ImageReadError: an image cannot be read.
        ExportError: a package that reads the file is not installed.
        ValueError: the model is in training mode or not in float32.
    """
    types = {parameter.dtype for parameter in model.parameters()}
    if model.training or types != {torch.float32}:
        raise ValueError("The model must be in float32 and in evaluation mode.")
    backend = open_backend(path)
    info = backend.info
    report = VerificationReport(
        Path(path), info, backend.name, current_versions(), limits,
        problems=[*check_metadata(info, model, cfg), *check_shapes(Path(path), info)],
    )  # fmt: skip
    prepared = prepare_images(cfg, info, images)
    sizes = BATCH_SIZES if info.batch is None else (info.batch,)
    batches = [batch for size in sizes for batch in make_batches(prepared, size, info)]
    logger.info(
        "Comparing %s with the model: %d images, %d batches.", path, len(prepared), len(batches)
    )
    loose: list[tuple[BatchComparison, list[tuple[Detected, Detected]]]] = []
    for batch in batches:
        reference = run_model(model, batch)
        outputs, problems = _run_file(backend, batch, reference)
        if outputs is None:
            report.comparisons.append(BatchComparison(batch, problems=problems))
        elif info.precision != "float32":
            loose.append(compare_loosely(outputs, reference, batch, model, info))
            report.comparisons.append(loose[-1][0])
        else:
            compare = compare_raw if info.output == "raw" else compare_detections
            report.comparisons.append(compare(outputs, reference, batch, model, limits))
    if loose:
        report.confident_threshold = _confident_threshold([images for _, images in loose])
        for result, detections in loose:
            count_confident(result, detections, report.confident_threshold)
    return report


def _run_file(
    backend: Backend, batch: VerificationBatch, reference: Reference
) -> tuple[dict[str, np.ndarray] | None, list[str]]:
    """Outputs of the file, or None and what is wrong with them."""
    boxes, scores = reference.raw()
    try:
        outputs = backend.run(*batch.arrays())
    except Exception as error:  # each runtime has types of its own
        return None, [f"{backend.name} failed: {one_line(error)}."]
    shapes = {"boxes": boxes.shape, "scores": scores.shape}
    problems = check_outputs(outputs, backend.info, batch, shapes)
    return (None, problems) if problems else (outputs, [])


def _confident_threshold(images: list[list[tuple[Detected, Detected]]]) -> float:
    scores = np.concatenate([expected.scores for batch in images for expected, _ in batch])
    scores = np.sort(scores)[::-1]
    if not len(scores):
        return CONFIDENT_SCORE
    return min(CONFIDENT_SCORE, float(scores[min(MIN_CONFIDENT, len(scores)) - 1]))
