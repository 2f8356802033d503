"""Turns a mask into polygons that decode to exactly its pixels."""

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


def mask_to_polygons(mask: Mask) -> list[list[int]]:
    """Return polygons in COCO's format that cover the pixels of a mask, and no others.

    They run along the edges of the pixels, so pycocotools decodes them to the mask, pixel by pixel.
    COCO takes the union of the polygons of an object, so it has no holes: a piece with a hole is
    cut in two there. RLE would need no such cuts, but detectron2 trains on it only with
    ``INPUT.MASK_FORMAT bitmask``, and polygons work with both formats.

    Args:
        mask: (H, W).

    Returns:
        A polygon [x1, y1, x2, y2, ...] in pixels for each piece; none for an empty mask.
    """
    polygons = []
    # Pieces that touch at a corner only are different ones, so that no polygon meets itself.
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    for label in range(1, count):
        piece = labels == label
        # Each pixel as 2 x 2: OpenCV's contours run through the centers of pixels, and these are
        # next to the edges of the large ones.
        doubled = piece.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
        contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        parents = hierarchy[0, :, 3]
        holes = np.flatnonzero(parents >= 0)
        if len(holes):
            rows = _to_edges(contours[holes[0]])[:, 1]
            cut = int(rows.min() + rows.max()) // 2
            upper, lower = piece.copy(), piece.copy()
            upper[cut:] = lower[:cut] = False
            polygons += mask_to_polygons(upper) + mask_to_polygons(lower)
        else:
            polygons.append(_corners(_to_edges(contours[0])).ravel().tolist())
    return polygons


def _to_edges(contour: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Points (P, 1, 2) in doubled pixels as points (P, 2) on the edges of pixels.

    Doubled pixel 2x is next to edge x, and 2x + 1 is next to edge x + 1.
    """
    return (contour[:, 0] + 1) // 2


def _corners(points: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Those of a closed line of points (P, 2) where it turns."""
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    return points[(np.sign(before) != np.sign(after)).any(axis=1)]
