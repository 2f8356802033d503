"""Test-time augmentation: the candidates of several views of an image, resized or mirrored.

A view is a dict with "image", (C, h, w), and "flipped", whether it is mirrored left to right. The
candidates of all views are moved into the frame of the input's own "image" and chosen from
together, so that NMS and the limit of detections see all of them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from .postprocessing import finalize, merge_candidates
from .structures import ImageDetections

# Of an input of the model: its views, and whether a view is mirrored.
VIEWS, FLIPPED = "views", "flipped"

Candidates = Callable[[list[dict[str, Any]]], list[ImageDetections]]


def has_views(batched_inputs: Sequence[dict[str, Any]]) -> bool:
    """Whether images of a batch are to be looked at in several views."""
    return any(VIEWS in x for x in batched_inputs)


def size_of(x: dict[str, Any]) -> tuple[int, int]:
    """(height, width) of an input's or a view's image."""
    return int(x["image"].shape[-2]), int(x["image"].shape[-1])


def size_divisor(model: nn.Module) -> int:
    """What a batch's height and width are padded to a multiple of, by TOOD or another detector.

    Returns:
        1 for none.
    """
    backbone = getattr(model, "backbone", None)
    return max(getattr(backbone, "size_divisibility", 1), 1)


def detect_in_views(
    model: Any,
    batched_inputs: list[dict[str, Any]],
    sizes: list[tuple[int, int]],
    score_thresh: float | None = None,
) -> list[ImageDetections]:
    """Detections of each image of a batch, chosen from the candidates of all of its views.

    Args:
        model: a `TOOD`.
        batched_inputs: inputs with ``VIEWS``.
        sizes: (height, width) of each image, to clip to.
        score_thresh: instead of the model's.
    """
    return [
        finalize(
            candidates,
            nms_thresh=model.test_nms_thresh,
            max_detections=model.max_detections_per_image,
            image_size=size,
        )
        for candidates, size in zip(
            model.image_candidates(batched_inputs, score_thresh), sizes, strict=True
        )
    ]


def candidates_of_views(
    candidates: Candidates, batched_inputs: Sequence[dict[str, Any]], size_divisor: int
) -> list[ImageDetections]:
    """Candidates of each image of a batch, from all of its views.

    Views of one padded size are run together, also those of different images. Another size would
    be padded further, which changes what the network finds.

    Args:
        candidates: runs the network on a batch, and returns the candidates of each image.
        batched_inputs: inputs with ``VIEWS``; one without is its own single view.
        size_divisor: of `size_divisor`.

    Returns:
        For each image its candidates, not clipped, in pixels of its "image".

    Raises:
        ValueError: an image has no view.
    """
    groups: dict[tuple[int, int], list[tuple[int, int, dict[str, Any]]]] = {}
    for image, x in enumerate(batched_inputs):
        views = x.get(VIEWS, [x])
        if not views:
            raise ValueError("An input of the model has an empty list of views.")
        for place, view in enumerate(views):
            height, width = (-(-side // size_divisor) * size_divisor for side in size_of(view))
            groups.setdefault((height, width), []).append((image, place, view))
    parts: dict[tuple[int, int], ImageDetections] = {}
    for group in groups.values():
        found_in_each = candidates([view for _, _, view in group])
        for (image, place, view), found in zip(group, found_in_each, strict=True):
            parts[image, place] = to_frame(
                found, size_of(view), view.get(FLIPPED, False), size_of(batched_inputs[image])
            )
    # In the order of the views, whatever group each was in: NMS depends on it where scores tie.
    return [
        merge_candidates([parts[key] for key in sorted(parts) if key[0] == image])
        for image in range(len(batched_inputs))
    ]


def to_frame(
    found: ImageDetections, size: tuple[int, int], flipped: bool, frame: tuple[int, int]
) -> ImageDetections:
    """Move boxes from pixels of a view to pixels of another size of the image, not mirrored.

    Args:
        found: in pixels of the view.
        size: (height, width) of the view.
        flipped: whether the view is mirrored.
        frame: (height, width) that boxes are moved to.

    Returns:
        The candidates; the same tensors if there is nothing to do.
    """
    boxes = found.boxes
    if flipped:
        x1, y1, x2, y2 = boxes.unbind(1)
        boxes = torch.stack([size[1] - x2, y1, size[1] - x1, y2], dim=1)
    if size != frame:
        scale = [frame[1] / size[1], frame[0] / size[0]] * 2
        boxes = boxes * torch.tensor(scale, dtype=boxes.dtype, device=boxes.device)
    return found._replace(boxes=boxes)
